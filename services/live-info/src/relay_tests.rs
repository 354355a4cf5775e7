//! The relay, cut off between any two of its steps.

use std::collections::BTreeMap;

use castlog_log::change::Change;
use castlog_testkit::{NatsOptions, RedisServer, TestLog, changes, cut_off, events::title};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::*;
use crate::state::{Live, Write};

fn write(broadcast: BroadcastId, kind: Kind, sequence: u64) -> Write {
    let event = title(&format!("title {sequence}"));
    Write {
        broadcast,
        kind,
        sequence,
        json: event.to_json().to_string(),
        time: "2026-01-31T12:00:00.000001Z".to_owned(),
        live: Live::Unsaid,
        payload: if kind == Kind::Title {
            event.encode().to_vec()
        } else {
            Vec::new()
        },
        traceparent: None,
    }
}

/// Commits by broadcast, in order.
type Order = BTreeMap<BroadcastId, Vec<(String, u64)>>;

fn order(changes: &[Change]) -> Order {
    let mut order = Order::new();
    for change in changes {
        let message = &change.message;
        assert_eq!(change.id, format!("{}-{}", message.stream, message.sequence));
        let of = order.entry(change.broadcast).or_default();
        of.push((message.kind.clone(), message.sequence));
    }
    order
}

#[tokio::test]
async fn each_commit_is_relayed_once_and_in_order_however_often_relays_are_cut_off() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    // The duplicate window of the server must not be what this stands on.
    log.change_stream("LIVE_INFO_CHANGED", &json!({ "duplicate_window": 100_000_000 }))
        .await?;
    let redis = RedisServer::start().await?;
    let config = RedisConfig::new(redis.url());
    let store = Store::new(&config)?;
    let mut random = StdRng::seed_from_u64(3);
    let broadcasts: Vec<BroadcastId> = std::iter::repeat_with(BroadcastId::generate).take(5).collect();
    let kinds = [Kind::Title, Kind::Tags, Kind::Status, Kind::Metadata];
    let mut newest = BTreeMap::new();
    let mut wanted = Order::new();
    let mut relays = [Relay::new(&config, &log.log)?, Relay::new(&config, &log.log)?];
    let (mut cut, mut whole) = (0, 0);
    // Which entry stands where in the log.
    let log_has: Vec<(BroadcastId, Kind)> = (0..700)
        .map(|_| (broadcasts[random.random_range(0..5)], kinds[random.random_range(0..4)]))
        .collect();
    let mut next = 10;
    while next < log_has.len() {
        next += random.random_range(1..4);
        let writes: Vec<Write> = (0..random.random_range(1..6))
            .map(|_| {
                // Some are redelivered, or come late.
                let at = (next - random.random_range(0..8)).min(log_has.len() - 1);
                write(log_has[at].0, log_has[at].1, at as u64)
            })
            .collect();
        for write in &writes {
            let newest = newest.entry((write.broadcast, write.kind)).or_insert(0);
            if write.sequence > *newest {
                *newest = write.sequence;
                let of = wanted.entry(write.broadcast).or_default();
                of.push((write.kind.to_string(), write.sequence));
            }
        }
        store.apply(&writes).await?;
        let at = random.random_range(0..2);
        if random.random_range(0..3) == 0 {
            relays[at] = Relay::new(&config, &log.log)?;
        }
        let polls = random.random_range(0..14);
        match cut_off(relays[at].round(), polls).await {
            None => {
                cut += 1;
                // A process that is killed takes what it remembers along.
                relays[at] = Relay::new(&config, &log.log)?;
            }
            // Another's attempt may still be on its way.
            Some(_) => whole += 1,
        }
        if random.random_range(0..40) == 0 {
            let (a, b) = relays.split_at_mut(1);
            // One may come first and make the other fail.
            let (a, b) = tokio::join!(a[0].round(), b[0].round());
            whole += usize::from(a.is_ok()) + usize::from(b.is_ok());
        }
    }
    assert!(cut > 50 && whole > 50, "cut off {cut} times, whole {whole} times");
    Relay::new(&config, &log.log)?.drain().await?;
    assert_eq!(store.waiting().await?, 0);
    let changes = changes(&log.log).await?;
    assert_eq!(order(&changes), wanted);
    // Folding the feed, which is taking the last of each broadcast, is the view.
    let last: BTreeMap<BroadcastId, &Change> = changes.iter().map(|change| (change.broadcast, change)).collect();
    for (id, sequences) in store.sequences(&broadcasts).await? {
        let versions = &last[&id].message.state.as_ref().unwrap().versions;
        let folded: BTreeMap<String, u64> = versions.iter().map(|(kind, v)| (kind.clone(), v.sequence)).collect();
        let stored: BTreeMap<String, u64> = sequences.iter().map(|(kind, s)| (kind.to_string(), *s)).collect();
        assert_eq!(folded, stored);
        let titles = last[&id].state();
        let title = titles
            .get(&Kind::Title)
            .map(|(event, sequence, _)| (event.to_json(), *sequence));
        let wanted = newest
            .get(&(id, Kind::Title))
            .map(|s| (json!({ "changed": { "title": format!("title {s}") } }), *s));
        assert_eq!(title, wanted);
    }
    // The same again changes nothing: neither from Redis nor from an empty one.
    assert_eq!(reconcile(&config, &log.log).await?, 0);
    let again: Vec<Write> = newest.iter().map(|((id, kind), s)| write(*id, *kind, *s)).collect();
    let empty = RedisServer::start().await?;
    let config = RedisConfig::new(empty.url());
    Store::new(&config)?.apply(&again).await?;
    Relay::new(&config, &log.log)?.drain().await?;
    assert_eq!(self::changes(&log.log).await?.len(), changes.len());
    Ok(())
}
