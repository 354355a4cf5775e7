//! Sessions of the web pages: a cookie stands for the token, for pages of this
//! server and for nobody else.

mod support;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use support::{Stage, TOKEN, expect, problem};

#[tokio::test]
async fn a_cookie_stands_for_the_token() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let (id, _, _) = stage.create(json!({ "title": "one" })).await?;
    let sign_in = |token: &str, origin: &str| {
        let request = stage.anonymous(Method::POST, "/v1/session");
        request.header("origin", origin).json(&json!({ "token": token })).send()
    };
    problem(sign_in("wrong-token-0123456789", &stage.base).await?, 401, "A01").await?;
    problem(sign_in(TOKEN, "http://127.0.0.1:1").await?, 403, "A19").await?;

    let response = sign_in(TOKEN, &stage.base).await?;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let cookie = response.headers()["set-cookie"].to_str()?.to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/v1", "Max-Age=43200"] {
        assert!(cookie.split("; ").any(|part| part == attribute), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN), "{cookie}");
    let session = cookie.split(';').next().unwrap_or_default().to_owned();

    let with = |request: RequestBuilder| request.header("cookie", &session);
    let state = async |request: RequestBuilder| -> anyhow::Result<Value> {
        Ok(expect(request.send().await?, StatusCode::OK).await?["signed_in"].clone())
    };
    let asked = || stage.anonymous(Method::GET, "/v1/session");
    assert_eq!(
        (state(with(asked())).await?, state(asked()).await?),
        (json!(true), json!(false))
    );

    // It reads what only an admin may.
    let list = || stage.anonymous(Method::GET, "/v1/broadcasts?state=idle");
    let found = expect(with(list()).send().await?, StatusCode::OK).await?;
    assert_eq!(found["items"][0]["id"], id);
    problem(list().send().await?, 401, "A01").await?;
    let altered = list().header("cookie", format!("{session}0"));
    problem(altered.send().await?, 401, "A01").await?;

    // It changes what a page of this server says, and what no other page does.
    let put = || {
        let path = format!("/v1/broadcasts/{id}/title");
        stage.anonymous(Method::PUT, &path).json(&json!({ "title": "two" }))
    };
    problem(with(put()).send().await?, 403, "A19").await?;
    for other in ["http://127.0.0.1:1", "https://elsewhere", "null"] {
        problem(with(put()).header("origin", other).send().await?, 403, "A19").await?;
    }
    expect(with(put()).header("origin", &stage.base).send().await?, StatusCode::OK).await?;
    problem(put().header("origin", &stage.base).send().await?, 401, "A01").await?;

    let out = with(stage.anonymous(Method::DELETE, "/v1/session")).header("origin", &stage.base);
    let cookie = out.send().await?.headers()["set-cookie"].to_str()?.to_owned();
    assert!(
        cookie.starts_with("castlog_session=; ") && cookie.contains("Max-Age=0"),
        "{cookie}"
    );
    stage.finish().await
}

#[tokio::test]
async fn without_a_configured_token_nobody_signs_in() -> anyhow::Result<()> {
    let stage = Stage::build_tokenless().await?;
    let request = stage
        .anonymous(Method::POST, "/v1/session")
        .header("origin", &stage.base);
    problem(request.json(&json!({ "token": "" })).send().await?, 403, "A02").await?;
    stage.finish().await
}
