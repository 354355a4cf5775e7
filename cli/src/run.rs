//! `castlog run`: one or all services in this process.

use std::{io::Read as _, pin::Pin, process::ExitCode, time::Duration};

use castlog_log::Log;
use castlog_service::{Context, MediaAccess, Shutdown, Tasks};

use crate::{
    args::{Global, Run, ServiceChoice},
    config::{self, Config},
};

/// Set to 1 by a supervisor that holds the other end of standard input: when
/// that end closes, the supervisor is gone.
pub(crate) const SUPERVISED: &str = "CASTLOG_SUPERVISED";
/// How long an orphaned process may take to finish: nobody is left to kill it.
const ORPHAN_GRACE: Duration = Duration::from_secs(20);

/// How long entries may take to be stored once the services have ended.
const FLUSH: Duration = Duration::from_secs(3);

/// How long spans may take to be exported after that.
const EXPORT: Duration = Duration::from_secs(2);

/// A service of castlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Rtmp,
    Pipeline,
    Hls,
    LiveInfo,
    LiveApi,
    Indexer,
    LogSink,
}

impl Service {
    /// Every service, in the order of their admin ports under `castlog up`.
    pub(crate) const ALL: [Self; 7] = [
        Self::Rtmp,
        Self::Pipeline,
        Self::Hls,
        Self::LiveInfo,
        Self::LiveApi,
        Self::Indexer,
        Self::LogSink,
    ];

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Pipeline => "pipeline",
            Self::Hls => "hls",
            Self::LiveInfo => "live-info",
            Self::LiveApi => "live-api",
            Self::Indexer => "indexer",
            Self::LogSink => "log-sink",
        }
    }

    /// What it does with the media store; `None` when it leaves it alone.
    const fn media(self, config: &Config) -> Option<MediaAccess> {
        match self {
            Self::Pipeline => Some(MediaAccess::Write),
            Self::Hls => Some(MediaAccess::Read),
            Self::LogSink if config.log_sink.archive.enabled => Some(MediaAccess::Write),
            Self::Rtmp | Self::LiveInfo | Self::LiveApi | Self::Indexer | Self::LogSink => None,
        }
    }

    /// Whether it does its work while the media store is away.
    const fn outlasts_store(self) -> bool {
        !matches!(self, Self::LogSink)
    }

    fn run(self, config: Config, ctx: Context) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        match self {
            Self::Rtmp => Box::pin(castlog_rtmp::run(config.rtmp, ctx)),
            Self::Pipeline => Box::pin(castlog_pipeline::run(config.pipeline, ctx)),
            Self::Hls => Box::pin(castlog_hls::run(config.hls, ctx)),
            Self::LiveInfo => Box::pin(castlog_live_info::run(config.live_info, ctx)),
            Self::LiveApi => Box::pin(castlog_live_api::run(config.live_api, ctx)),
            Self::Indexer => Box::pin(castlog_indexer::run(config.indexer, ctx)),
            Self::LogSink => Box::pin(castlog_log_sink::run(config.log_sink, ctx)),
        }
    }
}

fn chosen(choices: &[ServiceChoice]) -> Vec<Service> {
    let is_chosen = |service: &Service| {
        choices.iter().any(|choice| match choice {
            ServiceChoice::All => true,
            ServiceChoice::Rtmp => *service == Service::Rtmp,
            ServiceChoice::Pipeline => *service == Service::Pipeline,
            ServiceChoice::Hls => *service == Service::Hls,
            ServiceChoice::LiveInfo => *service == Service::LiveInfo,
            ServiceChoice::LiveApi => *service == Service::LiveApi,
            ServiceChoice::Indexer => *service == Service::Indexer,
            ServiceChoice::LogSink => *service == Service::LogSink,
        })
    };
    Service::ALL.into_iter().filter(is_chosen).collect()
}

/// The most that any of the services does with the media store.
pub(crate) fn media_access(services: &[Service], config: &Config) -> Option<MediaAccess> {
    services.iter().filter_map(|service| service.media(config)).max()
}

pub(crate) async fn run(global: &Global, args: &Run) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let services = chosen(&args.services);
    let name = match services[..] {
        [one] => one.name(),
        _ => "castlog",
    };
    let telemetry = castlog_service::init_traced(&config.telemetry, name)?;
    let ended = serve(&config, services).await;
    telemetry.finish(EXPORT).await;
    ended
}

/// Runs services until the shutdown.
async fn serve(config: &Config, services: Vec<Service>) -> anyhow::Result<ExitCode> {
    let shutdown = castlog_service::on_signals()?;
    if std::env::var_os(SUPERVISED).is_some_and(|value| value == "1") {
        end_with_supervisor(shutdown.clone());
    }
    // A connection each, for each is a user of its own with its own permissions.
    let connections = services.iter().map(async |service| {
        let name = format!("castlog {}", service.name());
        castlog_service::connect_log(&config.nats_of(*service), &name, &shutdown).await
    });
    let logs = futures::future::try_join_all(connections).await?;
    let Some(logs) = logs.into_iter().collect::<Option<Vec<_>>>() else {
        return Ok(ExitCode::SUCCESS);
    };
    let Some(first) = logs.first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let (media, away) = match media_access(&services, config) {
        None => (castlog_service::no_media_store(), false),
        Some(access) => {
            let store = castlog_service::open_media_store(&config.media)?;
            let answers = castlog_service::media_store_answers(&config.media, &store, access).await?;
            (store, !answers)
        }
    };
    let ctx = Context::start(first.clone(), media, shutdown.clone(), &config.admin).await?;
    let mut tasks = Tasks::new(&shutdown);
    for (service, log) in services.into_iter().zip(&logs) {
        let ctx = Context {
            log: log.clone(),
            ..ctx.clone()
        };
        let access = service.media(config).filter(|_| away);
        let run = service.run(config.clone(), ctx.clone());
        let media = config.media.clone();
        tasks.spawn(service.name(), async move {
            let Some(access) = access else {
                return run.await;
            };
            // Once the server answers, it may refuse: that ends the service, as it does at a start.
            let waits = castlog_service::media_store_ready(&media, &ctx.media, access, &ctx.shutdown);
            if service.outlasts_store() {
                let waits = async { Ok(waits.await.map(drop)?) };
                return tokio::try_join!(waits, run).map(drop);
            }
            if waits.await? { run.await } else { Ok(()) }
        });
    }
    tasks.wait().await?;
    // Also what nobody waited for, such as the entry of a request that was cut off.
    let flush = futures::future::join_all(logs.iter().map(Log::flush));
    if tokio::time::timeout(FLUSH, flush).await.is_err() {
        tracing::warn!("entries on their way to the log may not be stored");
    }
    Ok(ExitCode::SUCCESS)
}

/// A thread and not a task: a runtime waits at its end for a read that blocks.
fn end_with_supervisor(shutdown: Shutdown) {
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        if !shutdown.is_cancelled() {
            tracing::warn!("supervisor is gone, shutting down");
            shutdown.begin();
        }
        std::thread::sleep(ORPHAN_GRACE);
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_runs_once_in_its_order() {
        assert_eq!(chosen(&[ServiceChoice::All, ServiceChoice::Hls]), Service::ALL);
        assert_eq!(
            chosen(&[ServiceChoice::Hls, ServiceChoice::Rtmp]),
            [Service::Rtmp, Service::Hls]
        );
    }
}
