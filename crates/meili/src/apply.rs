//! What every view in Meilisearch tells the runner of projections.

use std::time::Duration;

use anyhow::anyhow;
use castlog_log::Position;
use castlog_projector::ApplyError;
use castlog_service::Shutdown;

use crate::Error;

/// How long a batch may go on after the shutdown has begun; what is not done comes again.
const GRACE: Duration = Duration::from_secs(5);

/// Applies a batch unless the shutdown has begun; one that was begun before has
/// a short time to end.
///
/// # Errors
/// The shutdown came first, or that of the batch.
pub async fn within_grace(
    shutdown: &Shutdown,
    batch: impl Future<Output = Result<(), ApplyError>>,
) -> Result<(), ApplyError> {
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    if !shutdown.is_cancelled() {
        tokio::select! {
            outcome = batch => return outcome,
            () = too_late => {}
        }
    }
    Err(ApplyError::Transient(anyhow!("the shutdown came first")))
}

/// What a failed write says of the batch. `blamed` finds the entry that the
/// document with this id was made of.
#[must_use]
pub fn apply_error(error: Error, blamed: impl FnOnce(&str) -> Option<Position>) -> ApplyError {
    match error {
        Error::Refused { id, reason } => match blamed(&id) {
            Some(position) => ApplyError::Poison { position, reason },
            None => ApplyError::Transient(anyhow!("document {id} is refused: {reason}")),
        },
        Error::Config { .. } | Error::Client(_) => {
            tracing::error!(
                error = error.with_cause(),
                "Meilisearch refuses until its configuration or ours is changed"
            );
            ApplyError::Transient(error.into())
        }
        error => ApplyError::Transient(error.into()),
    }
}
