//! `castlog up`: the whole platform on one machine, out of one data folder.
//!
//! It makes credentials, starts nats-server, Redis and Meilisearch, applies the
//! stream definitions, and runs every service in a process of its own. What dies
//! is started again. At the end the services stop first and the log last, so
//! that each can still write what it has in flight.

mod credentials;
mod folder;
mod ports;
mod process;
mod reap;
mod servers;
mod settings;
mod show;

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use castlog_log::{
    Log,
    provision::{self, Change, Plan, ProvisionError},
};
use castlog_service::Shutdown;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use folder::CONFIG_FILE;
pub(crate) use reap::reap;
pub(crate) use settings::{Config, quiet_telemetry};

use crate::{
    args::{Down, Global},
    config,
    run::{SUPERVISED, Service, media_access},
};
use credentials::Credentials;
use folder::Folder;
use process::{Program, Supervised};

/// How long a server may take to start: Meilisearch and Redis read their data first.
const SERVER_START: Duration = Duration::from_secs(60);
/// How long a service may take to become ready.
const SERVICE_START: Duration = Duration::from_secs(60);

pub(crate) async fn up(global: &Global) -> anyhow::Result<ExitCode> {
    let config = config::load_for_up(global)?;
    quiet_telemetry(&config)?;
    let programs = servers::Binaries::find()?;
    let folder = Folder::claim(&global.data)?;
    folder.check_space()?;
    process::end_stale(process::stale(&folder.run())?).await?;
    ports::check(&config)?;
    let shutdown = castlog_service::on_signals()?;
    end_with_terminal(shutdown.clone())?;
    let reaper = reap::Reaper::start(&folder)?;

    let mut platform = Platform::default();
    let brought_up = tokio::select! {
        outcome = platform.bring_up(config, &folder, &programs) => outcome,
        () = shutdown.cancelled() => Ok(()),
    };
    let told = if brought_up.is_ok() && !shutdown.is_cancelled() {
        platform.keep(&shutdown).await;
        Ok(())
    } else {
        brought_up
    };
    say("stopping …");
    platform.stop().await;
    drop(reaper);
    told?;
    say("stopped; the data is kept");
    Ok(ExitCode::SUCCESS)
}

/// A terminal that is closed means the same as Ctrl-C.
fn end_with_terminal(shutdown: Shutdown) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        if hangup.recv().await.is_some() {
            shutdown.begin();
        }
    });
    Ok(())
}

pub(crate) async fn down(global: &Global, args: &Down) -> anyhow::Result<ExitCode> {
    folder::down(&global.data, args.wipe).await
}

/// What runs, in the order of its start.
#[derive(Default)]
struct Platform {
    nats: Vec<Supervised>,
    redis: Option<Supervised>,
    meilisearch: Option<Supervised>,
    services: Vec<Supervised>,
    log: Option<Log>,
    plan: Plan,
}

impl Platform {
    async fn bring_up(
        &mut self,
        config: config::Config,
        folder: &Folder,
        programs: &servers::Binaries,
    ) -> anyhow::Result<()> {
        let credentials = Credentials::load_or_make(folder)?;
        let mut config = settings::local(config, folder, &credentials);

        if !config.media.url.is_empty() {
            let began = Instant::now();
            media_store_ready(&config).await?;
            step(&config.media.url, began);
        }

        let began = Instant::now();
        for program in servers::nats(programs, folder, &config, &credentials)? {
            self.nats.push(Supervised::start(program)?);
        }
        let first = self.nats.first().context("there is no nats-server")?;
        let nats_config = config.nats.clone();
        let log = process::ready(first, SERVER_START, || async {
            Log::connect(&nats_config, "castlog up").await.ok()
        });
        let log = log.await?;
        step("nats-server", began);

        let began = Instant::now();
        let program = servers::redis(programs, folder, &config, &credentials)?;
        let redis = self.redis.insert(Supervised::start(program)?);
        process::ready(redis, SERVER_START, || servers::redis_answers(&config)).await?;
        step("redis-server", began);

        let began = Instant::now();
        let program = servers::meilisearch(programs, folder, &config, &credentials)?;
        let meilisearch = self.meilisearch.insert(Supervised::start(program)?);
        let admin = servers::MeilisearchAdmin::new(&config, &credentials)?;
        process::ready(meilisearch, SERVER_START, || admin.answers()).await?;
        let keys = admin.keys(&config, &credentials).await?;
        settings::add_keys(&mut config, keys);
        step("meilisearch", began);

        let began = Instant::now();
        self.plan.replicas = config.jetstream.replicas;
        let changes = apply_first(&log, self.plan)
            .await
            .context("cannot apply the stream definitions")?;
        self.log = Some(log);
        step(&format!("streams and consumers ({} changed)", changes.len()), began);

        settings::write(&config, folder, &credentials)?;
        let began = Instant::now();
        for service in Service::ALL {
            self.services
                .push(Supervised::start(service_program(service, &config, folder)?)?);
        }
        for (service, running) in Service::ALL.into_iter().zip(&self.services) {
            let url = format!("http://127.0.0.1:{}/readyz", config.up.admin_port_of(service));
            process::ready(running, SERVICE_START, || servers::http_ok(url.clone())).await?;
            step(service.name(), began);
        }
        say(&show::summary(&config, folder));
        Ok(())
    }

