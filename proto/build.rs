//! Generates the Rust code of `c3.v1` with protox, so that a build needs no `protoc`.

use std::path::PathBuf;

use prost::Message;
use prost_types::FileDescriptorSet;

const FILES: [&str; 6] = [
    "c3/v1/types.proto",
    "c3/v1/compressor.proto",
    "c3/v1/decoder.proto",
    "c3/v1/names.proto",
    "c3/v1/gateway.proto",
    "c3/v1/registry.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors: FileDescriptorSet = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("c3_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
