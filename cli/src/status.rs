//! `castlog status`: streams, durable consumers, leases, the archive, the change feed,
//! jobs and dead letters at a glance, and whether something is stuck.

use std::{collections::BTreeMap, process::ExitCode};

use castlog_live_info::{Newest, Outbox};
use castlog_log::{
    BroadcastId, ConsumerStatus, Event, Kind, Log, StreamStatus, dead_letter,
    lease::{self, Standing},
    pb::metadata,
    provision, session,
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    args::{Global, Status},
    config::{self, Config},
    table,
};

/// Holds its entries for as long as a broadcast lasts: that is its work, and only
/// what nobody has taken waits.
const QUEUE: &str = "pipeline";
/// Most live sessions that are looked at.
const MAX_JOBS: usize = 10_000;

pub(crate) async fn status(global: &Global, args: &Status) -> anyhow::Result<ExitCode> {
    let config = config::load(global)?;
    let log = config::connect(&config, "castlog status").await?;
    let picture = Picture::take(&config, &log, args.max_age_s).await?;
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
    /// How far the archive is; empty when there is none.
    archive: Vec<Archived>,
    /// What waits for the change feed; `None` when Redis does not tell.
    outbox: Option<Outbox>,
    /// The jobs of pipelines; `None` when LiveInfo does not tell.
    jobs: Option<Jobs>,
    /// Dead letters by stream and consumer, also those of consumers that are no more.
    dead: BTreeMap<(String, String), usize>,
    problems: Vec<String>,
}

/// How far the archive of a stream is.
struct Archived {
    stream: &'static str,
    /// All entries up to this sequence are archived.
    last: u64,
    /// Entries behind it.
    lag: u64,
    /// When the oldest of them was stored.
    oldest: Option<DateTime<Utc>>,
}

/// The sessions that are live, of which each is a job.
#[derive(Debug, Default)]
struct Jobs {
    /// Those that a pipeline has taken.
    running: usize,
    /// Those that none has, with the time when their encoders came.
    waiting: Vec<(BroadcastId, DateTime<Utc>)>,
}

impl Jobs {
    async fn look(config: &Config) -> anyhow::Result<Self> {
        let live = castlog_live_info::Reader::new(&config.live_info.redis)?;
        Ok(Self::of(live.live(MAX_JOBS).await?))
    }

    fn of(live: Vec<(BroadcastId, Newest)>) -> Self {
        let mut jobs = Self::default();
        for (broadcast, newest) in live {
            let Some((session, since)) = newest.get(&Kind::Status).and_then(|(event, _)| open(event)) else {
                continue;
            };
            let taken = match newest.get(&Kind::Metadata) {
                Some((Event::Metadata(said), _)) => matches!(
                    &said.event,
                    Some(metadata::Event::Produced(produced)) if produced.session_id == session
                ),
                _ => false,
            };
            match taken {
                true => jobs.running += 1,
                false => jobs.waiting.push((broadcast, since)),
            }
        }
        jobs.waiting.sort_unstable_by_key(|(_, since)| *since);
        jobs
    }
}

/// The session that a status leaves open, and since when it is.
fn open(event: &Event) -> Option<(&str, DateTime<Utc>)> {
    let Event::Status(said) = event else { return None };
    let (session, _) = session::named(said).filter(|(_, over)| !over)?;
    Some((&session.session_id, session::started_at(session)?))
}

