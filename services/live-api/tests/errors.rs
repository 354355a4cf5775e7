//! Every code that a caller can get, and what must not be said in it.

mod support;

use castlog_live_api::{Code, Config};
use castlog_log::{
    BroadcastId, Kind,
    provision::{self, Plan},
};
use castlog_testkit::{NatsOptions, TestLog, until};
use reqwest::{Method, StatusCode};
use serde_json::json;
use support::{PATIENCE, Stage, TOKEN, expect, problem};

#[tokio::test]
async fn what_a_caller_does_wrong() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    let path = format!("/v1/broadcasts/{id}");
    let title = format!("{path}/title");
    let body = json!({ "title": "two" });

    // Every command wants the token.
    for (method, path) in [
        (Method::POST, "/v1/broadcasts".to_owned()),
        (Method::PUT, title.clone()),
        (Method::PUT, format!("{path}/tags")),
        (Method::PUT, format!("{path}/options")),
        (Method::POST, format!("{path}/publish-key/rotate")),
        (Method::POST, format!("{path}/playback-tokens")),
        (Method::DELETE, format!("{path}/publish-key")),
        (Method::DELETE, path.clone()),
    ] {
        let response = stage.anonymous(method.clone(), &path).json(&body).send().await?;
        assert!(response.headers()["www-authenticate"].to_str()?.starts_with("Bearer"));
        problem(response, 401, "A01").await?;
        let wrong = stage
            .anonymous(method, &path)
            .bearer_auth("wrong-token-0123456789")
            .json(&body);
        problem(wrong.send().await?, 401, "A01").await?;
    }
    problem(
        stage.anonymous(Method::GET, &path).bearer_auth("wrong").send().await?,
        401,
        "A01",
    )
    .await?;

    let put = || stage.admin(Method::PUT, &title);
    problem(
        put()
            .header("content-type", "application/json")
            .body("{")
            .send()
            .await?,
        400,
        "A03",
    )
    .await?;
    problem(
        put().json(&json!({ "title": "x", "tilte": "y" })).send().await?,
        400,
        "A03",
    )
    .await?;
    problem(put().json(&json!({ "title": 1 })).send().await?, 400, "A03").await?;
    problem(
        put().header("idempotency-key", "").json(&body).send().await?,
        400,
        "A03",
    )
    .await?;
    problem(
        stage
            .admin(Method::PUT, &format!("{title}?wait=no"))
            .json(&body)
            .send()
            .await?,
        400,
        "A03",
    )
    .await?;
    problem(
        stage.admin(Method::GET, "/v1/broadcasts?limit=0").send().await?,
        400,
        "A03",
    )
    .await?;
    problem(
        stage.admin(Method::GET, "/v1/broadcasts?state=x").send().await?,
        400,
        "A03",
    )
    .await?;
    problem(put().body("{\"title\":\"x\"}").send().await?, 415, "A09").await?;
    problem(
        put().json(&json!({ "title": "x".repeat(70_000) })).send().await?,
        413,
        "A08",
    )
    .await?;

    let new =
        json!({ "title": "", "tags": ["x".repeat(33)], "options": { "ladder": [100], "reconnect_window_s": 301 } });
    let response = stage.admin(Method::POST, "/v1/broadcasts").json(&new).send().await?;
    let answer = expect(response, StatusCode::UNPROCESSABLE_ENTITY).await?;
    let fields: Vec<_> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["field"].as_str().unwrap())
        .collect();
    assert_eq!(answer["code"], "A04");
    assert_eq!(
        fields,
        ["title", "tags[0]", "options.reconnect_window_s", "options.ladder"]
    );

    let unknown = BroadcastId::generate();
    for id in [unknown.to_string(), "NONSENSE".to_owned(), id.to_uppercase()] {
        let path = format!("/v1/broadcasts/{id}/title");
        problem(stage.admin(Method::PUT, &path).json(&body).send().await?, 404, "A05").await?;
    }
    assert!(stage.log.last(Kind::Title, unknown).await?.is_none());
    problem(stage.admin(Method::GET, "/v1/nothing").send().await?, 404, "A06").await?;
    problem(stage.admin(Method::PATCH, &path).send().await?, 405, "A07").await?;
    problem(stage.admin(Method::POST, "/somewhere").send().await?, 405, "A07").await?;
    problem(
        put().header("if-match", "\"999\"").json(&body).send().await?,
        412,
        "A10",
    )
    .await?;
    problem(
        stage.anonymous(Method::GET, "/v1/search?page=0").send().await?,
        400,
        "A03",
    )
    .await?;
    stage.finish().await
}

