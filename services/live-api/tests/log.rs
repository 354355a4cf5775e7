//! The log over HTTP, for those who run castlog.

mod support;

use castlog_log::{BroadcastId, Draft, Kind, dead_letter, pb};
use castlog_testkit::{NatsOptions, TestLog, until};
use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{PATIENCE, Stage, expect, now, problem};

fn title(title: &str) -> pb::Title {
    let changed = pb::title::Changed { title: title.into() };
    pb::Title {
        event: Some(pb::title::Event::Changed(changed)),
    }
}

async fn read(stage: &Stage, path: &str) -> anyhow::Result<Value> {
    expect(stage.admin(Method::GET, path).send().await?, StatusCode::OK).await
}

#[tokio::test]
async fn what_is_in_the_log_is_counted_and_shown() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, created) = stage.create(json!({ "title": "one" })).await?;
    stage.publish(&id, title("two")).await?;
    for path in [
        "/v1/log/streams",
        "/v1/log/subjects?kind=title",
        "/v1/log/streams/BROAD_INFO/entries/1",
        "/v1/log/consumers",
        "/v1/log/dead-letters",
        "/v1/log/dead-letters/attempts",
    ] {
        problem(stage.anonymous(Method::GET, path).send().await?, 401, "A01").await?;
    }
    let streams = read(&stage, "/v1/log/streams").await?;
    let broad = &streams["streams"][0];
    assert_eq!(
        (&broad["name"], &broad["complete"]),
        (&json!("BROAD_INFO"), &json!(true))
    );
    let kinds = broad["kinds"].as_array().unwrap();
    let of_title = kinds.iter().find(|kind| kind["kind"] == "title").unwrap();
    assert_eq!((&of_title["entries"], &of_title["subjects"]), (&json!(2), &json!(1)));

    let subjects = read(&stage, "/v1/log/subjects?kind=title").await?;
    let subject = format!("media.broad_info.title.{id}");
    assert_eq!(subjects["subjects"], json!([{ "subject": subject, "entries": 2 }]));
    problem(
        stage.admin(Method::GET, "/v1/log/subjects?kind=part").send().await?,
        400,
        "A03",
    )
    .await?;

    let sequence = &created["broadcast"]["versions"]["title"];
    let entry = read(&stage, &format!("/v1/log/streams/BROAD_INFO/entries/{sequence}")).await?;
    assert_eq!(entry["entry"]["data"], json!({ "changed": { "title": "one" } }));
    assert!(entry["payload_hex"].as_str().unwrap().contains(&hex::encode("one")));
    let headers = entry["headers"].as_array().unwrap();
    assert!(headers.iter().any(|header| header["name"] == "ce-id"), "{entry}");
    for missing in ["BROAD_INFO/entries/99999", "BROAD_INFO/entries/x", "LEASE/entries/1"] {
        let path = format!("/v1/log/streams/{missing}");
        problem(stage.admin(Method::GET, &path).send().await?, 404, "A20").await?;
    }
    stage.finish().await
}

#[tokio::test]
async fn the_past_comes_first_and_then_what_happens() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, created) = stage.create(json!({ "title": "one" })).await?;
    let first = &created["broadcast"]["versions"]["title"];
    let path = format!("/v1/events?kind=title&from_seq={first}&stream=BROAD_INFO");
    let response = stage.admin(Method::GET, &path).send().await?.error_for_status()?;
    stage.publish(&id, title("two")).await?;
    let (mut body, mut text) = (response.bytes_stream(), String::new());
    while !text.contains("\"two\"") {
        let chunk = tokio::time::timeout(PATIENCE, body.next()).await?;
        text.push_str(std::str::from_utf8(&chunk.unwrap()?)?);
    }
    assert!(text.find("\"one\"").unwrap() < text.find("\"two\"").unwrap(), "{text}");

    let titles = expect(
        stage
            .anonymous(Method::GET, &format!("/v1/broadcasts/{id}/titles"))
            .send()
            .await?,
        StatusCode::OK,
    )
    .await?;
    let had: Vec<_> = titles["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["title"])
        .collect();
    assert_eq!(had, ["one", "two"]);
    let (private, _, _) = stage
        .create(json!({ "title": "mine", "options": { "visibility": "private" } }))
        .await?;
    let path = format!("/v1/broadcasts/{private}/titles");
    problem(stage.anonymous(Method::GET, &path).send().await?, 404, "A05").await?;
    stage.finish().await
}

