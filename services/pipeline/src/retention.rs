//! How long media is kept: that of a session that was recorded as long as the log has
//! its segments, any other for some hours after the end, in which late viewers look at
//! its last minutes. Every pipeline sweeps; what one has deleted is gone for the others.

use std::time::Duration;

use anyhow::Context as _;
use castlog_log::{
    BroadcastId, Event, Kind, Log, SessionId,
    pb::{Registration, registration},
    session::{PastSession, RECORDINGS_KEPT},
};
use castlog_service::{Context, MediaStore};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{Error, ObjectStore as _, path::Path};

/// Between two sweeps.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Before the first, so that a start is not slower for it.
const DELAY: Duration = Duration::from_secs(60);

/// Sweeps until the shutdown.
pub async fn run(keep: TimeDelta, context: Context) -> anyhow::Result<()> {
    let mut wait = DELAY;
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = INTERVAL;
        let swept = tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            swept = sweep(&context.log, &context.media, keep, Utc::now()) => swept,
        };
        match swept {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(sessions, "media deleted that is not kept any longer"),
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "old media is deleted later"),
        }
    }
}

/// Deletes the media that is not kept any longer at `now`; answers of how many sessions.
/// What the log knows nothing of is left alone.
///
/// # Errors
/// The log or the store cannot be used; what was deleted by then is.
pub async fn sweep(log: &Log, store: &MediaStore, keep: TimeDelta, now: DateTime<Utc>) -> anyhow::Result<usize> {
    let mut deleted = 0;
    for (broadcast, folder) in folders::<BroadcastId>(store, None).await? {
        let sessions = folders::<SessionId>(store, Some(&folder)).await?;
        let gone = matches!(
            log.last(Kind::Registration, broadcast).await?.map(|entry| entry.event),
            Some(Event::Registration(Registration {
                event: Some(registration::Event::Deleted(_))
            }))
        );
        let past = log.past_sessions(broadcast).await?;
        for (session, folder) in sessions {
            let over = past.iter().find(|past| past.id == session);
            if over.is_some_and(|past| gone || kept_until(past, keep) < now) {
                delete(store, &folder).await?;
                tracing::debug!(broadcast_id = %broadcast, session_id = %session, "media deleted");
                deleted += 1;
            }
        }
    }
    Ok(deleted)
}

/// Until when the media of a session that is over is kept.
fn kept_until(past: &PastSession, keep: TimeDelta) -> DateTime<Utc> {
    past.ended_at + if past.recorded { RECORDINGS_KEPT.max(keep) } else { keep }
}

/// The folders whose names are ids; the store may hold other things.
async fn folders<Id: std::str::FromStr>(store: &MediaStore, within: Option<&Path>) -> anyhow::Result<Vec<(Id, Path)>> {
    let listed = store
        .list_with_delimiter(within)
        .await
        .context("cannot list the media")?;
    let of = |folder: Path| {
        let id = folder.filename()?.parse().ok()?;
        Some((id, folder))
    };
    Ok(listed.common_prefixes.into_iter().filter_map(of).collect())
}

async fn delete(store: &MediaStore, folder: &Path) -> anyhow::Result<()> {
    let found = store.list(Some(folder)).map_ok(|object| object.location).boxed();
    let mut deleted = store.delete_stream(found);
    while let Some(outcome) = deleted.next().await {
        match outcome {
            // Another pipeline was quicker.
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot delete the media in {folder}")),
        }
    }
    Ok(())
}
