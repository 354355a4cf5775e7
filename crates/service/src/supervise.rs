//! Tasks by name: a task that ends or fails before the shutdown ends the service.

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::Shutdown;

/// The tasks of a service.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    shutdown: Shutdown,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new(shutdown: &Shutdown) -> Self {
        Self {
            set: JoinSet::new(),
            shutdown: shutdown.clone(),
        }
    }

    /// Starts a task. It has to watch the shutdown itself.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.set.spawn(async move { (name, task.await) });
    }

    /// Waits for every task. When one fails, or ends before the shutdown has
    /// begun, the others are told to finish too.
    ///
    /// # Errors
    /// The first failure, with the name of its task.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(joined) = self.set.join_next().await {
            let ended = match joined {
                Ok((name, Ok(()))) if self.shutdown.is_cancelled() => {
                    tracing::debug!(task = name, "task finished");
                    continue;
                }
                Ok((name, Ok(()))) => anyhow!("task {name} ended early"),
                Ok((name, Err(error))) => error.context(format!("task {name} failed")),
                Err(error) => anyhow!("a task panicked: {error}"),
            };
            self.shutdown.begin();
            if outcome.is_ok() {
                outcome = Err(ended);
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_ends_the_others() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(&shutdown);
        let waits = shutdown.clone();
        tasks.spawn("patient", async move {
            waits.cancelled().await;
            Ok(())
        });
        tasks.spawn("broken", async { Err(anyhow!("no luck")) });
        let error = tasks.wait().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "task broken failed: no luck");
    }

    #[tokio::test]
    async fn all_finish_with_the_shutdown() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(&shutdown);
        let waits = shutdown.clone();
        tasks.spawn("patient", async move {
            waits.cancelled().await;
            Ok(())
        });
        shutdown.begin();
        tasks.wait().await.unwrap();
    }
}
