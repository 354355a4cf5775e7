//! Queries: who sees what, and the pages around the API.

mod support;

use castlog_log::pb;
use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{PATIENCE, Stage, expect, now, problem};

fn ids(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["id"].as_str()).collect()
}

#[tokio::test]
async fn who_sees_which_broadcast() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (idle, _, _) = stage.create(json!({ "title": "idle" })).await?;
    let (live, _, _) = stage.create(json!({ "title": "live" })).await?;
    let private = json!({ "title": "private", "options": { "visibility": "private" } });
    let (private, _, _) = stage.create(private).await?;
    stage.go_live(&live).await?;
    stage.go_live(&private).await?;

    let list = |path: &'static str, admin: bool| {
        let request = if admin {
            stage.admin(Method::GET, path)
        } else {
            stage.anonymous(Method::GET, path)
        };
        async move { expect(request.send().await?, StatusCode::OK).await }
    };
    castlog_testkit::until("both are live", PATIENCE, || async {
        let found = list("/v1/broadcasts?state=live", true).await.ok()?;
        (ids(&found).len() == 2).then_some(())
    })
    .await?;
    assert_eq!(ids(&list("/v1/broadcasts?state=live&limit=50", false).await?), [&live]);
    assert_eq!(ids(&list("/v1/broadcasts", false).await?), [&live]);
    assert_eq!(ids(&list("/v1/broadcasts", true).await?).len(), 3);
    assert_eq!(ids(&list("/v1/broadcasts?limit=1", true).await?).len(), 1);
    assert_eq!(ids(&list("/v1/broadcasts?state=idle", true).await?), [&idle]);
    assert!(ids(&list("/v1/broadcasts?state=ended", true).await?).is_empty());
    problem(
        stage
            .anonymous(Method::GET, "/v1/broadcasts?state=ended")
            .send()
            .await?,
        401,
        "A01",
    )
    .await?;

    let read = |id: &str| format!("/v1/broadcasts/{id}");
    expect(stage.anonymous(Method::GET, &read(&idle)).send().await?, StatusCode::OK).await?;
    problem(stage.anonymous(Method::GET, &read(&private)).send().await?, 404, "A05").await?;
    expect(stage.admin(Method::GET, &read(&private)).send().await?, StatusCode::OK).await?;
    problem(
        stage.anonymous(Method::GET, &read("nonsense")).send().await?,
        404,
        "A05",
    )
    .await?;
    stage.finish().await
}

#[tokio::test]
async fn a_broadcast_shows_its_session_and_its_renditions() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    stage.go_live(&id).await?;
    let produced = pb::metadata::Produced {
        session_id: "s".into(),
        video: Some(pb::metadata::SourceVideo {
            codec: "avc1.4d401f".into(),
            width: 1280,
            height: 720,
            frame_rate_milli: 30_000,
            bitrate: 0,
        }),
        audio: None,
        renditions: vec![pb::Rendition {
            name: "source".into(),
            kind: pb::RenditionKind::Video.into(),
            height: 720,
            ..Default::default()
        }],
        ..Default::default()
    };
    stage
        .publish(
            &id,
            pb::Metadata {
                event: Some(pb::metadata::Event::Produced(produced)),
            },
        )
        .await?;
    let path = format!("/v1/broadcasts/{id}");
    let read = || async {
        let response = stage.anonymous(Method::GET, &path).send().await.ok()?;
        let etag = response.headers()["etag"].to_str().ok()?.to_owned();
        let body: Value = response.json().await.ok()?;
        (!body["metadata"].is_null()).then_some((etag, body))
    };
    let (etag, body) = castlog_testkit::until("metadata", PATIENCE, read).await?;
    assert_eq!(body["status"]["state"], "live");
    assert!(body["status"]["started_at"].is_string() && body["status"]["ended_at"].is_null());
    assert_eq!(body["metadata"]["video"]["codec"], "avc1.4d401f");
    assert_eq!(body["metadata"]["audio"], Value::Null);
    assert_eq!(body["metadata"]["renditions"][0]["kind"], "video");

    let again = stage
        .anonymous(Method::GET, &path)
        .header("if-none-match", &etag)
        .send()
        .await?;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let ended = pb::status::Ended {
        ended_at: Some(now()),
        ..Default::default()
    };
    stage
        .publish(
            &id,
            pb::Status {
                event: Some(pb::status::Event::Ended(ended)),
            },
        )
        .await?;
    castlog_testkit::until("the end", PATIENCE, || async {
        let again = stage
            .anonymous(Method::GET, &path)
            .header("if-none-match", &etag)
            .send()
            .await
            .ok()?;
        let body: Value = again.json().await.ok()?;
        (body["status"]["state"] == "ended").then_some(())
    })
    .await?;
    stage.finish().await
}

