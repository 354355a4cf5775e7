//! The orderly end of a process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells every task that it is time to finish. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the shutdown.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Waits until the shutdown begins. Cancel-safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A shutdown that begins with this one, or on its own before.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}

/// A shutdown that begins with the first SIGTERM or SIGINT; a second one ends
/// the process at once.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn on_signals() -> std::io::Result<Shutdown> {
    let shutdown = Shutdown::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let begun = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if begun.is_cancelled() {
                tracing::warn!("second signal: leaving without finishing");
                std::process::exit(130);
            }
            tracing::info!("shutting down");
            begun.begin();
        }
    });
    Ok(shutdown)
}
