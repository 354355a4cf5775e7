//! What the log says of every broadcast that is on the air: the newest entry of
//! each subject that can be read, in one go.

use std::collections::BTreeMap;

use castlog_log::{BroadcastId, Event, Followed, From, Kind, Log, Subject};

use castlog_projector::Progress;

use crate::{document::Facts, error::Fault};

/// Reads the log. Broadcasts that are off the air are left out, of which there
/// are many more.
pub(crate) async fn live(log: &Log, progress: &Progress) -> Result<BTreeMap<BroadcastId, Facts>, Fault> {
    let mut found = BTreeMap::new();
    let kinds = [Kind::Status, Kind::Metadata];
    read(log, &kinds, &mut found, Scope::Everyone, progress).await?;
    found.retain(|_, facts| facts.session().is_some());
    if !found.is_empty() {
        let kinds = [Kind::Registration, Kind::Title, Kind::Tags, Kind::Options];
        read(log, &kinds, &mut found, Scope::Known, progress).await?;
    }
    Ok(found)
}

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Everyone,
    /// Broadcasts that have facts already.
    Known,
}

/// Reads the newest entries of some kinds, all of one stream.
async fn read(
    log: &Log,
    kinds: &[Kind],
    found: &mut BTreeMap<BroadcastId, Facts>,
    scope: Scope,
    progress: &Progress,
) -> Result<(), Fault> {
    let Some(stream) = kinds.first().map(|kind| kind.stream()) else {
        return Ok(());
    };
    let filters: Vec<String> = kinds.iter().map(|kind| kind.filter()).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let mut follow = log.follow(stream, &filters, From::LastPerSubject);
    let mut unreadable = Vec::new();
    let mut done = 0;
    loop {
        let (subject, sequence, event) = match follow.next().await? {
            Followed::Entry(entry) => (Some(entry.subject), entry.sequence(), Some(entry.event)),
            Followed::Undecodable(message) => (message.subject.parse().ok(), message.position.sequence, None),
            Followed::CaughtUp => break,
        };
        let readable = event.as_ref().is_some_and(|event| event.name().is_some());
        if let Some(subject) = subject
            && learn(found, scope, subject, sequence, event)
            && !readable
        {
            unreadable.push(subject);
        }
        done += 1;
        progress.tell("reading the log", done, done + follow.pending());
    }
    // The last entry of these says nothing, and what was said before stands.
    for entry in log.newest(&unreadable).await?.into_iter().flatten() {
        learn(found, scope, entry.subject, entry.sequence(), Some(entry.event));
    }
    Ok(())
}

/// Whether the broadcast is one that is looked for.
fn learn(
    found: &mut BTreeMap<BroadcastId, Facts>,
    scope: Scope,
    subject: Subject,
    sequence: u64,
    event: Option<Event>,
) -> bool {
    let Some(id) = subject.broadcast else { return false };
    let wanted = scope == Scope::Everyone || found.contains_key(&id);
    if wanted {
        found.entry(id).or_default().learn(subject.kind, sequence, event);
    }
    wanted
}
