//! Who watches, over several edges: what the API tells follows those who come and go,
//! and whoever dies.

use std::time::Duration;

use anyhow::Context as _;
use castlog_service::Shutdown;
use castlog_testkit::until;
use castlog_tests::{Encoder, SOON, System};
use reqwest::Method;
use serde_json::json;

/// Longer than the count of an edge that says nothing any more stands.
const GONE: Duration = Duration::from_secs(120);

/// Asks for a playlist as players do, until it is told to leave.
async fn watch(url: String, agent: &'static str, leave: Shutdown) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().user_agent(agent).build()?;
    while !leave.is_cancelled() {
        // An edge that is gone answers nobody.
        client.get(&url).send().await.ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

#[tokio::test]
async fn viewers_of_all_edges_are_counted_and_nobody_is_left_in_the_end() -> anyhow::Result<()> {
    let system = System::start().await?;
    let options = json!({ "ladder": [144] });
    let (id, key) = system.create(json!({ "title": "counted", "options": options })).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    let (second, address) = system.another_edge("second").await?;
    let path = format!("/live/{id}/source/index.m3u8");
    // Which counts nobody.
    let url = format!("http://{address}/live/{id}/index.m3u8");
    until("a playlist of the second edge", SOON, || async {
        system.text(&url).await.ok()
    })
    .await?;

    let leave = Shutdown::new();
    let mut watching = tokio::task::JoinSet::new();
    for (edge, agent) in [
        (&system.hls, "one"),
        (&system.hls, "two"),
        (&format!("http://{address}"), "three"),
    ] {
        watching.spawn(watch(format!("{edge}{path}"), agent, leave.clone()));
    }
    let viewers = || async {
        let (status, said) = system
            .call(Method::GET, &format!("/v1/broadcasts/{id}"), None)
            .await
            .ok()?;
        let viewers = said["viewers"].as_i64();
        assert!(viewers.is_some_and(|viewers| viewers >= 0), "{status} {said}");
        viewers
    };
    let are = |wanted: i64, patience| {
        until("the number of viewers", patience, move || async move {
            (viewers().await? == wanted).then_some(())
        })
    };
    are(3, GONE).await.context("three")?;
    drop(second);
    are(2, GONE).await.context("those of the edge that is left")?;
    leave.begin();
    while let Some(left) = watching.join_next().await {
        left??;
    }
    are(0, GONE).await.context("nobody")?;
    encoder.stop().await?;
    system.stop().await
}
