//! Sessions that no pipeline has room for wait in the queue, where an operator sees
//! them, until one has.

use castlog_testkit::until;
use castlog_tests::{Encoder, SOON, System};
use serde_json::json;

#[tokio::test]
async fn who_waits_for_a_pipeline_is_named_and_served_by_one_that_comes() -> anyhow::Result<()> {
    let system = System::start_with(&["pipeline.preset=ultrafast", "pipeline.max_jobs=1"]).await?;
    let mut on_air = Vec::new();
    for title in ["first", "second"] {
        let options = json!({ "ladder": [144] });
        let (id, key) = system.create(json!({ "title": title, "options": options })).await?;
        let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
        system.reaches(&id, "live").await?;
        on_air.push((id, encoder));
    }
    let says = |wanted: &'static str| {
        let system = &system;
        until(wanted, SOON, move || async move {
            let (_, said) = system.castlog(&["status"]).await.ok()?;
            said.contains(wanted).then_some(said)
        })
    };
    let said = says("1 waiting, 1 running").await?;
    let named: Vec<bool> = on_air.iter().map(|(id, _)| said.contains(id.as_str())).collect();
    assert_eq!(named, [false, true], "{said}");
    let playlist = |id: &str| format!("{}/live/{id}/index.m3u8", system.hls);
    let refused = system.text(&playlist(&on_air[1].0)).await;
    assert!(refused.is_err(), "there is a playlist of what nobody makes");

    let _other = system.another("pipeline").await?;
    let said = says("0 waiting, 2 running").await?;
    assert!(on_air.iter().all(|(id, _)| !said.contains(id.as_str())), "{said}");
    for (id, encoder) in on_air {
        until("a playlist", SOON, || async { system.text(&playlist(&id)).await.ok() }).await?;
        encoder.stop().await?;
    }
    system.stop().await
}
