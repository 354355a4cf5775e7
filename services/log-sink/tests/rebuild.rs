//! The searchable log compared with the streams, and mended from them.

mod support;

use castlog_log::{BroadcastId, Draft, Kind, pb};
use castlog_log_sink::{Config, Report, rebuild, verify};
use castlog_projector::Progress;
use castlog_testkit::{
    cut_off,
    events::{every_event, tags},
    until,
};
use chrono::Utc;
use serde_json::{Value, json};
use support::{PATIENCE, Stage, title};

/// A log of many kinds, some of it past the retention, some of it no entry; all that
/// can be found is found.
async fn filled(stage: &Stage) -> anyhow::Result<Vec<Value>> {
    let id = BroadcastId::generate();
    for event in every_event() {
        stage.log.publisher.publish(Draft::new(id, event)).await?;
    }
    stage.log.publish_garbage(Kind::Title.of(id)).await?;
    let long_ago = "2024-01-31T12:00:00Z".parse()?;
    stage
        .log
        .publisher
        .publish(Draft::new(id, title("old")).time(long_ago))
        .await?;
    for n in 0..40 {
        let event = if n % 2 == 0 { title("more") } else { tags(&["more"]) };
        stage.log.publisher.publish(Draft::new(id, event)).await?;
    }
    let sink = stage.start(stage.config.clone())?;
    let documents = stage.documents(every_event().len() + 40).await?;
    until("all is acknowledged", PATIENCE, || async {
        let mut open = 0;
        for stream in ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"] {
            let backlog = stage.log.log.backlog(stream, "log_sink").await.ok()?;
            open += backlog.pending + backlog.unacked;
        }
        (open == 0).then_some(())
    })
    .await?;
    sink.finish().await?;
    Ok(documents)
}

async fn lines(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let differences = verify(&stage.config, &stage.log.log, &Progress::none()).await?;
    assert_eq!(differences.len(), u64::try_from(differences.lines().len())?);
    Ok(differences.lines().to_vec())
}

async fn mend(stage: &Stage) -> anyhow::Result<Report> {
    rebuild(&stage.config, &stage.log.log, &Progress::none()).await
}

/// Spoils what is stored: some documents gone, one changed, one of no entry, one of an
/// entry that is yet to come, and a whole index gone.
async fn spoil(stage: &Stage, documents: &[Value]) -> anyhow::Result<()> {
    let client = stage.meili.client()?;
    let today = Utc::now().format("%Y-%m-%d");
    let info = client.index(format!("log-broad_info-{today}"));
    let of_info: Vec<&Value> = documents.iter().filter(|d| d["class"] == "broad_info").collect();
    let gone: Vec<String> = of_info[3..6]
        .iter()
        .filter_map(|d| d["id"].as_str().map(str::to_owned))
        .collect();
    stage.meili.done(info.delete_documents(&gone).await?).await?;
    let mut changed = of_info[0].clone();
    changed["data"] = json!({ "changed": { "title": "spoilt" } });
    let mut stray = of_info[1].clone();
    (stray["id"], stray["seq"]) = (json!("BROAD_INFO-4000"), json!(4000));
    let foreign = json!({ "id": "somebody-s" });
    let task = info.add_or_replace(&[changed, stray, foreign], Some("id")).await?;
    stage.meili.done(task).await?;
    let task = client.delete_index(format!("log-live_stream-{today}")).await?;
    stage.meili.done(task).await
}

#[tokio::test]
async fn what_is_spoilt_is_told_and_mended() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let documents = filled(&stage).await?;
    assert_eq!(lines(&stage).await?, Vec::<String>::new());
    let entries = u64::try_from(documents.len())?;
    let untouched = Report {
        entries,
        ..Report::default()
    };
    assert_eq!(mend(&stage).await?, untouched);

    spoil(&stage, &documents).await?;
    let told = lines(&stage).await?;
    let of_streams = documents.iter().filter(|d| d["class"] == "live_stream").count();
    assert_eq!(told.len(), 6 + of_streams, "{told:#?}");
    for (what, count) in [
        ("not in index log-broad_info", 3),
        ("data is {\"changed\":{\"title\":\"spoilt\"}}, the log says", 1),
        ("BROAD_INFO-4000 in index", 1),
        ("no entry's document", 1),
    ] {
        let found = told.iter().filter(|line| line.contains(what)).count();
        assert_eq!(found, count, "{what}: {told:#?}");
    }
    let report = mend(&stage).await?;
    let written = u64::try_from(4 + of_streams)?;
    assert_eq!((report.entries, report.written, report.removed), (entries, written, 2));
    assert_eq!(lines(&stage).await?, Vec::<String>::new());
    assert_eq!(stage.documents(documents.len()).await?, documents);
    let today = Utc::now().format("%Y-%m-%d");
    let index = format!("log-live_stream-{today}");
    let found = stage.meili.search(&index, "", "kind = segment").await?;
    assert_eq!(found.len(), 1, "an index that is made again has its settings");
    Ok(())
}

#[tokio::test]
async fn a_rebuild_that_breaks_off_anywhere_is_finished_by_the_next() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let documents = filled(&stage).await?;
    let (mut cut, mut whole) = (0, 0);
    for polls in (0..).step_by(9) {
        spoil(&stage, &documents).await?;
        match cut_off(mend(&stage), polls).await {
            None => cut += 1,
            Some(report) => {
                report?;
                whole += 1;
            }
        }
        mend(&stage).await?;
        assert_eq!(lines(&stage).await?, Vec::<String>::new());
        if whole > 0 {
            break;
        }
    }
    assert!(cut > 2, "cut off {cut} times");
    assert_eq!(stage.documents(documents.len()).await?, documents);
    Ok(())
}

#[tokio::test]
async fn what_the_streams_have_dropped_stays() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let documents = filled(&stage).await?;
    let id = BroadcastId::generate();
    // The stream keeps one entry from now on; the search keeps all.
    stage
        .log
        .change_stream("LIVE_TELEMETRY", &json!({ "max_msgs": 1 }))
        .await?;
    let sink = stage.start(Config::clone(&stage.config))?;
    for edge in ["a", "b"] {
        let counted = pb::viewers::Counted {
            edge: edge.to_owned(),
            concurrent: 1,
        };
        let event = pb::Viewers {
            event: Some(pb::viewers::Event::Counted(counted)),
        };
        stage.log.publisher.publish(Draft::new(id, event)).await?;
        let count = documents.len() + if edge == "a" { 1 } else { 2 };
        stage.documents(count).await?;
    }
    let kept = stage.documents(documents.len() + 2).await?;
    // Searches, verifications and rebuilds beside a sink that runs.
    let (first, last) = stage.log.log.extent("LIVE_TELEMETRY").await?;
    assert_eq!((first, last), (4, 4));
    assert_eq!(lines(&stage).await?, Vec::<String>::new());
    assert_eq!(mend(&stage).await?.removed, 0);
    assert_eq!(stage.documents(kept.len()).await?, kept);
    sink.finish().await
}
