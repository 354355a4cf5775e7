//! The users of a nats-server of one's own, as docs/operations.md sets it up:
//! nkeys, TLS, an account.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Log, PublishError, Publisher, access, pb,
    provision::{self, Plan},
};
use castlog_testkit::{Process, tools, until};

const SOON: Duration = Duration::from_secs(30);

fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn users(format: &str) -> String {
    output(Command::new(env!("CARGO_BIN_EXE_castlog")).args(["users", "--format", format]))
}

/// The server's configuration as the document shows it, with its files in `folder`.
fn documented(folder: &Path, port: u16) -> String {
    let document = std::fs::read_to_string(tools::workspace().join("docs/operations.md")).unwrap();
    let (_, rest) = document.split_once("```conf\n").unwrap();
    let (text, _) = rest.split_once("```\n").unwrap();
    let folder = folder.to_str().unwrap();
    text.replace("0.0.0.0:4222", &format!("127.0.0.1:{port}"))
        .replace("/etc/castlog", folder)
        .replace("/var/lib/nats", folder)
}

/// A seed and its public key, made by the `nats` command.
fn nkey(folder: &Path, user: &str) -> String {
    let nats = tools::nats().unwrap();
    let file = folder.join(format!("{user}.nk"));
    std::fs::write(&file, output(Command::new(&nats).args(["auth", "nkey", "gen", "user"]))).unwrap();
    let shown = output(Command::new(&nats).args(["auth", "nkey", "show"]).arg(&file));
    shown.trim().to_owned()
}

fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("nats.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("nats-key.pem"), made.signing_key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn the_documented_server_knows_each_service_by_its_nkey() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    // Another process can win this port; then the server does not start.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    certificate(folder);
    std::fs::write(folder.join("users.conf"), users("nkeys")).unwrap();
    let config = folder.join("nats-server.conf");
    std::fs::write(&config, documented(folder, port)).unwrap();
    let names = access::USERS.iter().map(|user| user.name).chain(["sys"]);
    let keys: Vec<(String, String)> = names
        .map(|user| {
            let variable = user.to_uppercase().replace('-', "_");
            (format!("{variable}_NKEY"), nkey(folder, user))
        })
        .collect();

    let server = tools::nats_server().unwrap();
    output(
        Command::new(&server)
            .arg("-t")
            .arg("-c")
            .arg(&config)
            .envs(keys.clone()),
    );
    let mut running = Process::new(&server, folder.join("server.log")).args(["-c".into(), config.into_os_string()]);
    for (variable, key) in keys {
        running = running.env(variable, key);
    }
    running.start().unwrap();

    let connect = async |user: &str, ca: &str| {
        let config = ConnectConfig {
            url: format!("tls://127.0.0.1:{port}"),
            nkey: folder.join(format!("{user}.nk")).to_str().unwrap().to_owned(),
            inbox_prefix: access::inbox_prefix(user),
            tls_ca: folder.join(ca).to_str().unwrap().to_owned(),
            ..ConnectConfig::default()
        };
        Log::connect(&config, user).await
    };
    let operator = until("the server", SOON, async || connect("castlog", "nats.pem").await.ok())
        .await
        .unwrap_or_else(|error| panic!("{error}: {}", running.output()));
    provision::apply(&operator, Plan::default()).await.unwrap();

    let api = connect("live-api", "nats.pem").await.unwrap();
    let rtmp = connect("rtmp", "nats.pem").await.unwrap();
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "x".into() })),
    };
    let broadcast = BroadcastId::generate();
    let own = Publisher::new(&api, "live-api")
        .publish(Draft::new(broadcast, title.clone()))
        .await;
    assert_eq!(own.unwrap().sequence, 1);
    let foreign = Publisher::new(&rtmp, "rtmp")
        .publish(Draft::new(broadcast, title))
        .await;
    assert!(matches!(foreign, Err(PublishError::NotPermitted(_))), "{foreign:?}");

    // A seed that the server does not know, and a server that is not the one meant.
    nkey(folder, "stranger");
    assert!(connect("stranger", "nats.pem").await.is_err());
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("other.pem"), other.cert.pem()).unwrap();
    assert!(connect("castlog", "other.pem").await.is_err());
}

#[test]
fn passwords_make_a_valid_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nats-server.conf");
    std::fs::write(&config, format!("authorization {{\n{}}}\n", users("passwords"))).unwrap();
    let passwords = access::USERS.iter().map(|user| {
        let variable = user.name.to_uppercase().replace('-', "_");
        (format!("{variable}_PASSWORD"), "\"12e3\"".to_owned())
    });
    output(
        Command::new(tools::nats_server().unwrap())
            .arg("-t")
            .arg("-c")
            .arg(&config)
            .envs(passwords),
    );
}

#[test]
fn commands_make_credentials_files() {
    let dir = tempfile::tempdir().unwrap();
    let nats = tools::nats().unwrap();
    let path = std::env::join_paths([nats.parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let sh = |script: &str| {
        output(
            Command::new("sh")
                .args(["-e", "-c", script])
                .current_dir(dir.path())
                // The keys are kept under the home folder.
                .env("HOME", dir.path())
                .env("XDG_CONFIG_HOME", dir.path().join("config"))
                .env("XDG_DATA_HOME", dir.path().join("data"))
                .env("PATH", &path),
        )
    };
    let document = std::fs::read_to_string(tools::workspace().join("docs/operations.md")).unwrap();
    for line in document.lines().filter(|line| line.starts_with("nats auth ")) {
        sh(line);
    }
    sh(&users("nats-auth"));
    for user in &access::USERS {
        let file = std::fs::read_to_string(dir.path().join(format!("{}.creds", user.name))).unwrap();
        assert!(file.contains("BEGIN NATS USER JWT"), "{file}");
    }
}
