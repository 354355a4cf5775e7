//! The schema is compatible with every released one, in both directions: this
//! version reads what a released one has written, and the other way round.
//!
//! `proto/released/<version>/` holds the schema of each release.

mod rules;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use prost_types::FileDescriptorSet;
use rules::breaks;
use tempfile::TempDir;

const FILES: [&str; 2] = ["castlog/v1/entries.proto", "castlog/v1/changes.proto"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The schema in a folder; a release may lack a file that came later.
fn schema(folder: &Path) -> io::Result<FileDescriptorSet> {
    let files: Vec<PathBuf> = FILES
        .iter()
        .map(|file| folder.join(file))
        .filter(|path| path.exists())
        .collect();
    assert!(!files.is_empty(), "{} holds no schema", folder.display());
    prost_build::Config::new().load_fds(&files, &[folder])
}

#[test]
fn every_released_schema_is_compatible() -> io::Result<()> {
    let mut releases = 0;
    let current = schema(&root())?;
    for release in fs::read_dir(root().join("released"))? {
        let path = release?.path();
        if path.is_dir() {
            releases += 1;
            let breaks = breaks(&schema(&path)?, &current);
            assert!(breaks.is_empty(), "against {}:\n{}", path.display(), breaks.join("\n"));
        }
    }
    assert!(releases > 0);
    Ok(())
}

/// The current schema with a piece of its text replaced.
fn changed(from: &str, to: &str) -> io::Result<FileDescriptorSet> {
    let folder = TempDir::new()?;
    let mut replaced = 0;
    for file in FILES {
        let text = fs::read_to_string(root().join(file))?;
        replaced += text.matches(from).count();
        let path = folder.path().join(file);
        fs::create_dir_all(path.with_file_name(""))?;
        fs::write(path, text.replace(from, to))?;
    }
    assert_eq!(replaced, 1, "{from:?}");
    schema(folder.path())
}

#[test]
fn what_breaks_a_reader_or_a_writer_is_found() -> io::Result<()> {
    let current = schema(&root())?;
    for (from, to, found) in [
        (
            "string owner = 1;\n    google.protobuf.Timestamp created_at = 2;\n  }\n  // The broadcast is gone",
            "string owner = 1;\n    google.protobuf.Timestamp made_at = 2;\n  }\n  // The broadcast is gone",
            "castlog.v1.Registration.Created.created_at = 2: its name is made_at",
        ),
        (
            "string title = 1;",
            "string title = 2;",
            "castlog.v1.Title.Changed.title = 1: it is gone without being reserved",
        ),
        (
            "string title = 1;",
            "string title = 2;",
            "castlog.v1.Title.Changed.title = 2: its name had the number 1",
        ),
        (
            "string title = 1;",
            "bytes title = 1;",
            "castlog.v1.Title.Changed.title = 1: its type is Bytes",
        ),
        (
            "string title = 1;",
            "repeated string title = 1;",
            "castlog.v1.Title.Changed.title = 1: its label is Repeated",
        ),
        (
            "string title = 1;",
            "optional string title = 1;",
            "castlog.v1.Title.Changed.title = 1: its presence is explicit",
        ),
        (
            "string title = 1;",
            "reserved 1;",
            "castlog.v1.Title.Changed.title = 1: it is gone without being reserved",
        ),
        (
            "string title = 1;",
            "reserved \"title\";",
            "castlog.v1.Title.Changed.title = 1: it is gone without being reserved",
        ),
        (
            "Title title = 3;",
            "Tags title = 3;",
            "castlog.v1.BroadcastState.title = 3: its type is .castlog.v1.Tags",
        ),
        (
            "map<string, Version> versions = 100;",
            "map<uint32, Version> versions = 100;",
            "VersionsEntry.key = 1: its type is Uint32",
        ),
        (
            "    Rotated rotated = 2;\n    Revoked revoked = 3;\n  }",
            "    Rotated rotated = 2;\n  }\n  Revoked revoked = 3;",
            "castlog.v1.PublishKey.revoked = 3: it is in no oneof, and was in event",
        ),
        (
            "VISIBILITY_PRIVATE = 2;",
            "VISIBILITY_HIDDEN = 2;",
            "castlog.v1.Visibility.VISIBILITY_PRIVATE = 2: its name is VISIBILITY_HIDDEN",
        ),
        (
            "VISIBILITY_PRIVATE = 2;",
            "VISIBILITY_PRIVATE = 3;",
            "castlog.v1.Visibility.VISIBILITY_PRIVATE = 3: its name had the number 2",
        ),
        (
            "VISIBILITY_PRIVATE = 2;",
            "",
            "castlog.v1.Visibility.VISIBILITY_PRIVATE = 2: it is gone without being reserved",
        ),
        (
            "message Viewers {",
            "message Audience {",
            "castlog.v1.Viewers: it is gone",
        ),
    ] {
        let new = changed(from, to)?;
        let breaks = breaks(&current, &new);
        assert!(
            breaks.iter().any(|line| line.contains(found)),
            "{to:?}: {breaks:#?} without {found:?}"
        );
    }
    Ok(())
}

#[test]
fn what_is_only_added_or_reserved_is_fine() -> io::Result<()> {
    let current = schema(&root())?;
    for (from, to) in [
        ("string title = 1;", "string title = 1;\n    string subtitle = 2;"),
        ("string title = 1;", "reserved 1;\n    reserved \"title\";"),
        (
            "    Revoked revoked = 3;\n",
            "    Revoked revoked = 3;\n    Revoked expired = 4;\n",
        ),
        (
            "VISIBILITY_PRIVATE = 2;",
            "VISIBILITY_PRIVATE = 2;\n  VISIBILITY_HIDDEN = 3;",
        ),
        (
            "VISIBILITY_PRIVATE = 2;",
            "reserved 2;\n  reserved \"VISIBILITY_PRIVATE\";",
        ),
        ("message Viewers {", "message Chat {}\nmessage Viewers {"),
    ] {
        let new = changed(from, to)?;
        assert_eq!(breaks(&current, &new), Vec::<String>::new(), "{to:?}");
    }
    let mut less = current.clone();
    for file in &mut less.file {
        file.enum_type.retain(|choice| choice.name() != "LatencyMode");
    }
    assert_eq!(breaks(&current, &less), ["castlog.v1.LatencyMode: it is gone"]);
    // What is reserved stays so, in the next release too.
    let reserved = changed("string title = 1;", "reserved 1, 5 to 7;\n    reserved \"title\";")?;
    assert!(breaks(&reserved, &reserved).is_empty());
    let breaks = breaks(&reserved, &current);
    for found in [
        "title = 1: the number is reserved",
        "title = 1: the name is reserved",
        "5 is not reserved any more",
    ] {
        assert!(
            breaks.iter().any(|line| line.contains(found)),
            "{breaks:#?} without {found:?}"
        );
    }
    Ok(())
}
