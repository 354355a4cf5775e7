//! `castlog verify`: whether a view says what the log says.

use std::process::ExitCode;

use crate::{
    args::{Global, View, ViewChoice},
    config,
};

pub(crate) async fn verify(global: &Global, args: &View) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let log = config::connect(&config, "castlog verify").await?;
    let differences = match args.view {
        ViewChoice::LiveInfo => castlog_live_info::verify(&config.live_info, &log).await?,
        ViewChoice::Index => castlog_indexer::verify(&config.indexer, &log).await?,
    };
    for difference in &differences {
        println!("{difference}");
    }
    if differences.is_empty() {
        println!("the view is equal to the log");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} differences; `castlog rebuild` makes the view again",
        differences.len()
    );
    Ok(ExitCode::FAILURE)
}
