//! `castlog status`: streams, durable consumers, leases, the archive, the change feed,
//! jobs and dead letters at a glance, and whether something is stuck.

use std::{collections::BTreeMap, process::ExitCode};

use castlog_live_info::{Newest, Outbox};
use castlog_log::{
    BroadcastId, ConsumerStatus, Entry, Event, Kind, Log, StreamStatus, Subject, dead_letter,
    lease::{self, Standing},
    pb::{metadata, status},
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
    /// Of these, those whose encoders are there, with the time of the newest segment, or
    /// since when there could have been one. A dead pipeline shows here only: its job
    /// counts as taken, and nobody says that it is not done.
    on_air: BTreeMap<BroadcastId, DateTime<Utc>>,
    /// Those that none has, with the time when their encoders came.
    waiting: Vec<(BroadcastId, DateTime<Utc>)>,
}

impl Jobs {
    async fn look(config: &Config, log: &Log) -> anyhow::Result<Self> {
        let live = castlog_live_info::Reader::new(&config.live_info.redis)?;
        let mut jobs = Self::of(live.live(MAX_JOBS).await?);
        for entry in log.newest(&jobs.told_by()).await?.into_iter().flatten() {
            jobs.hear(&entry);
        }
        Ok(jobs)
    }

    fn of(live: Vec<(BroadcastId, Newest)>) -> Self {
        let mut jobs = Self::default();
        for (broadcast, newest) in live {
            let status = newest.get(&Kind::Status).map(|(event, _)| event);
            let Some((session, since)) = status.and_then(open) else {
                continue;
            };
            let taken = match newest.get(&Kind::Metadata) {
                Some((Event::Metadata(said), _)) => matches!(
                    &said.event,
                    Some(metadata::Event::Produced(produced)) if produced.session_id == session
                ),
                _ => false,
            };
            if !taken {
                jobs.waiting.push((broadcast, since));
                continue;
            }
            jobs.running += 1;
            if status.is_some_and(is_on_air) {
                jobs.on_air.insert(broadcast, since);
            }
        }
        jobs.waiting.sort_unstable_by_key(|(_, since)| *since);
        jobs
    }

    /// Where the log tells how those on the air are.
    fn told_by(&self) -> Vec<Subject> {
        let of = |broadcast: &BroadcastId| [Kind::Status, Kind::Segment].map(|kind| kind.of(*broadcast));
        self.on_air.keys().flat_map(of).collect()
    }

    /// Takes in what the log tells of one on the air: a segment, or what its encoder does.
    fn hear(&mut self, entry: &Entry) {
        let Some(broadcast) = entry.subject.broadcast else {
            return;
        };
        if entry.subject.kind == Kind::Status && !is_on_air(&entry.event) {
            // LiveInfo has not heard of that yet.
            self.on_air.remove(&broadcast);
        } else if let Some(since) = self.on_air.get_mut(&broadcast) {
            // After an interruption the segments begin anew.
            *since = entry.time.max(*since);
        }
    }
}

