//! Active and standby: of all instances of a service, the one that holds the lease
//! works, and the others take over when it ends.

use castlog_log::{
    Log,
    lease::{Lease, LeaseEnded, Role, Term},
};
use castlog_metrics::{View, metrics};
use castlog_service::{Health, Shutdown};

/// Runs `work` while this instance holds the lease `name`, until the shutdown, and
/// stands by while it does not; ready in both cases, which its health tells apart.
///
/// The work ends by itself with the shutdown; only then the lease is freed, so that
/// another instance begins at once. When the lease is lost, the work is dropped where
/// it stands. It is to ask its [`Term`] before each write: it may have stood still,
/// and another may work by then. That other one has to reckon with writes that were
/// sent before.
///
/// # Errors
/// The work failed.
pub async fn exclusively<F>(
    log: &Log,
    name: &'static str,
    shutdown: &Shutdown,
    health: &Health,
    mut work: impl FnMut(Term) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let active = metrics().active.get_or_create_owned(&View { consumer: name });
    let mut lease = log.lease(name);
    let outcome = loop {
        active.set(0);
        let term = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            term = turn(&mut lease, name, health) => match term {
                Ok(term) => term,
                Err(ended) => break Err(ended.into()),
            },
        };
        active.set(1);
        tracing::info!(consumer = name, "this instance works");
        health.set(name, false);
        tokio::select! {
            outcome = work(term.clone()) => break outcome,
            () = term.over() => {}
        }
        tracing::warn!(consumer = name, "lease is lost: this instance stands by");
    };
    active.set(0);
    lease.release().await;
    outcome
}

/// Waits for the lease.
async fn turn(lease: &mut Lease, name: &str, health: &Health) -> Result<Term, LeaseEnded> {
    loop {
        match lease.role() {
            Role::Holder(term) => return Ok(term),
            Role::Standby => health.stand_by(name),
            Role::Unknown => health.set(name, false),
        }
        lease.changed().await?;
    }
}
