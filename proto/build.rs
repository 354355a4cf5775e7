//! Compiles the entry schema, and its canonical JSON mapping, into the crate.

use std::{io, path::PathBuf};

fn main() -> io::Result<()> {
    const PROTO: &str = "castlog/v1/entries.proto";
    println!("cargo:rerun-if-changed={PROTO}");

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?);
    let descriptor = out.join("entries.bin");

    prost_build::Config::new()
        .file_descriptor_set_path(&descriptor)
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_protos(&[PROTO], &["."])?;

    pbjson_build::Builder::new()
        .register_descriptors(&std::fs::read(descriptor)?)?
        // A newer producer's fields must not stop an older reader of the JSON.
        .ignore_unknown_fields()
        .build(&[".castlog.v1"])
}