/// Whether the encoder is there by a status.
fn is_on_air(event: &Event) -> bool {
    use status::Event::{Resumed, Started};
    let Event::Status(said) = event else { return false };
    matches!(said.event, Some(Started(_) | Resumed(_)))
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
        match Jobs::look(config, log).await {
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
        let silent = self.on_air().filter_map(|(broadcast, since)| {
            let age = self.age(*since);
            (age > max_age_s).then(|| {
                format!(
                    "broadcast {broadcast} is on the air and has had no segment for {age} s, which is over \
                     {max_age_s} s: see the log of its pipeline, or start another one"
                )
            })
        });
        let stuck: Vec<String> = late.chain(silent).collect();
        self.problems.extend(stuck);
        let letters = self.letters();
        if letters > 0 {
            self.problems
                .push(format!("{letters} dead letters: see `castlog dead-letter list`"));
        }
    }

    fn waiting(&self) -> &[(BroadcastId, DateTime<Utc>)] {
        self.jobs.as_ref().map_or(&[], |jobs| &jobs.waiting)
    }

    fn on_air(&self) -> impl Iterator<Item = (&BroadcastId, &DateTime<Utc>)> {
        self.jobs.iter().flat_map(|jobs| &jobs.on_air)
    }

    /// The longest that one on the air has been without a segment, in seconds.
    fn silence(&self) -> Option<u64> {
        self.on_air().map(|(_, since)| self.age(*since)).max()
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
            json!({
                "running": jobs.running,
                "longest_without_segment_s": self.silence(),
                "waiting": waiting.collect::<Vec<_>>(),
            })
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
            let segments = self.silence().map_or_else(String::new, |age| {
                format!(", none on the air without a segment for more than {age} s")
            });
            let (waiting, running) = (jobs.waiting.len(), jobs.running);
            println!("jobs: {waiting} waiting, {running} running{segments}");
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
    use castlog_log::{Backlog, Position, pb};
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

    fn entry(broadcast: BroadcastId, event: impl Into<Event>, time: DateTime<Utc>) -> Entry {
        let event = event.into();
        Entry {
            id: "e".to_owned(),
            source: "castlog/test".to_owned(),
            time,
            subject: event.kind().of(broadcast),
            event,
            position: Position {
                stream: "S".to_owned(),
                sequence: 9,
            },
            traceparent: None,
            payload: Default::default(),
        }
    }

    #[test]
    fn a_session_on_the_air_is_as_old_as_its_newest_segment() {
        let id = BroadcastId::generate();
        let session_id = castlog_log::SessionId::generate().to_string();
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let at = |second| start + TimeDelta::seconds(second);
        let session = Some(status::Session {
            session_id: session_id.clone(),
            started_at: Some(start.into()),
            ..Default::default()
        });
        let status_of = |event| pb::Status { event: Some(event) };
        let started = status_of(status::Event::Started(status::Started {
            session: session.clone(),
        }));
        let resumed = status_of(status::Event::Resumed(status::Resumed {
            session: session.clone(),
        }));
        let interrupted = status_of(status::Event::Interrupted(status::Interrupted {
            session,
            ..Default::default()
        }));
        let produced = metadata::Event::Produced(metadata::Produced {
            session_id,
            ..Default::default()
        });
        let produced = pb::Metadata { event: Some(produced) };
        let jobs = |status: &pb::Status| {
            let newest: [(Kind, (Event, u64)); 2] = [
                (Kind::Status, (status.clone().into(), 7)),
                (Kind::Metadata, (produced.clone().into(), 8)),
            ];
            Jobs::of(vec![(id, newest.into_iter().collect())])
        };
        let since = |jobs: &Jobs| jobs.on_air.get(&id).copied();

        let mut taken = jobs(&started);
        assert_eq!((taken.running, since(&taken)), (1, Some(start)));
        assert_eq!(taken.told_by(), [Kind::Status.of(id), Kind::Segment.of(id)]);
        // A segment of the session before, and the newest of this one.
        for (second, newest) in [(-9, 0), (40, 40)] {
            taken.hear(&entry(id, pb::Segment::default(), at(second)));
            assert_eq!(since(&taken), Some(at(newest)));
        }
        taken.hear(&entry(id, resumed, at(90)));
        assert_eq!(since(&taken), Some(at(90)));
        // Of another broadcast.
        taken.hear(&entry(BroadcastId::generate(), pb::Segment::default(), at(99)));
        assert_eq!(since(&taken), Some(at(90)));
        // Nothing is to come while the encoder is away, whoever says so.
        taken.hear(&entry(id, interrupted.clone(), at(100)));
        assert_eq!(since(&taken), None);
        let away = jobs(&interrupted);
        assert_eq!((away.running, since(&away)), (1, None));
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
            ..Jobs::default()
        };
        // A pipeline has taken it, and is dead.
        let silent = |age| Jobs {
            running: 3,
            on_air: BTreeMap::from([(BroadcastId::generate(), now - TimeDelta::seconds(age))]),
            ..Jobs::default()
        };
        (picture.dead, picture.consumers) = (BTreeMap::new(), Vec::new());
        for (jobs, problems) in [(waiting(60), 0), (waiting(61), 1), (silent(60), 0), (silent(61), 1)] {
            picture.problems.clear();
            picture.jobs = Some(jobs);
            picture.judge(&[], 60, 300);
            assert_eq!(picture.problems.len(), problems, "{:?}", picture.problems);
        }
        let told = "is on the air and has had no segment for 61 s, which is over 60 s: ";
        assert!(picture.problems[0].contains(told), "{:?}", picture.problems);
        assert_eq!(picture.silence(), Some(61));
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
