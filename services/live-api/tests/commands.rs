//! Commands: what goes into the log, and what the caller is told.

mod support;

use std::time::Duration;

use castlog_log::{Event, Followed, From, Kind, pb};
use castlog_testkit::{NatsOptions, TestLog, changes, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{PATIENCE, Stage, expect, problem};

#[tokio::test]
async fn a_broadcast_from_creation_to_deletion() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let body = json!({ "title": " 롤 랭크 ", "tags": ["lol", " lol", "한국어"], "options": { "language": "ko", "ladder": [480, 720] } });
    let response = stage
        .admin(Method::POST, "/v1/broadcasts?wait=applied")
        .json(&body)
        .send()
        .await?;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let location = response.headers()["location"].to_str()?.to_owned();
    let created = expect(response, StatusCode::CREATED).await?;
    let (broadcast, key) = (&created["broadcast"], created["publish_key"].as_str().unwrap());
    let id = broadcast["id"].as_str().unwrap();
    assert_eq!(location, format!("/v1/broadcasts/{id}"));
    assert!(key.starts_with("ck_") && key.len() == 35);
    assert_eq!(created["ingest"], json!({ "rtmp_url": "rtmp://127.0.0.1:1935/live" }));
    assert_eq!(broadcast["title"], "롤 랭크");
    assert_eq!(broadcast["tags"], json!(["lol", "한국어"]));
    assert_eq!(broadcast["options"]["ladder"], json!([720, 480]));
    assert_eq!(broadcast["options"]["visibility"], "public");
    assert_eq!(broadcast["status"]["state"], "idle");
    assert_eq!(broadcast["metadata"], Value::Null);
    assert_eq!(
        broadcast["playback_url"],
        format!("http://127.0.0.1:8081/live/{id}/index.m3u8")
    );
    assert_eq!(broadcast["publish_key"]["state"], "issued");

    // What the view shows is what the creation said.
    let read = expect(stage.anonymous(Method::GET, &location).send().await?, StatusCode::OK).await?;
    assert_eq!(&read, broadcast);
    // The key is issued last, and the registration after all that it makes visible.
    let version = |kind: &str| broadcast["versions"][kind].as_u64().unwrap();
    assert!(version("registration") > version("title").max(version("tags")).max(version("options")));
    assert!(version("publish_key") > version("registration"));

    let put = |path: &str, body: Value| {
        stage
            .admin(Method::PUT, &format!("{location}/{path}"))
            .json(&body)
            .send()
    };
    let response = put("title?wait=applied", json!({ "title": "new" })).await?;
    let etag = response.headers()["etag"].to_str()?.to_owned();
    let changed = expect(response, StatusCode::OK).await?;
    assert_eq!(changed["applied"], true);
    assert_eq!(etag, format!("\"{}\"", changed["sequence"]));
    expect(put("tags?wait=applied", json!({ "tags": [] })).await?, StatusCode::OK).await?;
    let options =
        json!({ "category": "game", "record": true, "second_publisher": "take_over", "container": "mpeg_ts" });
    expect(put("options?wait=applied", options).await?, StatusCode::OK).await?;
    let read = expect(stage.anonymous(Method::GET, &location).send().await?, StatusCode::OK).await?;
    assert_eq!((&read["title"], &read["tags"]), (&json!("new"), &json!([])));
    assert_eq!(read["versions"]["title"], changed["sequence"]);
    assert_eq!(
        (&read["options"]["category"], &read["options"]["language"]),
        (&json!("game"), &json!(""))
    );
    assert_eq!(read["options"]["second_publisher"], "take_over");

    let rotate = stage
        .admin(Method::POST, &format!("{location}/publish-key/rotate?wait=applied"))
        .send()
        .await?;
    let rotated = expect(rotate, StatusCode::OK).await?;
    let new_key: castlog_log::PublishKey = rotated["publish_key"].as_str().unwrap().parse()?;
    assert_ne!(new_key.expose(), key);
    let entry = stage.last(id, Kind::PublishKey).await?.unwrap();
    let Event::PublishKey(pb::PublishKey {
        event: Some(pb::publish_key::Event::Rotated(event)),
    }) = entry.event
    else {
        panic!("{entry:?}");
    };
    assert_eq!(event.key_hash, new_key.hash().as_str());

    let revoke = || {
        stage
            .admin(Method::DELETE, &format!("{location}/publish-key?wait=applied"))
            .send()
    };
    let revoked = expect(revoke().await?, StatusCode::OK).await?;
    let again = expect(revoke().await?, StatusCode::OK).await?;
    assert_eq!(revoked["sequence"], again["sequence"]);
    let read = expect(stage.anonymous(Method::GET, &location).send().await?, StatusCode::OK).await?;
    assert_eq!(read["publish_key"]["state"], "revoked");

    expect(
        stage
            .admin(Method::DELETE, &format!("{location}?wait=applied"))
            .send()
            .await?,
        StatusCode::OK,
    )
    .await?;
    problem(stage.admin(Method::GET, &location).send().await?, 404, "A05").await?;
    problem(put("title", json!({ "title": "late" })).await?, 404, "A05").await?;
    problem(stage.admin(Method::DELETE, &location).send().await?, 404, "A05").await?;
    stage.finish().await
}

