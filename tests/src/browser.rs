//! What a viewer sees: the scripts of `tests/browser`, each of which opens a
//! page in headless Chromium, run against a platform.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use castlog_testkit::tools;
use serde_json::Value;
use tokio::process::Command;

use crate::System;

/// All points in a row, of which each has steps of up to a minute.
const LIMIT_OF_ALL: Duration = Duration::from_secs(1200);
/// A script has several steps of up to a minute each; past this it hangs.
const LIMIT: Duration = Duration::from_secs(240);

/// A browser that looks at one platform's pages.
#[derive(Clone, Debug)]
pub struct Browser {
    base: String,
    scripts: PathBuf,
    node: PathBuf,
    chromium: PathBuf,
}

impl Browser {
    /// A browser for the pages at `base`, which is the Live API's address.
    ///
    /// # Errors
    /// Node, Chromium or the scripts' packages are not installed.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        let scripts = tools::workspace().join("tests/browser");
        ensure!(
            scripts.join("node_modules/playwright-core").is_dir(),
            "the browser tests' packages are not installed: run tools/browser.sh"
        );
        Ok(Self {
            base: base.to_owned(),
            scripts,
            node: tools::find("node")?,
            // The scripts' own variable goes before the tests'.
            chromium: std::env::var_os("CHROMIUM").map_or_else(tools::chromium, |chosen| Ok(chosen.into()))?,
        })
    }

    /// Watches a broadcast and changes the quality once through the page's
    /// menu; the figures.
    ///
    /// # Errors
    /// It does not play through hls.js, or the quality does not change.
    pub async fn watches(&self, id: &str) -> anyhow::Result<Value> {
        self.run("watch.mjs", &[&format!("{}/watch/{id}", self.base)]).await
    }

    /// Watches a broadcast, whose picture shows the time, for some seconds; how far
    /// behind it is, and how it is played.
    ///
    /// # Errors
    /// It does not play through hls.js, or not by parts.
    pub async fn lags(&self, id: &str, seconds: u64) -> anyhow::Result<Value> {
        let url = format!("{}/watch/{id}", self.base);
        self.run("latency.mjs", &[&url, &seconds.to_string()]).await
    }

    /// Watches a broadcast over a discontinuity that comes once the file `mark` is
    /// there; what the viewer saw of it.
    ///
    /// # Errors
    /// The player gave up, or did not go on.
    pub async fn outlives(&self, id: &str, mark: &Path) -> anyhow::Result<Value> {
        let url = format!("{}/watch/{id}", self.base);
        let mark = mark.to_str().context("the path of the mark is not UTF-8")?;
        self.run("outlives.mjs", &[&url, mark]).await
    }

    /// Watches a broadcast for some seconds; how much of it was seen.
    ///
    /// # Errors
    /// The picture stands still for good.
    pub async fn soaks(&self, id: &str, seconds: u64) -> anyhow::Result<Value> {
        let arguments = [format!("{}/watch/{id}", self.base), seconds.to_string()];
        let limit = LIMIT + Duration::from_secs(seconds);
        self.run_within(limit, "soak.mjs", &arguments.each_ref().map(String::as_str))
            .await
    }

    /// Watches what was recorded of a broadcast that is over, and seeks in it.
    ///
    /// # Errors
    /// It does not play, or not from where it was sought to.
    pub async fn replays(&self, id: &str) -> anyhow::Result<Value> {
        self.run("recording.mjs", &[&format!("{}/watch/{id}", self.base)]).await
    }

    /// The watch page of an id says that there is no such broadcast, and plays nothing.
    ///
    /// # Errors
    /// It shows something else.
    pub async fn misses(&self, id: &str) -> anyhow::Result<Value> {
        self.run("missing.mjs", &[&format!("{}/watch/{id}", self.base)]).await
    }

    /// Types `query` into the search page, finds the card of `id` and follows it; what the card shows.
    ///
    /// # Errors
    /// The broadcast is not found, or its card leads elsewhere.
    pub async fn finds(&self, query: &str, id: &str) -> anyhow::Result<Value> {
        self.run("search.mjs", &[&self.base, query, id]).await
    }

    /// Types `query` into the search page, which shows that it finds nothing.
    ///
    /// # Errors
    /// It finds something.
    pub async fn finds_nothing(&self, query: &str) -> anyhow::Result<Value> {
        self.run("nothing.mjs", &[&self.base, query]).await
    }

    /// Checks every point of the pages; what the tests printed.
    ///
    /// # Errors
    /// One of them does not hold; the message holds what the tests printed.
    pub async fn checks_the_pages(&self, system: &System) -> anyhow::Result<String> {
        let mut command = self.node();
        command.arg("--test").arg(self.scripts.join("ui.test.mjs"));
        for name in [
            "CASTLOG_API_URL",
            "CASTLOG_ADMIN_TOKEN",
            "CASTLOG_RTMP_URL",
            "NATS_URL",
            "NATS_OPERATOR_USER",
            "NATS_OPERATOR_PASSWORD",
        ] {
            command.env(name, system.env(name)?);
        }
        command
            .env("CASTLOG_DATA", system.folder())
            .env("NATS_BIN", tools::nats()?);
        let output = finish("ui.test.mjs", LIMIT_OF_ALL, command).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    /// Scrolls through the event explorer once it has `rows` rows; the figures.
    ///
    /// # Errors
    /// It never has so many, or puts too many of them into the document.
    pub async fn scrolls(&self, token: &str, rows: u64) -> anyhow::Result<Value> {
        self.run("scroll.mjs", &[&self.base, token, &rows.to_string()]).await
    }

    fn node(&self) -> Command {
        let mut command = Command::new(&self.node);
        command
            .env("CHROMIUM", &self.chromium)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        self.run_within(LIMIT, script, arguments).await
    }

    async fn run_within(&self, limit: Duration, script: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = self.node();
        command.arg(self.scripts.join(script)).args(arguments);
        let output = finish(script, limit, command).await?;
        if !output.status.success() {
            bail!("{script}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("{script} printed no JSON"))
    }
}

async fn finish(script: &str, limit: Duration, mut command: Command) -> anyhow::Result<std::process::Output> {
    tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("{script} has not ended within {limit:?}"))?
        .with_context(|| format!("cannot start {script}"))
}
