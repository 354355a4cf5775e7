//! The servers come up, lose what they must lose, keep what they must keep,
//! and are gone when dropped.

use std::path::Path;

use castlog_testkit::{Meilisearch, NatsOptions, NatsServer, RedisServer};
use serde_json::{Value, json};

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn nats_keeps_an_acknowledged_entry_over_a_kill() {
    let mut server = NatsServer::start().await.unwrap();
    let url = server.url();
    let client = async_nats::connect(&url).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config {
        name: "T".into(),
        subjects: vec!["t.>".into()],
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let ack = jetstream.publish("t.1", "kept".into()).await.unwrap().await.unwrap();
    assert_eq!(ack.sequence, 1);

    server.kill9();
    assert!(async_nats::connect(&url).await.is_err(), "it is down");
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);

    let jetstream = async_nats::jetstream::new(async_nats::connect(&url).await.unwrap());
    let message = jetstream
        .get_stream("T")
        .await
        .unwrap()
        .get_raw_message(1)
        .await
        .unwrap();
    assert_eq!(&message.payload[..], b"kept");

    let pid = server.process().pid().unwrap();
    let store = server.store();
    drop(server);
    assert!(!runs(pid) && !store.exists(), "process and folder are gone");
}

#[tokio::test]
async fn nats_asks_for_credentials() {
    let server = NatsServer::start_with(NatsOptions::default().credentials("me", "secret"))
        .await
        .unwrap();
    assert!(
        async_nats::connect(server.url()).await.is_err(),
        "without credentials it refuses"
    );
    let options = async_nats::ConnectOptions::with_user_and_password("me".into(), "secret".into());
    options.connect(server.url()).await.unwrap();
    assert!(server.client_url().starts_with("nats://me:secret@127.0.0.1:"));
}

#[tokio::test]
async fn a_refused_configuration_shows_what_the_server_says() {
    let error = NatsServer::start_with(NatsOptions::default().extra("nonsense {"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(error.matches("Parse error").count(), 1, "{error}");
}

async fn redis(server: &RedisServer, command: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn redis_forgets_or_keeps_as_asked() {
    for (settings, kept) in [
        (&[][..], false),
        (&[("appendonly", "yes"), ("appendfsync", "always")][..], true),
    ] {
        let mut server = RedisServer::start_with(settings).await.unwrap();
        assert!(redis(&server, "SET k v").await.unwrap().starts_with("+OK"));
        server.kill9();
        server.restart().await.unwrap();
        let answer = redis(&server, "GET k").await.unwrap();
        assert_eq!(answer.contains("\r\nv\r\n"), kept, "{answer}");
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn meilisearch_keeps_its_indexes_over_a_restart() {
    let mut server = Meilisearch::start().await.unwrap();
    let client = reqwest::Client::new();
    let index = format!("{}/indexes/t", server.url());
    let refused = client.get(&index).send().await.unwrap();
    assert_eq!(refused.status(), 401, "without the key it refuses");

    let created = client
        .post(format!("{}/indexes", server.url()))
        .bearer_auth(server.master_key())
        .header("content-type", "application/json")
        .body(json!({ "uid": "t" }).to_string())
        .send()
        .await
        .unwrap();
    let task: Value = serde_json::from_str(&created.text().await.unwrap()).unwrap();
    let task = format!("{}/tasks/{}", server.url(), task["taskUid"]);
    castlog_testkit::until("the index", std::time::Duration::from_secs(30), || async {
        let answer = client
            .get(&task)
            .bearer_auth(server.master_key())
            .send()
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        answer.contains("\"succeeded\"").then_some(())
    })
    .await
    .unwrap();

    server.restart().await.unwrap();
    let found = client
        .get(&index)
        .bearer_auth(server.master_key())
        .send()
        .await
        .unwrap();
    assert_eq!(found.status(), 200);
}