#[tokio::test]
async fn sessions_that_are_over_are_recordings_where_they_are_kept() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let created = |record: bool, visibility: &str| json!({ "title": "one", "options": { "record": record, "visibility": visibility } });
    let (kept, _, _) = stage.create(created(true, "public")).await?;
    let (lost, _, _) = stage.create(created(false, "public")).await?;
    let (private, _, _) = stage.create(created(true, "private")).await?;
    for id in [&kept, &lost, &private] {
        // Each is over when the next one begins.
        for _ in 0..3 {
            stage.go_live(id).await?;
        }
    }
    let path = |id: &str| format!("/v1/broadcasts/{id}/recordings");
    let recordings = async |request: reqwest::RequestBuilder| {
        let answer = expect(request.send().await?, StatusCode::OK).await?;
        anyhow::Ok(answer["items"].as_array().unwrap().clone())
    };
    let items = recordings(stage.anonymous(Method::GET, &path(&kept))).await?;
    assert_eq!(items.len(), 2, "the third is on the air: {items:?}");
    assert!(
        items[0]["started_at"].as_str() >= items[1]["started_at"].as_str(),
        "the newest first"
    );
    for item in &items {
        let session = item["session_id"].as_str().unwrap();
        let url = item["playback_url"].as_str().unwrap();
        assert!(
            url.ends_with(&format!("/recordings/{kept}/{session}/index.m3u8")),
            "{url}"
        );
    }
    assert_eq!(recordings(stage.anonymous(Method::GET, &path(&lost))).await?.len(), 0);
    assert_eq!(recordings(stage.admin(Method::GET, &path(&private))).await?.len(), 2);
    problem(stage.anonymous(Method::GET, &path(&private)).send().await?, 404, "A05").await?;
    stage.finish().await
}

#[tokio::test]
async fn the_past_of_several_streams_is_merged_by_time() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "0" })).await?;
    for n in 1..20 {
        stage.publish(&id, title(&n.to_string())).await?;
        stage.go_live(&id).await?;
    }
    let path = format!("/v1/events?broadcast={id}&kind=title&kind=status&from_time=1970-01-01T00:00:00Z");
    let response = stage.admin(Method::GET, &path).send().await?.error_for_status()?;
    let (mut body, mut text) = (response.bytes_stream(), String::new());
    while text.matches("\ndata:").count() < 39 {
        let chunk = tokio::time::timeout(PATIENCE, body.next()).await?;
        text.push_str(std::str::from_utf8(&chunk.unwrap()?)?);
    }
    let kinds: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds[0], "title");
    assert_eq!(kinds[1..], ["title", "status"].repeat(19), "{text}");

    // Who comes back in the middle sees the rest of both.
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let again = stage
        .admin(Method::GET, &path)
        .header("last-event-id", ids[ids.len() - 4]);
    let mut body = again.send().await?.error_for_status()?.bytes_stream();
    let mut rest = String::new();
    while rest.matches("\ndata:").count() < 3 {
        let chunk = tokio::time::timeout(PATIENCE, body.next()).await?;
        rest.push_str(std::str::from_utf8(&chunk.unwrap()?)?);
    }
    let kinds: Vec<&str> = rest.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(kinds, ["status", "title", "status"], "{rest}");
    stage.finish().await
}

#[tokio::test]
async fn health_is_a_series_of_samples() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    for bitrate in [1000, 2000] {
        let sampled = pb::health::Sampled {
            bitrate,
            window_ms: 5000,
            ..Default::default()
        };
        let event = Some(pb::health::Event::Sampled(sampled));
        stage.publish(&id, pb::Health { event }).await?;
    }
    let path = format!("/v1/broadcasts/{id}/health");
    let health = read(&stage, &format!("{path}?minutes=5")).await?;
    let rates: Vec<_> = health["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["bitrate"])
        .collect();
    assert_eq!(rates, [1000, 2000]);
    problem(stage.anonymous(Method::GET, &path).send().await?, 401, "A01").await?;
    problem(
        stage.admin(Method::GET, &format!("{path}?minutes=0")).send().await?,
        400,
        "A03",
    )
    .await?;
    stage.finish().await
}