#[tokio::test]
async fn without_a_configured_token_there_are_no_commands() -> anyhow::Result<()> {
    let stage = Stage::build_tokenless().await?;
    let create = || {
        stage
            .anonymous(Method::POST, "/v1/broadcasts")
            .json(&json!({ "title": "x" }))
    };
    problem(create().send().await?, 403, "A02").await?;
    problem(create().bearer_auth(TOKEN).send().await?, 403, "A02").await?;
    expect(
        stage.anonymous(Method::GET, "/v1/broadcasts").send().await?,
        StatusCode::OK,
    )
    .await?;
    stage.finish().await
}

#[tokio::test]
async fn without_the_log_callers_hear_so_and_can_repeat() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    stage.nats.kill9();
    let path = format!("/v1/broadcasts/{id}/title");
    let put = stage
        .admin(Method::PUT, &path)
        .json(&json!({ "title": "two" }))
        .send()
        .await?;
    assert!(put.headers().contains_key("retry-after"));
    problem(put, 503, "A12").await?;
    // What is known of broadcasts can still be read.
    expect(
        stage
            .anonymous(Method::GET, &format!("/v1/broadcasts/{id}"))
            .send()
            .await?,
        StatusCode::OK,
    )
    .await?;
    stage.nats.restart().await?;
    until("commands work again", PATIENCE, || async {
        let put = stage
            .admin(Method::PUT, &path)
            .header("idempotency-key", "k")
            .json(&json!({ "title": "two" }));
        put.send()
            .await
            .ok()
            .filter(|response| response.status() == StatusCode::OK)
    })
    .await?;
    stage.finish().await
}

#[tokio::test]
async fn a_request_does_not_take_for_ever() -> anyhow::Result<()> {
    let stage = Stage::build_with(Config {
        request_timeout_s: 1,
        ..Config::default()
    })
    .await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    stage.nats.process().pause()?;
    let put = stage
        .admin(Method::PUT, &format!("/v1/broadcasts/{id}/title"))
        .json(&json!({ "title": "two" }));
    let outcome = put.send().await;
    stage.nats.process().resume()?;
    problem(outcome?, 503, "A15").await?;
    stage.finish().await
}

#[tokio::test]
async fn an_unreadable_entry_is_an_internal_error() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let id = BroadcastId::generate();
    let subject = Kind::Registration.of(id).to_string();
    stage.log.jetstream().publish(subject, "garbage".into()).await?.await?;
    let put = stage
        .admin(Method::PUT, &format!("/v1/broadcasts/{id}/title"))
        .json(&json!({ "title": "two" }));
    problem(put.send().await?, 500, "A16").await?;
    stage.finish().await
}

#[tokio::test]
async fn statistics_wait_for_the_change_feed() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default()).await?;
    log.log.jetstream().delete_stream(castlog_log::change::STREAM).await?;
    let stage = Stage::build_on(log).await?;
    let ask = || stage.anonymous(Method::GET, "/v1/statistics").send();
    problem(ask().await?, 503, "A18").await?;
    provision::apply(&stage.log, Plan::default()).await?;
    until("the statistics", PATIENCE, || async {
        (ask().await.ok()?.status() == StatusCode::OK).then_some(())
    })
    .await?;
    stage.finish().await
}

#[test]
fn every_code_is_provoked_by_a_test() {
    let tests = [
        include_str!("errors.rs"),
        include_str!("commands.rs"),
        include_str!("queries.rs"),
        include_str!("search.rs"),
        include_str!("log.rs"),
        include_str!("sessions.rs"),
        include_str!("playback_tokens.rs"),
    ]
    .concat();
    let tests: String = tests.split_whitespace().collect();
    for code in Code::ALL {
        let (status, code) = (code.status().as_u16(), code.as_str());
        // A04 is looked at field by field.
        let provoked = tests.contains(&format!("{status},\"{code}\"")) || code == "A04";
        assert!(provoked, "{code}");
    }
}