#[tokio::test]
async fn a_condition_must_hold() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, created) = stage.create(json!({ "title": "one" })).await?;
    let version = created["broadcast"]["versions"]["title"].as_u64().unwrap();
    let put = |title: &str, if_match: String| {
        let path = format!("/v1/broadcasts/{id}/title");
        stage
            .admin(Method::PUT, &path)
            .header("if-match", if_match)
            .json(&json!({ "title": title }))
            .send()
    };
    let changed = expect(put("two", format!("\"{version}\"")).await?, StatusCode::OK).await?;
    let detail = problem(put("three", format!("\"{version}\"")).await?, 412, "A10").await?;
    assert!(detail.contains(&changed["sequence"].to_string()), "{detail}");
    let entry = stage.last(&id, Kind::Title).await?.unwrap();
    assert_eq!(entry.event.to_json(), json!({ "changed": { "title": "two" } }));
    expect(put("four", "*".to_owned()).await?, StatusCode::OK).await?;
    problem(put("five", "12".to_owned()).await?, 400, "A03").await?;

    for (method, path) in [
        (Method::POST, "/publish-key/rotate"),
        (Method::DELETE, "/publish-key"),
        (Method::DELETE, ""),
    ] {
        let request = stage
            .admin(method, &format!("/v1/broadcasts/{id}{path}"))
            .header("if-match", "\"1\"");
        problem(request.send().await?, 412, "A10").await?;
    }
    stage.finish().await
}

