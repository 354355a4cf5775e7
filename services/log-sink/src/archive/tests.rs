//! The archive against a real log and a real folder, read back by another reader
//! of the format's own library, and by DuckDB where there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use castlog_log::{BroadcastId, Draft, Event, Kind, SessionId, pb};
use castlog_service::{MediaStore, MediaStoreConfig, open_media_store};
use castlog_testkit::{
    NatsOptions, S3Server, TestLog, cut_off,
    events::{every_event, title},
    until,
};
use chrono::{DateTime, Days, Utc};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Stage {
    pub(super) log: TestLog,
    pub(super) folder: TempDir,
    /// Where the objects are, rather than in the folder.
    s3: Option<S3Server>,
    pub(super) config: Config,
}

impl Stage {
    pub(super) async fn build() -> anyhow::Result<Self> {
        Ok(Self {
            log: TestLog::start(NatsOptions::default().lazy_sync()).await?,
            folder: TempDir::new()?,
            s3: None,
            config: Config {
                linger_s: 1,
                ..Config::default()
            },
        })
    }

    /// The same with the archive in a bucket.
    pub(super) async fn build_on_s3() -> anyhow::Result<Self> {
        Ok(Self {
            s3: Some(S3Server::start().await?),
            ..Self::build().await?
        })
    }

    /// The folder of the archive's objects.
    pub(super) fn root(&self) -> PathBuf {
        self.s3.as_ref().map_or(self.folder.path().to_owned(), S3Server::folder)
    }

    pub(super) fn media(&self) -> anyhow::Result<MediaStore> {
        open_media_store(&match &self.s3 {
            Some(s3) => s3.media(),
            None => MediaStoreConfig::folder(self.folder.path()),
        })
    }

    pub(super) fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::new(&self.media()?, &self.config.prefix))
    }

    fn archive(&self, stream: &'static str) -> anyhow::Result<Archive> {
        Ok(Archive::new(stream, self.config.clone(), &self.log.log, self.store()?))
    }

    /// Archives all streams until `count` rows are there.
    pub(super) async fn until(&self, count: usize) -> anyhow::Result<Vec<Row>> {
        let (shutdown, health) = (Shutdown::new(), Health::default());
        let mut tasks = Tasks::new(&shutdown);
        for stream in STREAMS {
            tasks.spawn("archive", self.archive(stream)?.run(shutdown.clone(), health.clone()));
        }
        let rows = until(&format!("{count} rows"), PATIENCE, || async {
            let rows = self.rows().ok()?;
            (rows.len() >= count).then_some(rows)
        })
        .await?;
        until("the archive is ready", PATIENCE, || async {
            health.is_ready().then_some(())
        })
        .await?;
        shutdown.begin();
        tasks.wait().await?;
        Ok(rows)
    }

    /// All rows of the archive, in the order of the log per stream.
    pub(super) fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let mut files = Vec::new();
        find(&self.root().join("archive"), &mut files);
        let mut rows = Vec::new();
        for file in files {
            let path: Vec<String> = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let of = |name: &str| {
                let part = path
                    .iter()
                    .find_map(|part| part.strip_prefix(name))
                    .context("no partition");
                part.map(str::to_owned)
            };
            for row in SerializedFileReader::new(std::fs::File::open(&file)?)?.get_row_iter(None)? {
                let fields: BTreeMap<String, Field> = row?
                    .into_columns()
                    .into_iter()
                    .map(|(name, field)| (name.to_string(), field))
                    .collect();
                rows.push(Row {
                    date: of("date=")?,
                    kind: of("kind=")?,
                    fields,
                });
            }
        }
        rows.sort_by_key(|row| row.place());
        Ok(rows)
    }
}

pub(super) fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Row {
    date: String,
    kind: String,
    fields: BTreeMap<String, Field>,
}

