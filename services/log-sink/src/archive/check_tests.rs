//! The archive, spoilt and mended.

use std::path::PathBuf;

use castlog_log::{BroadcastId, Draft, Kind};
use castlog_projector::Progress;
use castlog_testkit::{
    cut_off,
    events::{every_event, title},
    until,
};
use serde_json::json;

use super::{
    tests::{PATIENCE, Stage, find},
    *,
};

/// An archive of several ranges: ten titles, one message that is none, and the rest.
async fn filled(mut stage: Stage) -> anyhow::Result<(Stage, usize)> {
    stage.config.batch = 4;
    let id = BroadcastId::generate();
    for n in 0..10 {
        let draft = Draft::new(id, title(&format!("title {n}")));
        stage.log.publisher.publish(draft).await?;
    }
    stage.log.publish_garbage(Kind::Title.of(id)).await?;
    for event in every_event() {
        stage.log.publisher.publish(Draft::new(id, event)).await?;
    }
    let rows = stage.until(10 + every_event().len()).await?.len();
    // The last range is done once the hint says so.
    until("all is archived", PATIENCE, || async {
        let store = stage.store().ok()?;
        for stream in STREAMS {
            let (_, last) = stage.log.log.extent(stream).await.ok()?;
            if store.progress(stream).await.ok()? != Some(last + 1) {
                stage.until(rows).await.ok()?;
                return None;
            }
        }
        Some(())
    })
    .await?;
    Ok((stage, rows))
}

async fn lines(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let report = verify(&stage.config, &stage.media()?, &stage.log.log, &Progress::none()).await?;
    assert_eq!((report.written, report.removed), (0, 0), "a look changes nothing");
    Ok(report.differences.lines().to_vec())
}

async fn mend(stage: &Stage) -> anyhow::Result<ArchiveReport> {
    rebuild(&stage.config, &stage.media()?, &stage.log.log, &Progress::none()).await
}

/// The files of a stream, in the order of their ranges.
fn files(stage: &Stage, stream: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    find(&stage.root().join("archive"), &mut files);
    files.retain(|file| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(stream))
    });
    files.sort_by_key(|file| file.file_name().map(ToOwned::to_owned));
    files
}

/// Spoils the archive in every way: files gone, torn, of other entries, there twice; a
/// range gone.
fn spoil(stage: &Stage) -> anyhow::Result<()> {
    let of_info = files(stage, "BROAD_INFO");
    std::fs::remove_file(&of_info[0])?;
    std::fs::write(&of_info[1], "torn")?;
    std::fs::copy(
        &of_info[2],
        of_info[2].with_file_name("BROAD_INFO-00000000000000000077.parquet"),
    )?;
    let of_streams = files(stage, "LIVE_STREAM");
    std::fs::copy(&of_streams[0], &of_streams[1])?;
    std::fs::remove_dir_all(stage.root().join("archive/_ranges/LIVE_SEGMENT"))?;
    Ok(())
}

#[tokio::test]
async fn what_is_spoilt_is_told_and_mended() -> anyhow::Result<()> {
    // In a folder: an S3 server does not expect its files to change beneath it.
    let (stage, rows) = filled(Stage::build().await?).await?;
    assert_eq!(lines(&stage).await?, Vec::<String>::new());
    let whole = stage.rows()?;
    spoil(&stage)?;
    let told = lines(&stage).await?;
    for what in [
        "is missing",
        "cannot be read",
        "BROAD_INFO-00000000000000000077.parquet belongs to no range",
        "where it does not belong",
        "LIVE_SEGMENT 1 to 1: in no range",
    ] {
        let found = told.iter().filter(|line| line.contains(what)).count();
        assert_eq!(found, 1, "{what}: {told:#?}");
    }
    assert_eq!(told.len(), 6, "a file without its range is told of, too: {told:#?}");
    let report = mend(&stage).await?;
    assert_eq!(report.differences.lines(), Vec::<String>::new());
    assert_eq!((report.entries, report.written, report.removed), (rows as u64, 3, 1));
    assert_eq!(lines(&stage).await?, Vec::<String>::new());
    assert_eq!(stage.rows()?, whole);
    // Twice changes nothing, and the archive goes on.
    assert_eq!(mend(&stage).await?.written, 0);
    let draft = Draft::new(BroadcastId::generate(), title("after"));
    stage.log.publisher.publish(draft).await?;
    assert_eq!(stage.until(rows + 1).await?.len(), rows + 1);
    assert_eq!(lines(&stage).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn mending_that_breaks_off_anywhere_is_finished_by_the_next() -> anyhow::Result<()> {
    let (stage, _) = filled(Stage::build().await?).await?;
    let whole = stage.rows()?;
    let (mut cut, mut done) = (0, false);
    for polls in (0..).step_by(5) {
        spoil(&stage)?;
        match cut_off(mend(&stage), polls).await {
            None => cut += 1,
            Some(report) => {
                report?;
                done = true;
            }
        }
        mend(&stage).await?;
        assert_eq!(lines(&stage).await?, Vec::<String>::new());
        assert_eq!(stage.rows()?, whole);
        if done {
            break;
        }
    }
    assert!(cut > 5, "cut off {cut} times");
    Ok(())
}

#[tokio::test]
async fn what_the_streams_have_dropped_is_never_touched() -> anyhow::Result<()> {
    let (stage, _) = filled(Stage::build().await?).await?;
    let whole = stage.rows()?;
    // Of the entries of the stream only the last two are in the log from now on.
    stage
        .log
        .change_stream("BROAD_INFO", &json!({ "max_msgs": 2, "discard": "old" }))
        .await?;
    let (first, last) = stage.log.log.extent("BROAD_INFO").await?;
    assert_eq!(last - first, 1);
    assert_eq!(
        lines(&stage).await?,
        Vec::<String>::new(),
        "rows of what is dropped are right"
    );
    assert_eq!(mend(&stage).await?.written, 0);
    assert_eq!(stage.rows()?, whole);

    // A stray copy of old entries stays, and a lost file of old entries is told of.
    let of_info = files(&stage, "BROAD_INFO");
    let copy = of_info[0].with_file_name("BROAD_INFO-00000000000000000077.parquet");
    std::fs::rename(&of_info[0], &copy)?;
    let report = mend(&stage).await?;
    assert_eq!((report.written, report.removed), (0, 0));
    let left = report.differences.lines();
    assert_eq!(left.len(), 2, "{left:#?}");
    assert!(
        left[0].ends_with("is missing") && left[1].contains("belongs to no range"),
        "{left:#?}"
    );
    assert!(copy.exists());
    Ok(())
}