#[tokio::test]
async fn a_repeated_request_changes_nothing() -> anyhow::Result<()> {
    // A server that has forgotten the ids of entries when the requests come again.
    let log = TestLog::start(NatsOptions::default()).await?;
    let window = json!({ "duplicate_window": 100_000_000 });
    log.change_stream("BROAD_INFO", &window).await?;
    let stage = Stage::build_on(log).await?;
    let forgotten = || tokio::time::sleep(Duration::from_millis(300));
    let create = |title: &str| {
        let request = stage
            .admin(Method::POST, "/v1/broadcasts")
            .header("idempotency-key", "order-1");
        request.json(&json!({ "title": title, "tags": ["a"] })).send()
    };
    let first = expect(create("one").await?, StatusCode::CREATED).await?;
    let second = expect(create("one").await?, StatusCode::OK).await?;
    assert_eq!(first["broadcast"], second["broadcast"]);
    assert!(first["publish_key"].is_string() && first["hint"].is_null());
    assert!(second["publish_key"].is_null() && second["hint"].is_string());
    problem(create("other").await?, 422, "A11").await?;

    let id = first["broadcast"]["id"].as_str().unwrap();
    let path = |rest: &str| format!("/v1/broadcasts/{id}{rest}");
    let title = |key: &str, title: &str| {
        let request = stage.admin(Method::PUT, &path("/title")).header("idempotency-key", key);
        request.json(&json!({ "title": title })).send()
    };
    let changed = expect(title("t-1", "two").await?, StatusCode::OK).await?;
    assert_eq!(expect(title("t-1", "two").await?, StatusCode::OK).await?, changed);
    problem(title("t-1", "three").await?, 422, "A11").await?;
    // After another change the first request is still known, and does not undo it.
    expect(title("t-2", "three").await?, StatusCode::OK).await?;
    forgotten().await;
    assert_eq!(expect(title("t-1", "two").await?, StatusCode::OK).await?, changed);
    problem(title("t-1", "four").await?, 422, "A11").await?;
    assert_eq!(
        stage.last(id, Kind::Title).await?.unwrap().event.to_json()["changed"]["title"],
        "three"
    );

    let rotate = || {
        stage
            .admin(Method::POST, &path("/publish-key/rotate"))
            .header("idempotency-key", "k-1")
            .send()
    };
    let rotated = expect(rotate().await?, StatusCode::OK).await?;
    let repeated = expect(rotate().await?, StatusCode::OK).await?;
    assert_eq!(rotated["sequence"], repeated["sequence"]);
    assert!(rotated["publish_key"].is_string() && repeated["publish_key"].is_null());
    // The same key on another operation is another request.
    let revoke = || {
        stage
            .admin(Method::DELETE, &path("/publish-key"))
            .header("idempotency-key", "k-1")
            .send()
    };
    let revoked = expect(revoke().await?, StatusCode::OK).await?;
    assert_ne!(revoked["sequence"], rotated["sequence"]);
    forgotten().await;
    let repeated = expect(rotate().await?, StatusCode::OK).await?;
    assert_eq!(rotated["sequence"], repeated["sequence"]);
    assert!(repeated["publish_key"].is_null());
    // A revocation that comes again does not void a key that was made since.
    let newer = stage.admin(Method::POST, &path("/publish-key/rotate")).send().await?;
    let newer = expect(newer, StatusCode::OK).await?;
    forgotten().await;
    assert_eq!(expect(revoke().await?, StatusCode::OK).await?, revoked);
    let last = stage.last(id, Kind::PublishKey).await?.unwrap();
    assert_eq!(Some(last.sequence()), newer["sequence"].as_u64());

    let delete = || {
        stage
            .admin(Method::DELETE, &path(""))
            .header("idempotency-key", "d-1")
            .send()
    };
    let deleted = expect(delete().await?, StatusCode::OK).await?;
    assert_eq!(expect(delete().await?, StatusCode::OK).await?, deleted);
    problem(create("one").await?, 422, "A11").await?;
    stage.finish().await
}

#[tokio::test]
async fn of_requests_at_once_with_one_key_one_gets_the_publish_key() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let create = || {
        let request = stage
            .admin(Method::POST, "/v1/broadcasts")
            .header("idempotency-key", "race");
        request.json(&json!({ "title": "one" })).send()
    };
    let answers = futures::future::try_join_all((0..8).map(|_| create())).await?;
    let (mut keys, mut ids) = (Vec::new(), Vec::new());
    for answer in answers {
        let body: Value = answer.error_for_status()?.json().await?;
        ids.push(body["broadcast"]["id"].as_str().unwrap().to_owned());
        keys.extend(body["publish_key"].as_str().map(str::to_owned));
    }
    ids.dedup();
    assert_eq!((ids.len(), keys.len()), (1, 1));
    let key: castlog_log::PublishKey = keys[0].parse()?;
    let entry = stage.last(&ids[0], Kind::PublishKey).await?.unwrap();
    assert_eq!(entry.event.to_json()["issued"]["keyHash"], key.hash().as_str());
    stage.finish().await
}