impl Row {
    fn text(&self, name: &str) -> Option<String> {
        match &self.fields[name] {
            Field::Str(text) => Some(text.clone()),
            Field::Null => None,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn place(&self) -> (String, i64) {
        match self.fields["seq"] {
            Field::Long(sequence) => (self.text("stream").unwrap(), sequence),
            ref other => panic!("seq is {other:?}"),
        }
    }

    fn payload(&self) -> Vec<u8> {
        match &self.fields["payload"] {
            Field::Bytes(bytes) => bytes.data().to_vec(),
            other => panic!("payload is {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_event_is_in_the_archive_as_it_was_published() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let id = BroadcastId::generate();
    let mut wanted = Vec::new();
    for event in every_event() {
        wanted.push((event.kind(), event.encode().to_vec()));
        stage.log.publisher.publish(Draft::new(id, event)).await?;
    }
    // What is no entry, a member of the oneof and a field that this schema does not have.
    stage.log.publish_garbage(Kind::Title.of(id)).await?;
    let mut extended = title("hi").encode().to_vec();
    extended.extend([0x9a, 0x06, 3, b'n', b'e', b'w']);
    for payload in [vec![0xd2, 0x05, 2, 0x08, 1], extended] {
        stage.log.publish_payload(Kind::Title.of(id), &payload).await?;
        wanted.push((Kind::Title, payload));
    }
    let yesterday = Utc::now() - Days::new(1);
    let draft = Draft::new(id, title("before midnight")).time(yesterday);
    stage.log.publisher.publish(draft).await?;
    wanted.push((Kind::Title, title("before midnight").encode().to_vec()));

    let rows = stage.until(wanted.len()).await?;
    let mut found: Vec<_> = rows.iter().map(|row| (row.kind.clone(), row.payload())).collect();
    let mut wanted: Vec<_> = wanted
        .into_iter()
        .map(|(kind, payload)| (kind.to_string(), payload))
        .collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    let old: Vec<&Row> = rows
        .iter()
        .filter(|row| row.date == yesterday.date_naive().to_string())
        .collect();
    assert_eq!(old.len(), 1);
    assert_eq!(
        old[0].text("data").unwrap(),
        json!({ "changed": { "title": "before midnight" } }).to_string()
    );
    assert_eq!(old[0].text("broadcast_id"), Some(id.to_string()));
    assert_eq!(old[0].text("event").as_deref(), Some("changed"));
    let time = match old[0].fields["time"] {
        Field::TimestampMicros(micros) => DateTime::from_timestamp_micros(micros),
        ref other => panic!("time is {other:?}"),
    };
    assert_eq!(
        time.map(|time| time.timestamp_micros()),
        Some(yesterday.timestamp_micros())
    );
    let unknown = rows.iter().filter(|row| row.text("event").is_none()).count();
    assert_eq!(unknown, 1);

    // Nothing is written again, and a row that is lost is missed.
    assert_eq!(stage.until(rows.len()).await?, rows);
    let mut files = Vec::new();
    find(stage.folder.path(), &mut files);
    std::fs::remove_file(&files[0])?;
    assert!(stage.rows()?.len() < rows.len());
    Ok(())
}

#[tokio::test]
async fn each_entry_is_one_row_however_often_the_archive_is_cut_off() -> anyhow::Result<()> {
    each_entry_is_one_row(Stage::build().await?, 15).await
}

#[tokio::test]
async fn each_entry_is_one_row_in_a_bucket_too() -> anyhow::Result<()> {
    each_entry_is_one_row(Stage::build_on_s3().await?, 5).await
}

/// Archives until more than `least` ranges were cut off and more than `least` were not.
async fn each_entry_is_one_row(mut stage: Stage, least: usize) -> anyhow::Result<()> {
    const MOST: usize = 400;
    stage.config.batch = 7;
    let mut random = StdRng::seed_from_u64(11);
    let ids: Vec<BroadcastId> = std::iter::repeat_with(BroadcastId::generate).take(3).collect();
    let (shutdown, health) = (Shutdown::new(), Health::default());
    let mut archives = [stage.archive("BROAD_INFO")?, stage.archive("BROAD_INFO")?];
    let (mut published, mut cut, mut whole) = (0, 0, 0);
    while (cut <= least || whole <= least) && cut + whole < MOST {
        for _ in 0..random.random_range(1..5) {
            let event = if random.random_range(0..2) == 0 {
                title("hi")
            } else {
                pb::Tags {
                    event: Some(pb::tags::Event::Changed(Default::default())),
                }
                .into()
            };
            let time = Utc::now() - Days::new(random.random_range(0..2));
            let draft = Draft::new(ids[random.random_range(0..3)], event).time(time);
            stage.log.publisher.publish(draft).await?;
            published += 1;
        }
        // Batches differ from attempt to attempt, and two archive the same stream.
        let at = random.random_range(0..2);
        archives[at].config.batch = random.random_range(1..9);
        match cut_off(archives[at].range(&shutdown, &health), random.random_range(0..15)).await {
            Some(range) => {
                range?;
                whole += 1;
            }
            None => {
                cut += 1;
                archives[at] = stage.archive("BROAD_INFO")?;
            }
        }
    }
    assert!(cut > least && whole > least, "cut off {cut} times, whole {whole} times");
    let rows = stage.until(published).await?;
    let places: BTreeSet<_> = rows.iter().map(Row::place).collect();
    let wanted: BTreeSet<_> = (1..=published as i64).map(|n| ("BROAD_INFO".to_owned(), n)).collect();
    assert_eq!(places, wanted);
    assert_eq!(rows.len(), published, "no row is there twice");
    // Without the hint, the plans lead to the same place.
    std::fs::remove_dir_all(stage.root().join("archive/_progress"))?;
    assert_eq!(stage.until(published).await?.len(), published);
    Ok(())
}

/// Archives a stream until the end; how many ranges it has claimed.
async fn archive_until(mut archive: Archive, end: Shutdown) -> anyhow::Result<u64> {
    let health = Health::default();
    while !end.is_cancelled() {
        archive.range(&end, &health).await?;
    }
    Ok(archive.claimed)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_the_ranges_and_finish_what_another_leaves() -> anyhow::Result<()> {
    two_instances_share_the_ranges(Stage::build().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_the_ranges_of_a_bucket() -> anyhow::Result<()> {
    two_instances_share_the_ranges(Stage::build_on_s3().await?).await
}

async fn two_instances_share_the_ranges(mut stage: Stage) -> anyhow::Result<()> {
    const BACKLOG: usize = 600;
    const RANGE: usize = 5;
    stage.config.batch = RANGE;
    let id = BroadcastId::generate();
    let publish = async |count: usize| {
        for n in 0..count {
            let draft = Draft::new(id, title(&format!("title {n}")));
            stage.log.publisher.publish(draft).await?;
        }
        anyhow::Ok(())
    };
    publish(BACKLOG).await?;
    let start = |end: &Shutdown| anyhow::Ok(tokio::spawn(archive_until(stage.archive("BROAD_INFO")?, end.clone())));
    let until_rows = async |count: usize| {
        until(&format!("{count} rows"), PATIENCE, || async {
            stage.rows().ok().filter(|rows| rows.len() >= count)
        })
        .await
    };
    let end = Shutdown::new();
    let both = [start(&end)?, start(&end)?];
    until_rows(BACKLOG).await?;
    end.begin();
    let [one, two] = both;
    let (one, two) = (one.await??, two.await??);
    assert_eq!(
        one + two,
        (BACKLOG / RANGE) as u64,
        "a range was claimed twice, or by nobody"
    );
    assert!(one >= 6 && two >= 6, "{one} and {two} ranges");

    // A third claims the next range and is gone before its files are there.
    publish(3 * RANGE).await?;
    let mut dead = stage.archive("BROAD_INFO")?;
    let first = BACKLOG as u64 + 1;
    let range = dead.collect(first, &Shutdown::new()).await?.context("no entries")?;
    let plan = Plan::of("BROAD_INFO", first, range.last, &range.entries);
    assert!(dead.store.claim(&plan).await?.is_none());
    drop((dead, range));
    let end = Shutdown::new();
    let left = start(&end)?;
    let rows = until_rows(BACKLOG + 3 * RANGE).await?;
    end.begin();
    assert_eq!(left.await??, 2, "the range of the third is its own for good");
    let places: BTreeSet<_> = rows.iter().map(Row::place).collect();
    let wanted: BTreeSet<_> = (1..=(BACKLOG + 3 * RANGE) as i64)
        .map(|n| ("BROAD_INFO".to_owned(), n))
        .collect();
    assert_eq!(places, wanted);
    assert_eq!(rows.len(), wanted.len(), "no row is there twice");
    Ok(())
}

#[tokio::test]
async fn an_archive_that_is_ahead_of_a_restored_log_takes_nothing() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let id = BroadcastId::generate();
    for _ in 0..3 {
        stage.log.publisher.publish(Draft::new(id, title("lost"))).await?;
    }
    let archived = stage.until(3).await?.len();
    // The backup that is restored holds one of them.
    stage.log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    stage.log.publisher.publish(Draft::new(id, title("kept"))).await?;
    let (shutdown, health) = (Shutdown::new(), Health::default());
    let said = stage.archive("BROAD_INFO")?.range(&shutdown, &health).await;
    let said = said.unwrap_err().to_string();
    assert!(said.starts_with("the archive is ahead of the log"), "{said}");
    assert_eq!(stage.rows()?.len(), archived);
    // The control: where it was moved away, another begins.
    std::fs::remove_dir_all(stage.folder.path().join("archive"))?;
    assert_eq!(stage.until(1).await?.len(), 1);
    Ok(())
}

/// Publishes while the store is down, which `back` ends.
async fn entries_wait_in_the_log(
    stage: &mut Stage,
    back: impl AsyncFnOnce(&mut Stage) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (shutdown, health) = (Shutdown::new(), Health::default());
    let mut tasks = Tasks::new(&shutdown);
    tasks.spawn(
        "archive",
        stage.archive("BROAD_INFO")?.run(shutdown.clone(), health.clone()),
    );
    let id = BroadcastId::generate();
    for n in 0..10 {
        let draft = Draft::new(id, title(&format!("title {n}")));
        stage.log.publisher.publish(draft).await?;
    }
    until("the archive says that it waits", PATIENCE, || async {
        (health.parts().get(PART) == Some(&false)).then_some(())
    })
    .await?;
    back(stage).await?;
    let rows = until("all rows", PATIENCE, || async {
        stage.rows().ok().filter(|rows| rows.len() >= 10)
    })
    .await?;
    assert_eq!(rows.len(), 10);
    shutdown.begin();
    tasks.wait().await
}

#[tokio::test]
async fn entries_wait_in_the_log_while_the_store_is_down() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    // A file where the folder should be: nothing can be written.
    let blocked = stage.root().join("archive");
    std::fs::write(&blocked, "")?;
    entries_wait_in_the_log(&mut stage, async |_| Ok(std::fs::remove_file(&blocked)?)).await?;

    let mut stage = Stage::build_on_s3().await?;
    stage.s3.as_mut().context("no server")?.kill9();
    let back = async |stage: &mut Stage| stage.s3.as_mut().context("no server")?.restart().await;
    entries_wait_in_the_log(&mut stage, back).await
}

fn status(event: pb::status::Event) -> Event {
    pb::Status { event: Some(event) }.into()
}

/// The query of the documentation, where `duckdb` is on PATH or named by DUCKDB.
#[tokio::test]
async fn the_documented_query_tells_the_hours_live() -> anyhow::Result<()> {
    let duckdb = std::env::var("DUCKDB").unwrap_or_else(|_| "duckdb".to_owned());
    if Command::new(&duckdb).arg("--version").output().is_err() {
        eprintln!("without duckdb, the documented query is not run");
        return Ok(());
    }
    let stage = Stage::build().await?;
    let (one, two) = (BroadcastId::generate(), BroadcastId::generate());
    let monday = Utc::now().date_naive().week(chrono::Weekday::Mon).first_day() - Days::new(7);
    let at = |hours: i64| monday.and_time(chrono::NaiveTime::MIN).and_utc() + chrono::TimeDelta::hours(hours);
    let stamp = |time: DateTime<Utc>| pb::Timestamp {
        seconds: time.timestamp(),
        nanos: 0,
    };
    // From two hours before the week; within it; and two hours over its end.
    let mut events = 0;
    for (id, from, to) in [
        (one, -2, 1),
        (one, 10, 14),
        (two, 24 * 7 - 3, 24 * 7 + 2),
        (two, 24 * 7 + 5, 24 * 7 + 6),
    ] {
        let session = Some(pb::status::Session {
            session_id: SessionId::generate().to_string(),
            started_at: Some(stamp(at(from))),
            ..Default::default()
        });
        let started = pb::status::Started {
            session: session.clone(),
        };
        let ended = pb::status::Ended {
            session,
            ended_at: Some(stamp(at(to))),
            ..Default::default()
        };
        for (time, event) in [
            (from, pb::status::Event::Started(started)),
            (to, pb::status::Event::Ended(ended)),
        ] {
            let draft = Draft::new(id, status(event)).time(at(time));
            stage.log.publisher.publish(draft).await?;
            events += 1;
        }
    }
    stage.until(events).await?;
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/log-archive.md");
    let document = std::fs::read_to_string(document)?;
    let query = document
        .split("```sql\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .context("the documentation has no query")?;
    let output = Command::new(&duckdb)
        .args(["-json", "-c", query])
        .current_dir(stage.folder.path())
        .output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let wanted = json!([
        { "broadcast_id": one.to_string(), "hours": 5.0 },
        { "broadcast_id": two.to_string(), "hours": 3.0 },
    ]);
    assert_eq!(found, wanted);
    Ok(())
}
