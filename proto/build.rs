//! Compiles the schema, and its canonical JSON mapping, into the crate.

use std::{fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    const PROTOS: [&str; 2] = ["castlog/v1/entries.proto", "castlog/v1/changes.proto"];
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?);
    let descriptor = out.join("schema.bin");

    prost_build::Config::new()
        .file_descriptor_set_path(&descriptor)
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        // The same message has the same bytes.
        .btree_map(["."])
        .compile_protos(&PROTOS, &["."])?;

    pbjson_build::Builder::new()
        .register_descriptors(&fs::read(descriptor)?)?
        // What a newer producer says must not stop an older reader of the JSON.
        .ignore_unknown_fields()
        .ignore_unknown_enum_variants()
        .btree_map(["."])
        .build(&[".castlog.v1"])?;

    let json = out.join("castlog.v1.serde.rs");
    let text = lenient(&fs::read_to_string(&json)?)?;
    fs::write(json, text)
}

/// Shows an enum number of a newer schema as unspecified. The generated code
/// refuses to write the whole message for it.
fn lenient(text: &str) -> io::Result<String> {
    const REFUSES: &str = ".map_err(|_| serde::ser::Error::custom(format!(\"Invalid variant ";
    let line = |line: &str| match line.split_once(REFUSES) {
        Some((before, after)) if after.ends_with("?;") => format!("{before}.unwrap_or_default();\n"),
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(line).collect();
    if text.contains(REFUSES) {
        return Err(io::Error::other(
            "the JSON code of an enum field has a shape that build.rs does not know",
        ));
    }
    Ok(text)
}
