//! Tokens with which private broadcasts are watched.

mod support;

use castlog_live_api::Config;
use castlog_log::Secret;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Stage, expect, problem};

#[tokio::test]
async fn who_gives_commands_gets_tokens_for_viewers() -> anyhow::Result<()> {
    let keys = castlog_playback::Config {
        key: Secret::new("0123456789abcdef0123456789abcdef".to_owned()),
        ..Default::default()
    };
    let stage = Stage::build_with(Config {
        playback: keys.clone(),
        hls_public_url: "https://cdn.example".to_owned(),
        ..Config::default()
    })
    .await?;
    let (id, _, _) = stage
        .create(json!({ "title": "one", "options": { "visibility": "private" } }))
        .await?;
    let path = format!("/v1/broadcasts/{id}/playback-tokens");
    let issue = |body: Value| stage.admin(Method::POST, &path).json(&body).send();

    let response = issue(json!({ "lifetime_s": 600 })).await?;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let issued = expect(response, StatusCode::CREATED).await?;
    let token = issued["token"].as_str().unwrap_or_default();
    assert_eq!(
        issued["playback_url"],
        format!("https://cdn.example/t/{token}/live/{id}/index.m3u8")
    );
    let now = Utc::now();
    let end = DateTime::parse_from_rfc3339(issued["expires_at"].as_str().unwrap_or_default())?.to_utc();
    assert_eq!(keys.verify(id.parse()?, token, now), Ok(end));
    let left = end - now;
    assert!(
        left > TimeDelta::seconds(500) && left <= TimeDelta::seconds(900),
        "{left}"
    );
    // Without a wish it is four hours.
    let longer = expect(issue(json!({})).await?, StatusCode::CREATED).await?;
    assert!(longer["expires_at"].as_str() > issued["expires_at"].as_str());

    for lifetime in [0, 59, 86_401] {
        problem(issue(json!({ "lifetime_s": lifetime })).await?, 422, "A04").await?;
    }
    problem(issue(json!({ "until": 1 })).await?, 400, "A03").await?;
    let anonymous = stage.anonymous(Method::POST, &path).json(&json!({})).send();
    problem(anonymous.await?, 401, "A01").await?;
    let nobody = "/v1/broadcasts/01m000000000000000000000zz/playback-tokens";
    let of_none = stage.admin(Method::POST, nobody).json(&json!({})).send();
    problem(of_none.await?, 404, "A05").await?;
    stage.finish().await
}

#[tokio::test]
async fn without_a_key_there_are_none() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    let path = format!("/v1/broadcasts/{id}/playback-tokens");
    let response = stage.admin(Method::POST, &path).json(&json!({})).send().await?;
    problem(response, 403, "A23").await?;
    stage.finish().await
}
