//! `castlog status`: streams, durable consumers, leases and dead letters at a glance,
//! and whether something is stuck.

use std::{collections::BTreeMap, process::ExitCode};

use castlog_log::{
    ConsumerStatus, Log, StreamStatus, dead_letter,
    lease::{self, Standing},
    provision,
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    args::{Global, Status},
    config, table,
};

/// Holds its entries for as long as a broadcast lasts: that is its work, and only
/// what nobody has taken waits.
const QUEUE: &str = "pipeline";

pub(crate) async fn status(global: &Global, args: &Status) -> anyhow::Result<ExitCode> {
    let log = config::connect(&config::load(global)?, "castlog status").await?;
    let picture = Picture::take(&log, args.max_age_s).await?;
    if args.json {
        println!("{:#}", picture.json());
    } else {
        picture.print();
    }
    Ok(if args.check && !picture.problems.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// How the log and its readers are at one moment.
struct Picture {
    now: DateTime<Utc>,
    streams: Vec<StreamStatus>,
    consumers: Vec<ConsumerStatus>,
    /// Who works, where one instance does, by the name of its consumer.
    leases: Vec<(&'static str, Standing)>,
    /// Dead letters by stream and consumer, also those of consumers that are no more.
    dead: BTreeMap<(String, String), usize>,
    problems: Vec<String>,
}

impl Picture {
    async fn take(log: &Log, max_age_s: u64) -> anyhow::Result<Self> {
        let (streams, consumers) = log.status().await?;
        let mut picture = Self {
            now: Utc::now(),
            leases: Vec::new(),
            dead: BTreeMap::new(),
            problems: Vec::new(),
            streams,
            consumers,
        };
        let is_there = |name: &str| picture.streams.iter().any(|stream| stream.name == name);
        if is_there(dead_letter::STREAM) {
            picture.dead = dead_letter::count(log).await?;
        }
        if is_there(lease::STREAM) {
            for name in lease::NAMES {
                let standing = log.lease_standing(name).await?;
                picture.leases.extend(standing.map(|standing| (name, standing)));
            }
        }
        picture.judge(&provision::names(), max_age_s);
        Ok(picture)
    }

    /// Finds what is stuck. `wanted` are the streams and `stream/consumer`s that there must be.
    fn judge(&mut self, wanted: &[String], max_age_s: u64) {
        let consumer_names = self.consumers.iter().map(|c| format!("{}/{}", c.stream, c.name));
        let there: Vec<String> = self
            .streams
            .iter()
            .map(|s| s.name.clone())
            .chain(consumer_names)
            .collect();
        for name in wanted.iter().filter(|name| !there.contains(name)) {
            self.problems.push(format!("{name} is not there: run `castlog apply`"));
        }
        for consumer in &self.consumers {
            let waiting = if consumer.name == QUEUE {
                consumer.oldest_pending
            } else {
                consumer.oldest_unacked
            };
            let age = waiting.map_or(0, |since| self.age(since));
            if age > max_age_s {
                self.problems.push(format!(
                    "{} of {}: the oldest entry has waited for {age} s, which is over {max_age_s} s",
                    consumer.name, consumer.stream
                ));
            }
        }
        let letters = self.letters();
        if letters > 0 {
            self.problems
                .push(format!("{letters} dead letters: see `castlog dead-letter list`"));
        }
    }

    fn letters(&self) -> usize {
        self.dead.values().sum()
    }

    fn age(&self, since: DateTime<Utc>) -> u64 {
        u64::try_from((self.now - since).num_seconds()).unwrap_or_default()
    }

    fn dead_of(&self, consumer: &ConsumerStatus) -> usize {
        let key = (consumer.stream.clone(), consumer.name.clone());
        self.dead.get(&key).copied().unwrap_or_default()
    }

    /// Who holds a lease: `nobody` also when it has run out.
    fn holder(&self, standing: &Standing) -> String {
        match &standing.holder {
            Some(holder) if self.age(standing.renewed) <= lease::DURATION.as_secs() => {
                format!(
                    "{}, process {} at {}",
                    holder.connection, holder.process, holder.address
                )
            }
            _ => "nobody".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let streams = self.streams.iter().map(|stream| {
            json!({
                "name": stream.name, "entries": stream.entries, "bytes": stream.bytes,
                "first": stream.first, "last": stream.last,
            })
        });
        let consumers = self.consumers.iter().map(|consumer| {
            json!({
                "name": consumer.name,
                "stream": consumer.stream,
                "lag": consumer.backlog.pending,
                "unacked": consumer.backlog.unacked,
                "redelivered": consumer.backlog.redelivered,
                "acked": consumer.backlog.acked,
                "oldest_unacked_s": consumer.oldest_unacked.map(|since| self.age(since)),
                "dead_letters": self.dead_of(consumer),
            })
        });
        let leases = self.leases.iter().map(|(name, standing)| {
            json!({
                "name": name,
                "holder": self.holder(standing),
                "renewed_s": self.age(standing.renewed),
            })
        });
        json!({
            "streams": streams.collect::<Vec<_>>(),
            "consumers": consumers.collect::<Vec<_>>(),
            "leases": leases.collect::<Vec<_>>(),
            "dead_letters": self.letters(),
            "problems": self.problems,
        })
    }

    fn print(&self) {
        let mut streams = table::new(&["STREAM", "ENTRIES", "BYTES", "FIRST", "LAST"]);
        for stream in &self.streams {
            streams.add_row([
                stream.name.clone(),
                stream.entries.to_string(),
                stream.bytes.to_string(),
                stream.first.to_string(),
                stream.last.to_string(),
            ]);
        }
        let mut consumers = table::new(&[
            "CONSUMER",
            "STREAM",
            "LAG",
            "UNACKED",
            "OLDEST UNACKED",
            "REDELIVERED",
            "LAST ACKED",
            "DEAD LETTERS",
        ]);
        for consumer in &self.consumers {
            let oldest = consumer.oldest_unacked.map(|since| self.age(since));
            consumers.add_row([
                consumer.name.clone(),
                consumer.stream.clone(),
                consumer.backlog.pending.to_string(),
                consumer.backlog.unacked.to_string(),
                oldest.map_or_else(|| "-".to_owned(), |age| format!("{age} s")),
                consumer.backlog.redelivered.to_string(),
                consumer.backlog.acked.to_string(),
                self.dead_of(consumer).to_string(),
            ]);
        }
        table::right_align(&mut streams, 1..5);
        table::right_align(&mut consumers, 2..8);
        let mut leases = table::new(&["WORKS AS", "INSTANCE", "SAID SO"]);
        for (name, standing) in &self.leases {
            leases.add_row([
                (*name).to_owned(),
                self.holder(standing),
                format!("{} s ago", self.age(standing.renewed)),
            ]);
        }
        println!(
            "{streams}\n\n{consumers}\n\n{leases}\n\ndead letters: {}",
            self.letters()
        );
        for problem in &self.problems {
            println!("problem: {problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    use castlog_log::Backlog;
    use chrono::TimeDelta;

    use super::*;

    fn consumer(name: &str, now: DateTime<Utc>, unacked_s: i64, pending_s: Option<i64>) -> ConsumerStatus {
        ConsumerStatus {
            name: name.to_owned(),
            stream: "S".to_owned(),
            backlog: Backlog {
                pending: 1,
                unacked: 1,
                redelivered: 0,
                acked: 0,
            },
            oldest_unacked: Some(now - TimeDelta::seconds(unacked_s)),
            oldest_pending: pending_s.map(|age| now - TimeDelta::seconds(age)),
        }
    }

    #[test]
    fn what_is_stuck_is_told() {
        let now = Utc::now();
        let mut picture = Picture {
            now,
            streams: Vec::new(),
            consumers: vec![
                consumer("quick", now, 5, None),
                consumer("slow", now, 61, None),
                // A broadcast that lasts for hours.
                consumer(QUEUE, now, 9000, Some(3)),
            ],
            leases: Vec::new(),
            dead: BTreeMap::new(),
            problems: Vec::new(),
        };
        let wanted = ["S/quick".to_owned(), "S/gone".to_owned()];
        picture.judge(&wanted, 60);
        assert_eq!(
            picture.problems,
            [
                "S/gone is not there: run `castlog apply`",
                "slow of S: the oldest entry has waited for 61 s, which is over 60 s",
            ]
        );
        picture.problems.clear();
        picture.dead = BTreeMap::from([(("S".to_owned(), "gone".to_owned()), 2)]);
        picture.consumers = vec![consumer(QUEUE, now, 9000, Some(61))];
        picture.judge(&[], 60);
        assert_eq!(picture.problems.len(), 2, "{:?}", picture.problems);
    }
}
