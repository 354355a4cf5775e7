//! Made-up ways of delivering a history: batches of one stream or the other, entries
//! that come again, and crashes at any moment.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use castlog_log::Entry;
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{
    Harness, drive,
    history::{Said, entries, sayings},
    same,
};

/// Longest history of [`explore`]: long enough for every kind to come several times.
/// Of a longer one, so much more comes with each delivery.
const HISTORY: usize = 30;
/// Most deliveries before the rest comes in one go.
const DELIVERIES: usize = 12;

/// How a delivery ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Applied and acknowledged.
    Acked,
    /// Applied; the process dies before it acknowledges.
    Unacked,
    /// The process dies while it applies, after so many microseconds.
    Cut(u16),
}

#[derive(Debug, Clone)]
struct Delivery {
    /// Which stream, of those of the history.
    stream: prop::sample::Index,
    /// How many entries.
    count: usize,
    /// Some of what was acknowledged before comes again first.
    again: Option<(prop::sample::Index, usize)>,
    end: End,
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let end = prop_oneof![
        3 => Just(End::Acked),
        1 => Just(End::Unacked),
        1 => (0..2000_u16).prop_map(End::Cut),
    ];
    let again = prop::option::of((any::<prop::sample::Index>(), 1..4_usize));
    let delivery = (any::<prop::sample::Index>(), 1..6_usize, again, end);
    let delivery = delivery.prop_map(|(stream, count, again, end)| Delivery {
        stream,
        count,
        again,
        end,
    });
    prop::collection::vec(delivery, 0..=DELIVERIES)
}

/// Tries `cases` made-up histories, each delivered in a made-up way, and compares the
/// view with a plain replay and with a rebuild. Needs a runtime of several threads.
///
/// # Errors
/// The view differs; the error shows the smallest history and deliveries found.
pub async fn explore<H: Harness>(harness: &mut H, cases: u32) -> anyhow::Result<()> {
    let made_up = (sayings(harness.kinds(), HISTORY), deliveries());
    run(harness, cases, &made_up, async |harness: &mut H, (said, deliveries)| {
        let said: &Vec<Said> = said;
        let history = harness.publish(entries(said)).await?;
        attempt(harness, &history, deliveries).await
    })
}

/// As [`explore`], over `histories`: entries in stream order per stream. For views of
/// which only some histories are possible.
///
/// # Errors
/// The view differs; the error shows the smallest history and deliveries found.
pub async fn explore_over<H: Harness>(
    harness: &mut H,
    histories: impl Strategy<Value = Vec<Entry>>,
    cases: u32,
) -> anyhow::Result<()> {
    let made_up = (histories, deliveries());
    run(
        harness,
        cases,
        &made_up,
        async |harness: &mut H, (history, deliveries)| {
            let history: &Vec<Entry> = history;
            let history = harness.publish(history.clone()).await?;
            attempt(harness, &history, deliveries).await
        },
    )
}

/// As [`explore`], with a history that is given: entries in stream order per stream.
///
/// # Errors
/// The view differs; the error shows the deliveries.
pub async fn explore_with<H: Harness>(harness: &mut H, history: &[Entry], cases: u32) -> anyhow::Result<()> {
    run(harness, cases, &deliveries(), async |harness: &mut H, deliveries| {
        attempt(harness, history, deliveries).await
    })
}

fn run<H: Harness, S: Strategy>(
    harness: &mut H,
    cases: u32,
    strategy: &S,
    attempt: impl AsyncFn(&mut H, &S::Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    /// A view with a real store behind it takes a second for each.
    const SHRINKS: u32 = 100;
    let config = Config {
        cases,
        max_shrink_iters: SHRINKS,
        failure_persistence: None,
        ..Config::default()
    };
    let runtime = tokio::runtime::Handle::current();
    let harness = RefCell::new(harness);
    tokio::task::block_in_place(|| {
        TestRunner::new(config).run(strategy, |value| {
            // The runner tries one at a time.
            let mut harness = harness.borrow_mut();
            let tried = runtime.block_on(attempt(&mut harness, &value));
            tried.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
    })
    .map_err(|error| anyhow::anyhow!("{error}"))
}

/// Delivers a history, then compares the view with a replay and a rebuild.
async fn attempt<H: Harness>(harness: &mut H, history: &[Entry], deliveries: &[Delivery]) -> anyhow::Result<()> {
    let mut streams = BTreeMap::<&str, Vec<Entry>>::new();
    for entry in history {
        streams.entry(&entry.position.stream).or_default().push(entry.clone());
    }
    let step = 1 + history.len() / HISTORY;
    // Per stream its entries, and how many of them are acknowledged.
    let mut streams: Vec<(Vec<Entry>, usize)> = streams.into_values().map(|entries| (entries, 0)).collect();

    harness.wipe().await?;
    for delivery in deliveries {
        let at = delivery.stream.index(streams.len());
        let (entries, acked) = &mut streams[at];
        let mut batch = Vec::new();
        if let (Some((from, count)), 1..) = (delivery.again, *acked) {
            let from = from.index(*acked);
            batch.extend_from_slice(&entries[from..(from + count).min(*acked)]);
        }
        let upto = (*acked + delivery.count * step).min(entries.len());
        batch.extend_from_slice(&entries[*acked..upto]);
        match delivery.end {
            End::Acked => {
                drive(harness, &batch).await?;
                *acked = upto;
            }
            End::Unacked => {
                drive(harness, &batch).await?;
                harness.crash().await?;
            }
            End::Cut(micros) => {
                let within = Duration::from_micros(micros.into());
                // Dropped where it stands. Done in time is what `Unacked` is, too.
                if let Ok(done) = tokio::time::timeout(within, drive(harness, &batch)).await {
                    done?;
                }
                harness.crash().await?;
            }
        }
    }
    for (entries, acked) in &streams {
        drive(harness, &entries[*acked..]).await?;
    }
    let found = harness.snapshot().await?;

    harness.wipe().await?;
    drive(harness, history).await?;
    same("a plain replay, other than what was delivered", harness, &found).await?;
    harness.rebuild(history).await?;
    same("a rebuild, other than what was delivered", harness, &found).await
}