#[tokio::test]
async fn a_dead_letter_is_tried_again_over_http() -> anyhow::Result<()> {
    let test = TestLog::start(NatsOptions::default()).await?;
    let late = BroadcastId::generate();
    let registration = pb::Registration {
        event: Some(pb::registration::Event::Created(pb::registration::Created {
            owner: "admin".into(),
            created_at: Some(now()),
        })),
    };
    test.publisher.publish(Draft::new(late, title("late"))).await?;
    // As versions did that had a bug.
    for consumer in ["live_info", "indexer"] {
        let mut durable = test.log.durable(Kind::Title.stream(), consumer, 10);
        let delivery = durable.next().await?;
        dead_letter::bury(&test.log, consumer, &delivery, "L08: cannot be applied").await?;
    }
    test.publisher.publish(Draft::new(late, registration)).await?;
    test.publish_garbage(Kind::Title.of(BroadcastId::generate())).await?;
    let stage = Stage::build_on(test).await?;

    let letters = until("two letters", PATIENCE, || async {
        let letters = read(&stage, "/v1/log/dead-letters?consumer=live_info").await.ok()?;
        (letters["items"].as_array()?.len() == 2).then_some(letters)
    })
    .await?;
    let id = |place: usize| letters["items"][place]["id"].as_u64().unwrap();
    let whole = read(&stage, &format!("/v1/log/dead-letters/{}", id(0))).await?;
    assert_eq!(whole["data"], json!({ "changed": { "title": "late" } }));
    assert_eq!(whole["reason"], "L08: cannot be applied");
    let consumers = read(&stage, "/v1/log/consumers").await?;
    let consumer = consumers["consumers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|consumer| consumer["name"] == "live_info" && consumer["stream"] == "BROAD_INFO")
        .unwrap()
        .clone();
    assert_eq!(
        (&consumer["dead_letters"], &consumer["pending"]),
        (&json!(2), &json!(0))
    );

    let redrive = |id: u64| {
        stage
            .admin(Method::POST, &format!("/v1/log/dead-letters/{id}/redrive"))
            .send()
    };
    let anonymous = stage.anonymous(Method::POST, &format!("/v1/log/dead-letters/{}/redrive", id(0)));
    problem(anonymous.send().await?, 401, "A01").await?;
    assert_eq!(redrive(id(0)).await?.status(), StatusCode::NO_CONTENT);
    let broadcast = read(&stage, &format!("/v1/broadcasts/{late}")).await?;
    assert_eq!(broadcast["title"], "late");
    problem(redrive(id(0)).await?, 404, "A20").await?;
    // Garbage stays what it is.
    problem(redrive(id(1)).await?, 409, "A21").await?;
    // No indexer runs.
    let others = read(&stage, "/v1/log/dead-letters?consumer=indexer").await?;
    problem(redrive(others["items"][0]["id"].as_u64().unwrap()).await?, 503, "A22").await?;
    let left = read(&stage, "/v1/log/dead-letters?consumer=live_info").await?;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    // Each attempt is on record, and no letter itself.
    let attempts = read(&stage, "/v1/log/dead-letters/attempts").await?;
    let attempts = attempts["items"].as_array().unwrap();
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|attempt| (&attempt["letter"], &attempt["outcome"]))
        .collect();
    let others = &others["items"][0]["id"];
    assert_eq!(
        outcomes,
        [
            (others, &json!("kept")),
            (&json!(id(1)), &json!("kept")),
            (&json!(id(0)), &json!("applied"))
        ]
    );
    let by = attempts[0]["by"].as_str().unwrap();
    assert!(by.starts_with("admin, by the token, request 0"), "{by}");
    assert!(
        attempts[0]["reason"]
            .as_str()
            .unwrap()
            .contains("no instance of indexer"),
        "{attempts:?}"
    );
    let record = format!("/v1/log/dead-letters/{}", left["items"][0]["id"].as_u64().unwrap() + 2);
    problem(stage.admin(Method::GET, &record).send().await?, 404, "A20").await?;
    problem(
        stage
            .admin(Method::GET, "/v1/log/dead-letters?consumer=a.b")
            .send()
            .await?,
        400,
        "A03",
    )
    .await?;
    stage.finish().await
}
