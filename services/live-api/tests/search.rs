//! Search against a real Meilisearch, with a key that can do nothing else.

mod support;

use castlog_live_api::Config;
use castlog_projector::Progress;
use castlog_testkit::{Meilisearch, Service, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{PATIENCE, Stage, expect, problem};

async fn stage(meili: &Meilisearch) -> anyhow::Result<Stage> {
    let client = meili.client()?;
    let mut key = meilisearch_sdk::key::KeyBuilder::new();
    key.with_action(meilisearch_sdk::key::Action::Search)
        .with_index("broadcasts");
    let key = client.create_key(key).await?.key;
    Stage::build_with(Config {
        meilisearch: castlog_meili::Config::new(&meili.url(), &key),
        ..Config::default()
    })
    .await
}

fn indexer(meili: &Meilisearch) -> castlog_indexer::Config {
    castlog_indexer::Config {
        meilisearch: castlog_meili::Config::new(&meili.url(), meili.master_key()),
        ..Default::default()
    }
}

async fn fill(meili: &Meilisearch, stage: &Stage) -> anyhow::Result<()> {
    castlog_indexer::rebuild(&indexer(meili), &stage.log, &Progress::none()).await?;
    let document = |id: u64, title: &str, tags: Value, resolutions: Value, language: &str| {
        json!({
            "id": format!("b{id}"), "title": title, "tags": tags, "owner": "admin", "category": "game", "language": language,
            "resolutions": resolutions, "frame_rate": 29.97, "started_at": 1_700_000_000_000_u64 + id * 1000, "viewers": 10 - id,
        })
    };
    let documents = [
        document(
            1,
            "롤 랭크 게임 방송",
            json!(["lol", "ranked"]),
            json!([480, 720]),
            "ko",
        ),
        document(
            2,
            "Elden Ring speedrun",
            json!(["speedrun", "say \"hi\""]),
            json!([1080, 720]),
            "en",
        ),
        document(
            3,
            "Morning talk",
            json!(["talk", "back\\slash", "end\\", "\\\"both"]),
            json!([480]),
            "en",
        ),
    ];
    let index = meili.client()?.index("broadcasts");
    meili.done(index.add_documents(&documents, Some("id")).await?).await
}

#[tokio::test]
async fn a_search_succeeds_once_the_indexer_is_ready() -> anyhow::Result<()> {
    let meili = Meilisearch::start().await?;
    let stage = stage(&meili).await?;
    // Searches all the while: before there is an index, while it is made, and after.
    let searches = tokio::spawn({
        let request = stage
            .anonymous(Method::GET, "/v1/search")
            .query(&[("tags", "lol"), ("sort", "viewers:desc")]);
        async move {
            let mut statuses = Vec::new();
            while statuses.len() < 100 {
                let request = request.try_clone().ok_or_else(|| anyhow::anyhow!("it has a stream"))?;
                statuses.push(request.send().await?.status());
            }
            anyhow::Ok(statuses)
        }
    });
    let indexer = Service::start(&stage.log, |context| castlog_indexer::run(indexer(&meili), context))?;
    until("the indexer is ready", PATIENCE, || async {
        indexer.health.is_ready().then_some(())
    })
    .await?;
    let request = stage.anonymous(Method::GET, "/v1/search?tags=lol&resolutions=720&sort=viewers:desc");
    let found = expect(request.send().await?, StatusCode::OK).await?;
    assert_eq!((&found["hits"], &found["total"]), (&json!([]), &json!(0)));
    assert_eq!(meili.indexes().await?, ["broadcasts"]);
    let statuses = searches.await??;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
    indexer.finish().await?;

    // Not every index will do: one without the indexer's settings cannot be searched.
    let index = meili.client()?.index("broadcasts");
    meili.done(index.reset_settings().await?).await?;
    let request = stage.anonymous(Method::GET, "/v1/search?tags=lol");
    problem(request.send().await?, 503, "A14").await?;
    stage.finish().await
}

#[tokio::test]
async fn live_broadcasts_are_found() -> anyhow::Result<()> {
    let mut meili = Meilisearch::start().await?;
    let stage = stage(&meili).await?;
    let search = |pairs: &[(&str, &str)]| {
        let request = stage.anonymous(Method::GET, "/v1/search").query(pairs);
        async move { expect(request.send().await?, StatusCode::OK).await }
    };
    let ids = |answer: &Value| -> Vec<String> {
        answer["hits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hit| hit["id"].as_str().unwrap().to_owned())
            .collect()
    };

    // Before the indexer has made the index, nothing is found.
    let empty = search(&[("q", "x")]).await?;
    assert_eq!((&empty["hits"], &empty["total"]), (&json!([]), &json!(0)));
    assert_eq!(
        empty["facets"],
        json!({ "tags": {}, "resolutions": {}, "category": {}, "language": {} })
    );
    fill(&meili, &stage).await?;

    let all = search(&[]).await?;
    assert_eq!(ids(&all), ["b3", "b2", "b1"]);
    assert_eq!(
        (&all["total"], &all["page"], &all["page_size"]),
        (&json!(3), &json!(1), &json!(20))
    );
    assert_eq!(all["facets"]["resolutions"], json!({ "480": 2, "720": 2, "1080": 1 }));
    assert_eq!(all["facets"]["language"], json!({ "en": 2, "ko": 1 }));
    assert_eq!(ids(&search(&[("sort", "viewers:desc")]).await?), ["b1", "b2", "b3"]);

    // English with a typing error, and Korean.
    let found = search(&[("q", "eldden ring")]).await?;
    assert_eq!(ids(&found), ["b2"]);
    let hit = &found["hits"][0];
    assert_eq!(
        hit["highlighted"]["title"],
        "\u{E000}Elden\u{E001} \u{E000}Ring\u{E001} speedrun"
    );
    assert_eq!(
        (&hit["resolutions"], &hit["frame_rate"]),
        (&json!([1080, 720]), &json!(29.97))
    );
    assert_eq!(hit["started_at"], "2023-11-14T22:13:22.000Z");
    assert_eq!(ids(&search(&[("q", "랭크")]).await?), ["b1"]);
    assert!(ids(&search(&[("q", "zzzzzz")]).await?).is_empty());

    // Values of a facet are alternatives, facets narrow, and a facet's counts ignore its own selection.
    let narrowed = search(&[("tags", "lol"), ("tags", "talk"), ("resolutions", "480")]).await?;
    assert_eq!(ids(&narrowed), ["b3", "b1"]);
    let narrowed = search(&[("tags", "lol"), ("tags", "speedrun"), ("resolutions", "1080")]).await?;
    assert_eq!(ids(&narrowed), ["b2"]);
    assert_eq!(
        narrowed["facets"]["resolutions"],
        json!({ "480": 1, "720": 2, "1080": 1 })
    );
    assert_eq!(narrowed["facets"]["tags"], json!({ "speedrun": 1, "say \"hi\"": 1 }));
    assert_eq!(narrowed["facets"]["language"], json!({ "en": 1 }));

    // Whatever a value holds, it is a value.
    assert_eq!(ids(&search(&[("tags", "say \"hi\"")]).await?), ["b2"]);
    for value in ["back\\slash", "end\\", "\\\"both"] {
        assert_eq!(ids(&search(&[("tags", value)]).await?), ["b3"], "{value}");
    }
    for hostile in [
        "x\"] OR resolutions IN [720",
        "\\",
        "\\\"] OR id EXISTS OR tags IN [\"",
        "\\\\",
        "'",
        "]",
        "\" OR 1=1",
    ] {
        let answer = search(&[("tags", hostile)]).await?;
        assert!(ids(&answer).is_empty(), "{hostile}: {answer}");
    }

    let second = search(&[("page", "2"), ("page_size", "2")]).await?;
    assert_eq!((ids(&second), &second["total"]), (vec!["b1".to_owned()], &json!(3)));

    meili.kill9();
    problem(stage.anonymous(Method::GET, "/v1/search").send().await?, 503, "A14").await?;
    meili.restart().await?;
    assert_eq!(ids(&search(&[]).await?).len(), 3);
    stage.finish().await
}