#[tokio::test]
async fn the_log_can_be_followed_and_picked_up_again() -> anyhow::Result<()> {
    let config = castlog_live_api::Config {
        max_event_readers: 1,
        ..Default::default()
    };
    let stage = Stage::build_with(config).await?;
    let (id, _, _) = stage.create(json!({ "title": "before" })).await?;
    let path = format!("/v1/events?broadcast={id}&kind=title&kind=status");
    problem(stage.anonymous(Method::GET, &path).send().await?, 401, "A01").await?;
    problem(
        stage.admin(Method::GET, "/v1/events?kind=part").send().await?,
        400,
        "A03",
    )
    .await?;

    let response = stage.admin(Method::GET, &path).send().await?.error_for_status()?;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    problem(stage.admin(Method::GET, &path).send().await?, 503, "A17").await?;
    let put = |title: &'static str| {
        let path = format!("/v1/broadcasts/{id}/title");
        stage.admin(Method::PUT, &path).json(&json!({ "title": title })).send()
    };
    expect(put("during").await?, StatusCode::OK).await?;
    let tags = stage
        .admin(Method::PUT, &format!("/v1/broadcasts/{id}/tags"))
        .json(&json!({ "tags": ["x"] }));
    expect(tags.send().await?, StatusCode::OK).await?;
    stage.go_live(&id).await?;

    let text = read_until(response, |text| text.contains("event: status")).await?;
    assert!(
        text.contains("event: title") && text.contains("during") && !text.contains("before"),
        "{text}"
    );
    assert!(!text.contains("event: tags"), "{text}");

    // The reader is gone; what happened since comes first when it is back.
    expect(put("after").await?, StatusCode::OK).await?;
    let last = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .next_back()
        .unwrap()
        .to_owned();
    let response = castlog_testkit::until("a free place", PATIENCE, || async {
        let response = stage
            .admin(Method::GET, &path)
            .header("last-event-id", &last)
            .send()
            .await
            .ok()?;
        response.status().is_success().then_some(response)
    })
    .await?;
    let text = read_until(response, |text| text.contains("event: title")).await?;
    assert!(text.contains("after") && !text.contains("during"), "{text}");
    stage.finish().await
}

async fn read_until(response: reqwest::Response, enough: impl Fn(&str) -> bool) -> anyhow::Result<String> {
    let (mut body, mut text) = (response.bytes_stream(), String::new());
    // A block is over at its empty line.
    while !(enough(&text) && text.ends_with("\n\n")) {
        let chunk = tokio::time::timeout(PATIENCE, body.next()).await?;
        text.push_str(std::str::from_utf8(
            &chunk.ok_or_else(|| anyhow::anyhow!("it ended: {text}"))??,
        )?);
    }
    Ok(text)
}

#[tokio::test]
async fn the_api_describes_itself() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let response = stage.anonymous(Method::GET, "/openapi.json").send().await?;
    let document = expect(response, StatusCode::OK).await?;
    let paths: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        paths,
        [
            "/v1/broadcasts",
            "/v1/broadcasts/{id}",
            "/v1/broadcasts/{id}/health",
            "/v1/broadcasts/{id}/options",
            "/v1/broadcasts/{id}/playback-tokens",
            "/v1/broadcasts/{id}/publish-key",
            "/v1/broadcasts/{id}/publish-key/rotate",
            "/v1/broadcasts/{id}/recordings",
            "/v1/broadcasts/{id}/tags",
            "/v1/broadcasts/{id}/title",
            "/v1/broadcasts/{id}/titles",
            "/v1/events",
            "/v1/ingest",
            "/v1/log/consumers",
            "/v1/log/dead-letters",
            "/v1/log/dead-letters/attempts",
            "/v1/log/dead-letters/{id}",
            "/v1/log/dead-letters/{id}/redrive",
            "/v1/log/streams",
            "/v1/log/streams/{stream}/entries/{seq}",
            "/v1/log/subjects",
            "/v1/search",
            "/v1/session",
            "/v1/statistics",
        ]
    );
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text
        .split("\"#/components/schemas/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(document["components"]["schemas"][reference].is_object(), "{reference}");
    }
    // The pages' client is made from it: with CASTLOG_UPDATE_OPENAPI=1 the copy is
    // written anew, and `npm --prefix web run schema` makes the types of it.
    let copy = castlog_testkit::tools::workspace().join("web/openapi/openapi.json");
    let text = serde_json::to_string_pretty(&document)? + "\n";
    if std::env::var_os("CASTLOG_UPDATE_OPENAPI").is_some() {
        std::fs::write(&copy, &text)?;
    }
    assert!(
        std::fs::read_to_string(&copy)? == text,
        "{} is of another document",
        copy.display()
    );
    let page = stage.anonymous(Method::GET, "/docs").send().await?;
    let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = page.text().await?;
    assert!(page.contains("/v1/search") && page.contains("id=\"A10\"") && !page.contains("<script"));
    stage.finish().await
}