impl Picture {
    async fn take(config: &Config, log: &Log, max_age_s: u64) -> anyhow::Result<Self> {
        let (streams, consumers) = log.status().await?;
        let mut picture = Self {
            now: Utc::now(),
            leases: Vec::new(),
            archive: Vec::new(),
            outbox: None,
            jobs: None,
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
        match castlog_live_info::outbox(&config.live_info).await {
            Ok(outbox) => picture.outbox = Some(outbox),
            Err(error) => picture.problems.push(format!("change feed: {error:#}")),
        }
        match Jobs::look(config).await {
            Ok(jobs) => picture.jobs = Some(jobs),
            Err(error) => picture.problems.push(format!("jobs: {error:#}")),
        }
        let archive = &config.log_sink.archive;
        if archive.enabled
            && let Err(error) = picture.look_at_archive(config, log).await
        {
            picture.problems.push(format!("archive: {error:#}"));
        }
        picture.judge(&provision::names(), max_age_s, archive.linger_s);
        Ok(picture)
    }

    async fn look_at_archive(&mut self, config: &Config, log: &Log) -> anyhow::Result<()> {
        let media = castlog_service::open_media_store(&config.media)?;
        for (stream, next) in castlog_log_sink::archived(&config.log_sink.archive, &media).await? {
            let Some(status) = self.streams.iter().find(|status| status.name == stream) else {
                continue;
            };
            let lag = (status.last + 1).saturating_sub(next.max(status.first));
            let oldest = match lag {
                0 => None,
                _ => log.oldest_behind(stream, next - 1).await?,
            };
            self.archive.push(Archived {
                stream,
                last: next - 1,
                lag,
                oldest,
            });
        }
        Ok(())
    }

    /// Finds what is stuck. `wanted` are the streams and `stream/consumer`s that there
    /// must be; the archive waits for `linger_s` before it writes.
    fn judge(&mut self, wanted: &[String], max_age_s: u64, linger_s: u64) {
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
        for archived in &self.archive {
            let (age, limit) = (archived.oldest.map_or(0, |since| self.age(since)), max_age_s + linger_s);
            if age > limit {
                self.problems.push(format!(
                    "archive of {}: the oldest entry has waited for {age} s, which is over {limit} s",
                    archived.stream
                ));
            }
        }
        let relayed = self.outbox.and_then(|outbox| outbox.oldest);
        let age = relayed.map_or(0, |since| self.age(since));
        if age > max_age_s {
            self.problems.push(format!(
                "change feed: the oldest change has waited for {age} s, which is over {max_age_s} s"
            ));
        }
        let late = self.waiting().iter().filter_map(|(broadcast, since)| {
            let age = self.age(*since);
            (age > max_age_s).then(|| {
                format!(
                    "broadcast {broadcast} has waited for a pipeline for {age} s, which is over {max_age_s} s: \
                     start another one, or see the log of one for what it has no room for"
                )
            })
        });
        let late: Vec<String> = late.collect();
        self.problems.extend(late);
        let letters = self.letters();
        if letters > 0 {
            self.problems
                .push(format!("{letters} dead letters: see `castlog dead-letter list`"));
        }
    }

    fn waiting(&self) -> &[(BroadcastId, DateTime<Utc>)] {
        self.jobs.as_ref().map_or(&[], |jobs| &jobs.waiting)
    }

    fn letters(&self) -> usize {
        self.dead.values().sum()
    }

    fn age(&self, since: DateTime<Utc>) -> u64 {
        u64::try_from((self.now - since).num_seconds()).unwrap_or_default()
    }

    /// How long something has waited, in a table.
    fn waits(&self, since: Option<DateTime<Utc>>) -> String {
        since.map_or_else(|| "-".to_owned(), |since| format!("{} s", self.age(since)))
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
        let archive = self.archive.iter().map(|archived| {
            json!({
                "stream": archived.stream, "archived": archived.last, "lag": archived.lag,
                "oldest_s": archived.oldest.map(|since| self.age(since)),
            })
        });
        let outbox = self
            .outbox
            .map(|outbox| json!({ "waiting": outbox.waiting, "oldest_s": outbox.oldest.map(|since| self.age(since)) }));
        let jobs = self.jobs.as_ref().map(|jobs| {
            let waiting = jobs
                .waiting
                .iter()
                .map(|(broadcast, since)| json!({ "broadcast": broadcast.to_string(), "waits_s": self.age(*since) }));
            json!({ "running": jobs.running, "waiting": waiting.collect::<Vec<_>>() })
        });
        json!({
            "streams": streams.collect::<Vec<_>>(),
            "consumers": consumers.collect::<Vec<_>>(),
            "leases": leases.collect::<Vec<_>>(),
            "archive": archive.collect::<Vec<_>>(),
            "change_feed": outbox,
            "jobs": jobs,
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
            consumers.add_row([
                consumer.name.clone(),
                consumer.stream.clone(),
                consumer.backlog.pending.to_string(),
                consumer.backlog.unacked.to_string(),
                self.waits(consumer.oldest_unacked),
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
        println!("{streams}\n\n{consumers}\n\n{leases}\n");
        if !self.archive.is_empty() {
            let mut archive = table::new(&["ARCHIVE OF", "LAG", "OLDEST", "LAST ARCHIVED"]);
            for archived in &self.archive {
                archive.add_row([
                    archived.stream.to_owned(),
                    archived.lag.to_string(),
                    self.waits(archived.oldest),
                    archived.last.to_string(),
                ]);
            }
            table::right_align(&mut archive, 1..4);
            println!("{archive}\n");
        }
        if let Some(outbox) = self.outbox {
            println!("changes that wait for the change feed: {}", outbox.waiting);
        }
        if let Some(jobs) = &self.jobs {
            println!("jobs: {} waiting, {} running", jobs.waiting.len(), jobs.running);
            for (broadcast, since) in &jobs.waiting {
                println!("  {broadcast} has waited for a pipeline for {} s", self.age(*since));
            }
        }
        println!("dead letters: {}", self.letters());
        for problem in &self.problems {
            println!("problem: {problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    use castlog_log::{
        Backlog,
        pb::{self, status},
    };
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
    fn a_session_waits_until_a_pipeline_has_taken_it() {
        let [ours, former] = [(); 2].map(|()| castlog_log::SessionId::generate().to_string());
        let session = Some(status::Session {
            session_id: ours.clone(),
            started_at: Some(pb::Timestamp {
                seconds: 1_800_000_000,
                nanos: 0,
            }),
            ..Default::default()
        });
        let status_of = |event| (Kind::Status, (Event::Status(pb::Status { event: Some(event) }), 7));
        let started = || {
            status_of(status::Event::Started(status::Started {
                session: session.clone(),
            }))
        };
        let produced = |session_id: &str| {
            let produced = metadata::Produced {
                session_id: session_id.to_owned(),
                ..Default::default()
            };
            let event = Some(metadata::Event::Produced(produced));
            (Kind::Metadata, (Event::Metadata(pb::Metadata { event }), 8))
        };
        let counts = |newest: Vec<(Kind, (Event, u64))>| {
            let jobs = Jobs::of(vec![(BroadcastId::generate(), newest.into_iter().collect())]);
            (jobs.waiting.len(), jobs.running)
        };
        assert_eq!(counts(vec![started()]), (1, 0));
        assert_eq!(counts(vec![started(), produced(&former)]), (1, 0));
        assert_eq!(counts(vec![started(), produced(&ours)]), (0, 1));
        let ended = status::Event::Ended(status::Ended {
            session: session.clone(),
            ..Default::default()
        });
        assert_eq!(counts(vec![status_of(ended), produced(&ours)]), (0, 0));
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
            archive: Vec::new(),
            outbox: None,
            jobs: None,
            dead: BTreeMap::new(),
            problems: Vec::new(),
        };
        let wanted = ["S/quick".to_owned(), "S/gone".to_owned()];
        picture.judge(&wanted, 60, 300);
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
        picture.judge(&[], 60, 300);
        assert_eq!(picture.problems.len(), 2, "{:?}", picture.problems);
        let waiting = |age| Jobs {
            running: 3,
            waiting: vec![(BroadcastId::generate(), now - TimeDelta::seconds(age))],
        };
        (picture.dead, picture.consumers) = (BTreeMap::new(), Vec::new());
        for (age, problems) in [(60, 0), (61, 1)] {
            picture.problems.clear();
            picture.jobs = Some(waiting(age));
            picture.judge(&[], 60, 300);
            assert_eq!(picture.problems.len(), problems, "{:?}", picture.problems);
        }
        picture.jobs = None;

        // The archive is late by intent.
        let archived = |age| Archived {
            stream: "S",
            last: 7,
            lag: 1,
            oldest: Some(now - TimeDelta::seconds(age)),
        };
        let outbox = |age| Outbox {
            waiting: 3,
            oldest: Some(now - TimeDelta::seconds(age)),
        };
        (picture.dead, picture.consumers) = (BTreeMap::new(), Vec::new());
        for (age, waits, problems) in [(360, 60, 0), (361, 60, 1), (360, 61, 1)] {
            picture.problems.clear();
            (picture.archive, picture.outbox) = (vec![archived(age)], Some(outbox(waits)));
            picture.judge(&[], 60, 300);
            assert_eq!(picture.problems.len(), problems, "{:?}", picture.problems);
        }
    }
}
