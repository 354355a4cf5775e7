//! `castlog verify`: whether the views say what the log says.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use castlog_log::{Log, provision};
use castlog_projector::{Differences, Progress};
use chrono::Utc;

use crate::{
    args::{Global, Verify, VerifyChoice},
    config::{self, Config},
    progress,
};

/// Between two looks at how far a view is.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) async fn verify(global: &Global, args: &Verify) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let log = config::connect(&config, "castlog verify").await?;
    let progress = progress::watched();
    let is_all = args.views.is_empty() || args.views.contains(&VerifyChoice::All);
    let views = if is_all {
        VerifyChoice::EACH.to_vec()
    } else {
        args.views.clone()
    };
    let within = Duration::from_secs(args.wait_s);
    let mut failed = Vec::new();
    for view in &views {
        // What is compared beside it anyway is not compared twice.
        let alone = !views.contains(&VerifyChoice::LiveInfo);
        let name = view.name();
        match compare(&config, &log, *view, alone, within, &progress).await {
            Ok(differences) if differences.is_empty() => println!("{name}: equal to the log"),
            Ok(differences) => {
                println!("{name}: {} differences", differences.len());
                print(&differences);
                failed.push(name);
            }
            // The others can be told about all the same.
            Err(error) if views.len() > 1 => {
                println!("{name}: cannot be compared: {error:#}");
                failed.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "not equal to the log: {}; `castlog rebuild` makes a view again",
        failed.join(", ")
    );
    Ok(ExitCode::FAILURE)
}

/// Prints differences, the first of them where there are many.
pub(crate) fn print(differences: &Differences) {
    for line in differences.lines() {
        println!("  {line}");
    }
    let shown = u64::try_from(differences.lines().len()).unwrap_or(u64::MAX);
    if differences.len() > shown {
        println!("  … and {} more", differences.len() - shown);
    }
}

async fn compare(
    config: &Config,
    log: &Log,
    view: VerifyChoice,
    alone: bool,
    within: Duration,
    progress: &Progress,
) -> anyhow::Result<Differences> {
    let mut differences = behind(config, log, view, within).await?;
    let found = match view {
        VerifyChoice::LiveInfo => castlog_live_info::verify(&config.live_info, log, progress).await?,
        VerifyChoice::Index => {
            let lines = castlog_indexer::verify(&config.indexer, log).await?;
            lines.into_iter().collect()
        }
        VerifyChoice::ChangeFeed => {
            // Equal to LiveInfo, which is equal to the log.
            if alone {
                differences.merge(castlog_live_info::verify(&config.live_info, log, progress).await?);
            }
            castlog_live_info::verify_feed(&config.live_info, log, progress).await?
        }
        VerifyChoice::Log => castlog_log_sink::verify(&config.log_sink, log, progress).await?,
        VerifyChoice::Archive => {
            let media = castlog_service::open_media_store(&config.media)?;
            let archive = &config.log_sink.archive;
            castlog_log_sink::verify_archive(archive, &media, log, progress)
                .await?
                .differences
        }
        VerifyChoice::All => Differences::default(),
    };
    differences.merge(found);
    Ok(differences)
}

/// Waits for a view to come to where the log is now; tells where it is not in time.
/// The archive is late by intent, and is compared as far as it is.
async fn behind(config: &Config, log: &Log, view: VerifyChoice, within: Duration) -> anyhow::Result<Differences> {
    let mut differences = Differences::default();
    let Some(consumer) = view.consumer() else {
        return Ok(differences);
    };
    let mut ends = Vec::new();
    for (stream, _) in provision::durables().into_iter().filter(|(_, name)| name == consumer) {
        let (_, end) = log.extent(&stream).await?;
        ends.push((stream, end));
    }
    let begun = Instant::now();
    for (stream, end) in ends {
        loop {
            let backlog = log.backlog(&stream, consumer).await?;
            // What a consumer does not filter leaves no trace in how far it is.
            if backlog.acked >= end || backlog.pending + backlog.unacked == 0 {
                break;
            }
            if begun.elapsed() > within {
                differences.add(format!("{stream}: {consumer} is at {} of {end}", backlog.acked));
                break;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
    if view == VerifyChoice::ChangeFeed {
        differences.merge(unrelayed(config, within).await?);
    }
    Ok(differences)
}

/// Waits until all is relayed that LiveInfo has committed by now.
async fn unrelayed(config: &Config, within: Duration) -> anyhow::Result<Differences> {
    let mut differences = Differences::default();
    let (begun, now) = (Instant::now(), Utc::now());
    loop {
        let outbox = castlog_live_info::outbox(&config.live_info).await?;
        if outbox.oldest.is_none_or(|oldest| oldest > now) {
            return Ok(differences);
        }
        if begun.elapsed() > within {
            differences.add(format!("{} changes wait to be relayed", outbox.waiting));
            return Ok(differences);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
