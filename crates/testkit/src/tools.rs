//! Where the programs are that tests run.
//!
//! For each: the file that `<NAME>_BIN` names (`NATS_SERVER_BIN`,
//! `MEILISEARCH_BIN`, `FFMPEG_BIN`, …), else the project's own tool folder,
//! else `PATH`.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or_else(|| Path::new("."))
}

/// Finds a program by its file name.
///
/// # Errors
/// It is nowhere; the error names the command that installs it.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    find_in(
        name,
        std::env::var_os(variable(name)).as_deref(),
        std::env::var_os("PATH").as_deref(),
    )
}

fn find_in(name: &str, chosen: Option<&OsStr>, path: Option<&OsStr>) -> anyhow::Result<PathBuf> {
    if let Some(chosen) = chosen {
        let chosen = PathBuf::from(chosen);
        anyhow::ensure!(
            is_program(&chosen),
            "{} names {}, which is not an executable file",
            variable(name),
            chosen.display()
        );
        return Ok(chosen);
    }
    let own = workspace().join(".tools/bin").join(name);
    let on_path = path
        .into_iter()
        .flat_map(std::env::split_paths)
        .map(|folder| folder.join(name));
    std::iter::once(own)
        .chain(on_path)
        .find(|candidate| is_program(candidate))
        .with_context(|| {
            format!(
                "{name} not found: run ./dev once, which installs it, or set {} to its path",
                variable(name)
            )
        })
}

fn variable(name: &str) -> String {
    format!("{}_BIN", name.to_uppercase().replace('-', "_"))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// nats-server.
///
/// # Errors
/// See [`find`].
pub fn nats_server() -> anyhow::Result<PathBuf> {
    find("nats-server")
}

/// redis-server.
///
/// # Errors
/// See [`find`].
pub fn redis_server() -> anyhow::Result<PathBuf> {
    find("redis-server")
}

/// Meilisearch.
///
/// # Errors
/// See [`find`].
pub fn meilisearch() -> anyhow::Result<PathBuf> {
    find("meilisearch")
}

/// versitygw, an S3 server.
///
/// # Errors
/// See [`find`].
pub fn versitygw() -> anyhow::Result<PathBuf> {
    find("versitygw")
}

/// rclone, whose S3 server has no conditional writes.
///
/// # Errors
/// See [`find`].
pub fn rclone() -> anyhow::Result<PathBuf> {
    find("rclone")
}

/// The `nats` command line client.
///
/// # Errors
/// See [`find`].
pub fn nats() -> anyhow::Result<PathBuf> {
    find("nats")
}

/// ffmpeg.
///
/// # Errors
/// See [`find`].
pub fn ffmpeg() -> anyhow::Result<PathBuf> {
    find("ffmpeg")
}

/// ffprobe.
///
/// # Errors
/// See [`find`].
pub fn ffprobe() -> anyhow::Result<PathBuf> {
    find("ffprobe")
}

/// A Chromium that takes `--headless`.
///
/// # Errors
/// See [`find`].
pub fn chromium() -> anyhow::Result<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    names
        .iter()
        .find_map(|name| find(name).ok())
        .map_or_else(|| find("chromium"), Ok)
}

/// The castlog binary: `CASTLOG_BIN`, else the one that cargo built beside the
/// program that asks.
///
/// # Errors
/// It has not been built.
pub fn castlog() -> anyhow::Result<PathBuf> {
    if std::env::var_os("CASTLOG_BIN").is_some() {
        return find("castlog");
    }
    // Tests run from <target>/<profile>/deps, benchmarks from <target>/<profile>.
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    let built = own.ancestors().skip(1).take(2).map(|folder| folder.join("castlog"));
    let usual = ["debug", "release"]
        .into_iter()
        .map(|profile| workspace().join("target").join(profile).join("castlog"));
    built.chain(usual).find(|candidate| is_program(candidate)).context(
        "the castlog binary is not built: run `cargo build --locked -p castlog`, or set CASTLOG_BIN to its path",
    )
}

/// A real recording to test with, when the environment names one in
/// `CASTLOG_TEST_MEDIA`. Tests that can do with less make their own pictures.
#[must_use]
pub fn test_media() -> Option<PathBuf> {
    std::env::var_os("CASTLOG_TEST_MEDIA")
        .map(PathBuf::from)
        .filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::{find_in, variable};
    use std::ffi::OsStr;

    #[test]
    fn the_variable_of_a_program() {
        assert_eq!(variable("nats-server"), "NATS_SERVER_BIN");
    }

    #[test]
    fn a_missing_program_names_the_remedy() {
        let error = find_in("no-such-program", None, Some(OsStr::new("/nowhere")))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("./dev") && error.contains("NO_SUCH_PROGRAM_BIN"),
            "{error}"
        );
    }

    #[test]
    fn a_chosen_program_must_be_there() {
        let error = find_in("sh", Some(OsStr::new("/nowhere/sh")), Some(OsStr::new("/bin")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("SH_BIN names /nowhere/sh"), "{error}");
    }

    #[test]
    fn programs_on_the_path_are_found() {
        let found = find_in("sh", None, Some(OsStr::new("/nowhere:/bin"))).unwrap();
        assert_eq!(found, std::path::Path::new("/bin/sh"));
    }
}
