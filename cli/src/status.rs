//! `castlog status`: streams, durable consumers and dead letters at a glance.

use std::process::ExitCode;

use anyhow::Context as _;
use castlog_log::dead_letter;
use comfy_table::{CellAlignment, Table, presets};
use futures::TryStreamExt as _;

use crate::{args::Global, config};

pub(crate) async fn status(global: &Global) -> anyhow::Result<ExitCode> {
    let log = config::connect(&config::load(global)?, "castlog status").await?;
    let context = log.jetstream();
    let mut streams = table(&["STREAM", "ENTRIES", "BYTES", "FIRST", "LAST"]);
    let mut consumers = table(&[
        "CONSUMER",
        "STREAM",
        "PENDING",
        "ACK PENDING",
        "REDELIVERED",
        "LAST ACKED",
    ]);
    let mut dead = None;
    let mut infos: Vec<_> = context
        .streams()
        .try_collect()
        .await
        .context("cannot list the streams")?;
    infos.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    for info in infos {
        let (name, state) = (info.config.name, info.state);
        if name == dead_letter::STREAM {
            dead = Some(state.messages);
        }
        let stream = context
            .get_stream(&name)
            .await
            .with_context(|| format!("cannot read stream {name}"))?;
        streams.add_row([
            name.clone(),
            state.messages.to_string(),
            state.bytes.to_string(),
            state.first_sequence.to_string(),
            state.last_sequence.to_string(),
        ]);
        let mut infos: Vec<_> = stream
            .consumers()
            .try_collect()
            .await
            .with_context(|| format!("cannot list the consumers of {name}"))?;
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        // Readers without a durable name come and go with the processes that read.
        for info in infos.into_iter().filter(|info| info.config.durable_name.is_some()) {
            consumers.add_row([
                info.name,
                name.clone(),
                info.num_pending.to_string(),
                info.num_ack_pending.to_string(),
                info.num_redelivered.to_string(),
                info.ack_floor.stream_sequence.to_string(),
            ]);
        }
    }
    right_align(&mut streams, 1..5);
    right_align(&mut consumers, 2..6);
    println!("{streams}\n\n{consumers}\n");
    match dead {
        Some(dead) => println!("dead letters: {dead}"),
        None => println!(
            "dead letters: stream {} is not there; run `castlog apply`",
            dead_letter::STREAM
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn right_align(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