#[tokio::test]
async fn statistics_follow_the_change_feed() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let body = json!({ "title": "one", "tags": ["lol", "korean"] });
    let (one, _, _) = stage.create(body).await?;
    let (two, _, _) = stage.create(json!({ "title": "two", "tags": ["lol"] })).await?;
    let private = json!({ "title": "three", "tags": ["lol"], "options": { "visibility": "private" } });
    let (private, _, _) = stage.create(private).await?;
    for id in [&one, &two, &private] {
        stage.go_live(id).await?;
    }
    for (id, edge, concurrent) in [(&one, "a", 3), (&one, "b", 4), (&two, "a", 1), (&private, "a", 100)] {
        let counted = pb::viewers::Counted {
            edge: edge.to_owned(),
            concurrent,
        };
        let event = Some(pb::viewers::Event::Counted(counted));
        stage.publish(id, pb::Viewers { event }).await?;
    }
    let tag = |tag: &str, live: u64, viewers: u64| json!({ "tag": tag, "live": live, "viewers": viewers });
    let reaches = |live: u64, viewers: u64, tags: Vec<Value>| {
        let (stage, wanted) = (&stage, [json!(live), json!(0), json!(viewers), json!(tags)]);
        castlog_testkit::until("the statistics", PATIENCE, move || {
            let wanted = wanted.clone();
            async move {
                let answer = stage.anonymous(Method::GET, "/v1/statistics").send().await.ok()?;
                let found: Value = answer.json().await.ok()?;
                let parts = ["live", "interrupted", "viewers", "tags"].map(|part| found[part].clone());
                (parts == wanted).then_some(())
            }
        })
    };
    reaches(2, 8, vec![tag("lol", 2, 8), tag("korean", 1, 7)]).await?;
    // Who may see a private broadcast is shown how many watch it.
    for path in [format!("/v1/broadcasts/{private}"), "/v1/broadcasts".to_owned()] {
        let answer = expect(stage.admin(Method::GET, &path).send().await?, StatusCode::OK).await?;
        let all = answer["items"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![answer.clone()]);
        let found = all.iter().find(|broadcast| broadcast["id"] == *private);
        assert_eq!(
            found.map(|broadcast| &broadcast["viewers"]),
            Some(&json!(100)),
            "{path}"
        );
    }
    let path = format!("/v1/broadcasts/{two}/tags");
    let tags = stage.admin(Method::PUT, &path).json(&json!({ "tags": ["starcraft"] }));
    expect(tags.send().await?, StatusCode::OK).await?;
    reaches(
        2,
        8,
        vec![tag("korean", 1, 7), tag("lol", 1, 7), tag("starcraft", 1, 1)],
    )
    .await?;
    let ended = pb::status::Ended {
        ended_at: Some(now()),
        ..Default::default()
    };
    let event = Some(pb::status::Event::Ended(ended));
    stage.publish(&one, pb::Status { event }).await?;
    reaches(1, 1, vec![tag("starcraft", 1, 1)]).await?;
    stage.finish().await
}

#[tokio::test]
async fn every_answer_has_an_id_and_safe_headers() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    for path in ["/", "/watch/x", "/v1/nothing", "/healthz", "/readyz", "/assets/none.js"] {
        let response = stage
            .anonymous(Method::GET, path)
            .header("x-request-id", "mine")
            .send()
            .await?;
        let headers = response.headers();
        assert_eq!(headers["x-request-id"].len(), 26, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let policy = headers["content-security-policy"].to_str()?;
        assert!(policy.contains("connect-src 'self' http://127.0.0.1:8081"), "{policy}");
        let type_of = headers
            .get("content-type")
            .map(|v| v.to_str().unwrap_or_default().to_owned())
            .unwrap_or_default();
        match path {
            "/" | "/watch/x" => assert!(type_of.starts_with("text/html"), "{path}: {type_of}"),
            "/v1/nothing" => assert_eq!(type_of, "application/problem+json"),
            "/assets/none.js" => assert_eq!(response.status(), StatusCode::NOT_FOUND),
            _ => assert_eq!(response.status(), StatusCode::OK, "{path}"),
        }
    }
    let response = stage
        .anonymous(Method::GET, "/v1/broadcasts")
        .header("origin", "https://elsewhere")
        .send()
        .await?;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    stage.finish().await
}
