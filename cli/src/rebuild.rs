//! `castlog rebuild`: a view made again from the log.

use std::process::ExitCode;

use crate::{
    args::{Global, View, ViewChoice},
    config,
};

pub(crate) async fn rebuild(global: &Global, args: &View) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let log = config::connect(&config, "castlog rebuild").await?;
    match args.view {
        ViewChoice::LiveInfo => {
            let report = castlog_live_info::rebuild(&config.live_info, &log).await?;
            println!(
                "LiveInfo: {} broadcasts from {} entries, {} removed",
                report.broadcasts, report.entries, report.removed
            );
        }
        ViewChoice::Index => {
            let report = castlog_indexer::rebuild(&config.indexer, &log).await?;
            println!("index: {} documents", report.documents);
        }
    }
    Ok(ExitCode::SUCCESS)
}