    /// Until the shutdown: a nats-server that was started again has lost the
    /// streams it held in memory, so the definitions are applied again.
    async fn keep(&self, shutdown: &Shutdown) {
        let Some(log) = &self.log else { return };
        let mut starts: Vec<_> = self.nats.iter().map(Supervised::starts).collect();
        if starts.is_empty() {
            return;
        }
        loop {
            let started = futures::future::select_all(starts.iter_mut().map(|one| Box::pin(one.changed())));
            tokio::select! {
                () = shutdown.cancelled() => return,
                (Ok(()), ..) = started => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = apply_again(log, self.plan) => {}
            }
        }
    }

    /// Services first, for they write to the servers to the last.
    async fn stop(self) {
        futures::future::join_all(self.services.into_iter().map(Supervised::stop)).await;
        drop(self.log);
        for server in [self.meilisearch, self.redis].into_iter().flatten() {
            server.stop().await;
        }
        futures::future::join_all(self.nats.into_iter().map(Supervised::stop)).await;
    }
}

/// Before anything starts: what is wrong with a bucket would else be told by each
/// service, in its log.
async fn media_store_ready(config: &config::Config) -> anyhow::Result<()> {
    let store = castlog_service::open_media_store(&config.media)?;
    if let Some(access) = media_access(&Service::ALL, config) {
        // The shutdown ends the wait from outside.
        castlog_service::media_store_ready(&config.media, &store, access, &Shutdown::new()).await?;
    }
    Ok(())
}

/// Applies the definitions once the servers of a cluster have found each other:
/// before, they refuse.
async fn apply_first(log: &Log, plan: Plan) -> Result<Vec<Change>, ProvisionError> {
    const DELAY: Duration = Duration::from_millis(250);
    let began = Instant::now();
    loop {
        match provision::apply(log, plan).await {
            Err(ProvisionError::Unavailable { .. } | ProvisionError::Refused { .. })
                if plan.replicas > 1 && began.elapsed() < SERVER_START =>
            {
                tokio::time::sleep(DELAY).await;
            }
            outcome => return outcome,
        }
    }
}

async fn apply_again(log: &Log, plan: Plan) {
    const DELAY: Duration = Duration::from_millis(500);
    loop {
        match provision::apply(log, plan).await {
            Ok(changes) => {
                tracing::warn!(changed = changes.len(), "stream definitions applied again");
                return;
            }
            // The servers of a cluster refuse while they elect.
            Err(error)
                if matches!(error, ProvisionError::Unavailable { .. })
                    || (plan.replicas > 1 && matches!(error, ProvisionError::Refused { .. })) =>
            {
                tracing::debug!(error = %error, "stream definitions wait for nats-server");
                tokio::time::sleep(DELAY).await;
            }
            Err(error) => {
                tracing::error!(error = %error, "stream definitions cannot be applied");
                return;
            }
        }
    }
}

fn service_program(service: Service, config: &config::Config, folder: &Folder) -> anyhow::Result<Program> {
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    let mut program = Program::new(service.name(), own, folder)
        .args(["--config"])
        .args([folder.config_file()])
        .args([
            "--set".to_owned(),
            format!("admin.listen=127.0.0.1:{}", config.up.admin_port_of(service)),
        ])
        .args(["run", service.name()])
        .env(SUPERVISED, "1");
    // The file holds what these variables say; one that names another NATS must not win over it.
    for (key, _) in std::env::vars_os() {
        if key
            .to_str()
            .is_some_and(|key| key.starts_with("CASTLOG_") && key.contains("__"))
        {
            program = program.env_remove(key);
        }
    }
    Ok(program)
}

fn step(what: &str, began: Instant) {
    say(&format!("  ready  {what:<36} {:>5.1} s", began.elapsed().as_secs_f32()));
}

/// Prints; a terminal that is gone is no reason to stop the platform.
fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).ok();
}
