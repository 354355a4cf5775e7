//! `castlog tail`: the log's entries, one JSON object a line.

use std::{io::Write as _, process::ExitCode};

use anyhow::bail;
use castlog_log::{
    Entry, Follow, Followed, From, Kind, Readable,
    change::{self, Change},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    args::{Global, Tail},
    config,
};

/// Lines that wait for a slow terminal, per tail; readers of the log wait beyond that.
const QUEUE: usize = 256;

pub(crate) async fn tail(global: &Global, args: &Tail) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let streams = streams(&args.filter, args.segments);
    let changes = overlap(&args.filter, change::FILTER);
    if streams.is_empty() && !changes {
        bail!(
            "no subject that is shown matches {:?}: segments, health and viewers need --segments",
            args.filter
        );
    }
    let log = config::connect(&config, "castlog tail").await?;
    let from = match (args.all, args.last) {
        (true, _) => From::Beginning,
        (_, true) => From::LastPerSubject,
        _ => From::New,
    };
    let (lines, mut printed) = mpsc::channel(QUEUE);
    for (stream, filters) in streams {
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let reader = log.follow(stream, &filters, from);
        let (wanted, once) = (args.filter.clone(), args.no_follow);
        tokio::spawn(follow(stream, reader, Entry::to_json, wanted, once, lines.clone()));
    }
    if changes {
        let reader = log.follow_changes(from);
        let (wanted, once) = (args.filter.clone(), args.no_follow);
        tokio::spawn(follow(
            change::STREAM,
            reader,
            Change::to_json,
            wanted,
            once,
            lines.clone(),
        ));
    }
    drop(lines);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let line = tokio::select! {
            line = printed.recv() => line,
            _ = &mut interrupted => None,
        };
        let Some(line) = line else { break };
        // The reader of a pipe may leave, as `head` does.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow<T: Readable>(
    stream: &'static str,
    mut reader: Follow<T>,
    show: impl Fn(&T) -> Value,
    wanted: String,
    once: bool,
    lines: mpsc::Sender<Value>,
) {
    loop {
        let line = match reader.next().await {
            Ok(Followed::Entry(entry)) => show(&entry),
            Ok(Followed::Undecodable(other)) => json!({
                "stream": other.position.stream,
                "seq": other.position.sequence,
                "subject": other.subject,
                "error": other.error.to_string(),
            }),
            Ok(Followed::CaughtUp) if once => return,
            Ok(Followed::CaughtUp) => continue,
            Err(error) => {
                tracing::warn!(stream, error = %error, "waiting for the log");
                continue;
            }
        };
        let subject = line["subject"].as_str().unwrap_or_default();
        if overlap(&wanted, subject) && lines.send(line).await.is_err() {
            return;
        }
    }
}

/// The streams to read for a filter, each with the subjects of its kinds.
fn streams(filter: &str, segments: bool) -> Vec<(&'static str, Vec<String>)> {
    let mut streams: Vec<(&'static str, Vec<String>)> = Vec::new();
    for kind in Kind::ALL {
        let often = matches!(kind, Kind::Segment | Kind::Health | Kind::Viewers);
        if kind == Kind::Part || (often && !segments) || !overlap(filter, &kind.filter()) {
            continue;
        }
        match streams.iter_mut().find(|(stream, _)| *stream == kind.stream()) {
            Some((_, filters)) => filters.push(kind.filter()),
            None => streams.push((kind.stream(), vec![kind.filter()])),
        }
    }
    streams
}

/// Whether some subject matches both filters (a subject is a filter without wildcards).
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "*" || y == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_overlap_as_in_nats() {
        assert!(overlap("media.>", "media.broad_info.title.x"));
        assert!(overlap("media.*.status.*", "media.live_stream.status.x"));
        assert!(!overlap("media.*.status", "media.live_stream.status.x"));
        assert!(!overlap("media.live_stream.>", "media.broad_info.title.*"));
        assert!(overlap("media.live_stream.auth.unknown", "media.live_stream.auth.*"));
    }

    #[test]
    fn each_stream_is_read_once() {
        let all: Vec<_> = streams("media.>", true).into_iter().map(|(stream, _)| stream).collect();
        assert_eq!(all, ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"]);
        assert_eq!(streams("media.>", false).len(), 2);
        assert_eq!(
            streams("media.*.title.*", false),
            [("BROAD_INFO", vec!["media.broad_info.title.*".to_owned()])]
        );
        assert!(streams("other.>", true).is_empty());
        assert!(streams("castlog.live_info.>", true).is_empty());
        assert!(overlap("castlog.live_info.changed.x", change::FILTER) && !overlap("media.>", change::FILTER));
    }
}