#[tokio::test]
async fn no_publish_key_is_ever_in_the_log() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, first, _) = stage.create(json!({ "title": "one" })).await?;
    let path = format!("/v1/broadcasts/{id}/publish-key/rotate");
    let rotated = expect(stage.admin(Method::POST, &path).send().await?, StatusCode::OK).await?;
    let second = rotated["publish_key"].as_str().unwrap().to_owned();

    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut hashes = 0;
    for stream in ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"] {
        let mut follow = stage.log.follow(stream, &[], From::Beginning);
        loop {
            match follow.next().await? {
                Followed::Entry(entry) => {
                    let text = format!("{entry:?} {}", entry.to_json());
                    for bytes in [text.as_bytes(), &entry.event.encode()] {
                        assert!(!holds(bytes, &first) && !holds(bytes, &second), "{text}");
                    }
                    hashes += usize::from(entry.subject.kind == Kind::PublishKey);
                }
                Followed::CaughtUp => break,
                Followed::Undecodable(message) => panic!("{message:?}"),
            }
        }
    }
    assert_eq!(hashes, 2);
    // Nor is it on the disk of the log in any other way.
    let mut files = vec![stage.nats.store()];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path)?.filter_map(|e| e.ok().map(|e| e.path())));
        } else if let Ok(bytes) = std::fs::read(&path) {
            assert!(!holds(&bytes, &first) && !holds(&bytes, &second), "{}", path.display());
            read += usize::from(holds(&bytes, &format!("media.broad_info.publish_key.{id}")));
        }
    }
    assert!(read > 0, "the search looked at the right files");
    stage.finish().await
}

#[tokio::test]
async fn commands_work_without_the_views() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    stage.redis.kill9();
    let path = format!("/v1/broadcasts/{id}");
    let put = stage
        .admin(Method::PUT, &format!("{path}/title"))
        .json(&json!({ "title": "two" }))
        .send()
        .await?;
    expect(put, StatusCode::OK).await?;
    let body = json!({ "title": "three" });
    let request = || {
        stage
            .admin(Method::POST, "/v1/broadcasts")
            .header("idempotency-key", "k")
            .json(&body)
            .send()
    };
    expect(request().await?, StatusCode::CREATED).await?;
    expect(request().await?, StatusCode::OK).await?;
    problem(stage.admin(Method::GET, &path).send().await?, 503, "A13").await?;
    problem(stage.admin(Method::GET, "/v1/broadcasts").send().await?, 503, "A13").await?;
    // Waiting for the view gives up, and the change counts.
    let put = stage
        .admin(Method::PUT, &format!("{path}/tags?wait=applied"))
        .json(&json!({ "tags": ["x"] }))
        .send()
        .await?;
    assert_eq!(expect(put, StatusCode::ACCEPTED).await?["applied"], false);
    assert_eq!(
        stage.last(&id, Kind::Tags).await?.unwrap().event.to_json(),
        json!({ "changed": { "tags": ["x"] } })
    );

    stage.redis.restart().await?;
    castlog_testkit::until("reading again", support::PATIENCE, || async {
        stage
            .admin(Method::GET, "/v1/broadcasts")
            .send()
            .await
            .ok()
            .filter(|r| r.status().is_success())
    })
    .await?;
    stage.finish().await
}

#[tokio::test]
async fn a_callers_trace_context_goes_with_the_entry_and_its_change() -> anyhow::Result<()> {
    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "x" })).await?;
    for (given, kept) in [(CONTEXT, Some(CONTEXT)), ("no context", None)] {
        let path = format!("/v1/broadcasts/{id}/title?wait=applied");
        let request = stage.admin(Method::PUT, &path).header("traceparent", given);
        expect(request.json(&json!({ "title": given })).send().await?, StatusCode::OK).await?;
        let entry = stage.last(&id, Kind::Title).await?.unwrap();
        assert_eq!(entry.traceparent.as_deref(), kept);
        let name = format!("BROAD_INFO-{}", entry.sequence());
        let change = until("the change", PATIENCE, || async {
            let changes = changes(&stage.log).await.ok()?;
            changes.into_iter().find(|change| change.id == name)
        })
        .await?;
        assert_eq!(change.traceparent.as_deref(), kept);
    }
    stage.finish().await
}
