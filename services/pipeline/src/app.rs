//! Start order: GStreamer and the spool first, for without them no job can be done;
//! then the job queue.

use castlog_service::{Context, Tasks};
use chrono::TimeDelta;

use crate::{config::Config, gst, jobs, retention, spool::Spool};

/// Runs the pipeline until the shutdown; jobs in work are brought to a clean
/// end and given back to the queue.
///
/// # Errors
/// GStreamer or one of its elements is missing, or the spool cannot be used.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    gst::init()?;
    let spool = Spool::open(
        &config.spool,
        config.max_jobs,
        context.media.clone(),
        context.health.clone(),
    )?;
    // The queue tells nothing while it is empty; to wait for work is to be ready.
    context.health.set("pipeline", true);
    let mut tasks = Tasks::new(&context.shutdown);
    let keep = TimeDelta::hours(config.keep_h.into());
    tasks.spawn("retention", retention::run(keep, context.clone()));
    let (uploads, shutdown) = (spool.clone(), context.shutdown.clone());
    tasks.spawn("spool", async move {
        uploads.run(&shutdown).await;
        Ok(())
    });
    tasks.spawn("jobs", jobs::run(config, spool, context));
    tasks.wait().await
}
