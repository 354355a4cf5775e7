//! Two processes of the indexer, as an operator runs them: one stands still, ends or
//! is killed, and the other goes on.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use castlog_log::{BroadcastId, Draft};
use castlog_testkit::{
    Meilisearch, NatsOptions, Process, TestLog,
    events::{started, title},
    until,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A process with a Meilisearch of its own, which shows what it has written.
struct Instance {
    meili: Meilisearch,
    process: Process,
    admin: String,
}

impl Instance {
    async fn start(test: &TestLog, folder: &Path) -> Self {
        let meili = Meilisearch::start().await.unwrap();
        let user = test.nats.user("indexer").unwrap();
        // Another process can win this port; then the instance does not start.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = free.local_addr().unwrap().to_string();
        drop(free);
        let log = folder.join(format!("{}.log", admin.replace(':', "-")));
        let mut process = Process::new(env!("CARGO_BIN_EXE_castlog"), log)
            .args(["run", "indexer"])
            .env("CASTLOG_DATA", folder)
            .env("CASTLOG_MEDIA__PATH", folder.join("media"))
            .env("CASTLOG_NATS__URL", &user.url)
            .env("CASTLOG_NATS_USERS__INDEXER__USER", &user.user)
            .env("CASTLOG_NATS_USERS__INDEXER__PASSWORD", user.password.expose())
            .env("CASTLOG_INDEXER__MEILISEARCH__URL", meili.url())
            .env("CASTLOG_INDEXER__MEILISEARCH__KEY", meili.master_key())
            .env("CASTLOG_ADMIN__LISTEN", &admin);
        process.start().unwrap();
        Self { meili, process, admin }
    }

    /// What `/readyz` says of the indexer, once it is ready.
    async fn role(&self) -> Option<Value> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(1))
            .build()
            .unwrap();
        let answer = client.get(format!("http://{}/readyz", self.admin)).send().await.ok()?;
        let ready = answer.status().is_success();
        let parts: Value = answer.json().await.ok()?;
        ready.then(|| parts["indexer"].clone())
    }

    /// Waits until it is ready, and works or stands by.
    async fn is(&self, wanted: Value) {
        let told = until(&format!("the indexer is {wanted}"), PATIENCE, || async {
            self.role().await.filter(|role| *role == wanted)
        })
        .await;
        told.unwrap_or_else(|error| panic!("{error}: {}", self.process.last_output()));
    }

    async fn shows(&self, words: &str) {
        until(&format!("{words:?} is found"), PATIENCE, || async {
            let found = self
                .meili
                .search("broadcasts", &format!("\"{words}\""), "")
                .await
                .ok()?;
            (!found.is_empty()).then_some(())
        })
        .await
        .unwrap();
    }

    /// How many writes its Meilisearch has ever been asked for.
    async fn writes(&self) -> u64 {
        self.meili.client().unwrap().get_tasks().await.unwrap().total
    }

    /// Whether `castlog status` names it as the one that works.
    fn is_named(&self, test: &TestLog, folder: &Path) -> bool {
        let output = Command::new(env!("CARGO_BIN_EXE_castlog"))
            .args(["status", "--json"])
            .env("CASTLOG_DATA", folder)
            .env("CASTLOG_NATS__URL", test.nats.url())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["leases"][0]["name"], "indexer");
        let holder = status["leases"][0]["holder"].as_str().unwrap();
        holder.contains(&format!("process {} at 127.0.0.1", self.process.pid().unwrap()))
    }

    async fn differences(&self, test: &TestLog) -> Vec<String> {
        let config = castlog_indexer::Config {
            meilisearch: castlog_meili::Config::new(&self.meili.url(), self.meili.master_key()),
            ..Default::default()
        };
        castlog_indexer::verify(&config, &test.log).await.unwrap()
    }
}

#[tokio::test]
async fn one_indexer_writes_at_a_time_whatever_becomes_of_it() {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let id = BroadcastId::generate();
    let say = async |event| drop(test.publisher.publish(Draft::new(id, event)).await.unwrap());
    let working = Value::Bool(true);
    let standby = Value::from("standby");

    let mut one = Instance::start(&test, folder.path()).await;
    one.is(working.clone()).await;
    let mut two = Instance::start(&test, folder.path()).await;
    two.is(standby.clone()).await;
    say(started("s")).await;
    say(title("before")).await;
    one.shows("before").await;
    assert!(one.is_named(&test, folder.path()) && !two.is_named(&test, folder.path()));

    // It stands still for less than its lease: what it was handed meanwhile it writes
    // when it goes on.
    one.process.pause().unwrap();
    say(title("short")).await;
    one.process.resume().unwrap();
    one.shows("short").await;
    assert_eq!(two.role().await, Some(standby.clone()));
    assert_eq!(two.writes().await, 0, "the standby has written");

    // It stands still for longer. The same is waiting for it when it goes on, and it
    // writes nothing.
    one.process.pause().unwrap();
    say(title("long")).await;
    two.is(working.clone()).await;
    two.shows("long").await;
    let writes = one.writes().await;
    one.process.resume().unwrap();
    one.is(standby.clone()).await;
    say(title("after")).await;
    two.shows("after").await;
    assert_eq!(one.writes().await, writes, "it has written after its time");
    assert!(two.differences(&test).await.is_empty());

    // An orderly end lets the other in.
    let begun = Instant::now();
    assert!(two.process.stop(PATIENCE).await.unwrap().success());
    one.is(working.clone()).await;
    println!("took over from an orderly end after {:?}", begun.elapsed());
    one.shows("after").await;

    // kill -9 leaves the lease to run out.
    two.process.start().unwrap();
    two.is(standby).await;
    let begun = Instant::now();
    one.process.kill9();
    say(title("killed")).await;
    two.is(working).await;
    println!("took over from kill -9 after {:?}", begun.elapsed());
    two.shows("killed").await;
    assert!(two.is_named(&test, folder.path()));
    assert!(two.differences(&test).await.is_empty());
}
