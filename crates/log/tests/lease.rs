//! Leases against a real nats-server.

use std::time::Duration;

use castlog_log::{
    Log,
    lease::{self, Lease, Role, Term},
};
use castlog_testkit::{NatsOptions, NatsServer, TestLog, until};

/// Longer than a lease lasts, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = lease::NAMES[0];

async fn start() -> anyhow::Result<TestLog> {
    TestLog::start(NatsOptions::default().lazy_sync()).await
}

/// A contender as the service whose lease it is.
async fn contend(nats: &NatsServer) -> anyhow::Result<Lease> {
    Ok(nats.log_of(NAME).await?.lease(NAME))
}

async fn reaches<T>(what: &str, lease: &mut Lease, wanted: impl Fn(Role) -> Option<T>) -> anyhow::Result<T> {
    let reached = async {
        loop {
            if let Some(reached) = wanted(lease.role()) {
                return anyhow::Ok(reached);
            }
            lease.changed().await?;
        }
    };
    match tokio::time::timeout(PATIENCE, reached).await {
        Ok(reached) => reached,
        Err(_) => anyhow::bail!("{what} did not happen within {PATIENCE:?}"),
    }
}

async fn held(lease: &mut Lease) -> anyhow::Result<Term> {
    let term = |role| match role {
        Role::Holder(term) => Some(term),
        _ => None,
    };
    reaches("the lease is held", lease, term).await
}

async fn stands_by(lease: &mut Lease) -> anyhow::Result<()> {
    reaches("another's lease is seen", lease, |role| {
        matches!(role, Role::Standby).then_some(())
    })
    .await
}

async fn over(term: &Term) -> anyhow::Result<()> {
    Ok(tokio::time::timeout(PATIENCE, term.over()).await?)
}

async fn holder(log: &Log) -> anyhow::Result<Option<String>> {
    let standing = log.lease_standing(NAME).await?;
    Ok(standing.and_then(|standing| standing.holder).map(|holder| holder.id))
}

#[tokio::test]
async fn one_holds_it_and_a_release_lets_the_next_in() -> anyhow::Result<()> {
    let test = start().await?;
    assert!(test.log.lease_standing(NAME).await?.is_none());
    let mut first = contend(&test.nats).await?;
    let term = held(&mut first).await?;
    let mut second = contend(&test.nats).await?;
    stands_by(&mut second).await?;
    assert!(term.holds());
    let standing = test.log.lease_standing(NAME).await?;
    let one = standing.as_ref().and_then(|standing| standing.holder.clone());
    assert_eq!(one.as_ref().map(|holder| holder.process), Some(std::process::id()));
    assert_eq!(one.as_ref().map(|holder| holder.address.as_str()), Some("127.0.0.1"));

    first.release().await;
    assert!(!term.holds(), "it is over before the next one is let in");
    over(&term).await?;
    let next = held(&mut second).await?;
    assert!(next.holds() && !term.holds());
    assert_ne!(holder(&test.log).await?, one.map(|holder| holder.id));
    second.release().await;
    let freed = test.log.lease_standing(NAME).await?;
    assert!(freed.is_some_and(|standing| standing.holder.is_none()));
    Ok(())
}

#[tokio::test]
async fn what_a_dead_holder_leaves_runs_out_and_what_a_living_one_has_does_not() -> anyhow::Result<()> {
    let test = start().await?;
    let mut first = contend(&test.nats).await?;
    let term = held(&mut first).await?;
    let mut second = contend(&test.nats).await?;
    stands_by(&mut second).await?;
    // It is renewed for longer than it lasts.
    let before = holder(&test.log).await?;
    let begun = std::time::Instant::now();
    until("renewals", PATIENCE, || async {
        (begun.elapsed() > lease::DURATION + Duration::from_secs(2)).then_some(())
    })
    .await?;
    assert!(term.holds());
    assert!(matches!(second.role(), Role::Standby));
    assert_eq!(holder(&test.log).await?, before);

    drop(first);
    let next = held(&mut second).await?;
    assert!(next.holds() && !term.holds(), "two hold it");
    Ok(())
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_before_another_may_begin() -> anyhow::Result<()> {
    let mut test = start().await?;
    let mut first = contend(&test.nats).await?;
    let term = held(&mut first).await?;
    let mut second = contend(&test.nats).await?;
    stands_by(&mut second).await?;
    // It keeps its connections and answers nothing.
    test.nats.process().pause()?;
    over(&term).await?;
    assert!(!term.holds());
    reaches("nothing is known", &mut second, |role| {
        matches!(role, Role::Unknown).then_some(())
    })
    .await?;
    test.nats.process().resume()?;
    let again = async {
        loop {
            for lease in [&mut first, &mut second] {
                if let Role::Holder(term) = lease.role() {
                    return term;
                }
            }
            tokio::select! {
                _ = first.changed() => {}
                _ = second.changed() => {}
            }
        }
    };
    let next = tokio::time::timeout(PATIENCE, again).await?;
    assert!(next.holds() && !term.holds(), "a term that is over does not come back");

    // The record outlives the server that holds it.
    let before = holder(&test.log).await?;
    test.nats.kill9();
    test.nats.restart().await?;
    until("the record is there again", PATIENCE, || async {
        holder(&test.log)
            .await
            .ok()
            .flatten()
            .filter(|now| before.as_ref() == Some(now))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_holder_that_stood_still_knows_that_its_time_is_over() -> anyhow::Result<()> {
    let test = start().await?;
    let config = test.nats.user(NAME)?;
    let (taken, term) = std::sync::mpsc::channel();
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    // A runtime of its own, which stands still as a whole while its thread waits.
    let still = std::thread::spawn(move || -> anyhow::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut lease = Log::connect(&config, NAME).await?.lease(NAME);
            let own = held(&mut lease).await?;
            taken.send(own.clone())?;
            woken.recv()?;
            // The first thing that it does; nothing has told it.
            Ok(own.holds())
        })
    });
    let term = tokio::task::spawn_blocking(move || term.recv()).await??;
    assert!(term.holds());
    let mut second = contend(&test.nats).await?;
    stands_by(&mut second).await?;
    let next = held(&mut second).await?;
    assert!(next.holds() && !term.holds(), "two hold it");
    wake.send(())?;
    let acts = tokio::task::spawn_blocking(move || still.join().unwrap()).await??;
    assert!(!acts, "it would write after its time");
    Ok(())
}

#[tokio::test]
async fn without_its_stream_nobody_holds_it_until_it_is_there() -> anyhow::Result<()> {
    let test = start().await?;
    test.log.jetstream().delete_stream(lease::STREAM).await?;
    let mut first = contend(&test.nats).await?;
    let early = tokio::time::timeout(Duration::from_secs(2), held(&mut first)).await;
    assert!(early.is_err());
    assert!(matches!(first.role(), Role::Unknown));
    castlog_log::provision::apply(&test.log, castlog_log::provision::Plan::default()).await?;
    held(&mut first).await?;
    Ok(())
}
