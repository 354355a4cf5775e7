//! `castlog rebuild`: a view made again from the log, while its readers go on.

use std::process::ExitCode;

use crate::{
    args::{Global, Rebuild, RebuildChoice},
    config, progress, verify,
};

pub(crate) async fn rebuild(global: &Global, args: &Rebuild) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let log = config::connect(&config, "castlog rebuild").await?;
    let progress = progress::watched();
    match args.view {
        RebuildChoice::LiveInfo => {
            let report = castlog_live_info::rebuild(&config.live_info, &log, &progress).await?;
            println!(
                "LiveInfo: {} broadcasts from {} entries, {} removed",
                report.broadcasts, report.entries, report.removed
            );
        }
        RebuildChoice::Index => {
            let report = castlog_indexer::rebuild(&config.indexer, &log, &progress).await?;
            println!("index: {} documents", report.documents);
        }
        RebuildChoice::Log => {
            let report = castlog_log_sink::rebuild(&config.log_sink, &log, &progress).await?;
            println!(
                "searchable log: {} entries, {} written, {} documents removed",
                report.entries, report.written, report.removed
            );
        }
        RebuildChoice::Archive => {
            let media = castlog_service::open_media_store(&config.media)?;
            let archive = &config.log_sink.archive;
            let report = castlog_log_sink::rebuild_archive(archive, &media, &log, &progress).await?;
            println!(
                "archive: {} entries, {} files written, {} removed",
                report.entries, report.written, report.removed
            );
            if !report.differences.is_empty() {
                verify::print(&report.differences);
                println!("the log has no more what would mend this");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
