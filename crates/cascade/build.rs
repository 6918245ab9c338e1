//! Compiles the CUDA kernels, if the feature `cuda` is enabled.
//!
//! `nvcc` is the one in `$CUDA_HOME/bin` if that variable is set, otherwise the one in the path. Each file in `cuda/`
//! becomes a binary with code for every supported architecture, and PTX for later ones.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Compute capabilities with code of their own: A100; RTX 30 and A10; RTX 40, L4 and L40; H100 and H200. `90a` allows
/// instructions that only Hopper has.
const ARCHITECTURES: [&str; 4] = ["80", "86", "89", "90a"];

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cuda");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let nvcc = match env::var_os("CUDA_HOME") {
        Some(home) => Path::new(&home).join("bin/nvcc"),
        None => PathBuf::from("nvcc"),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let files = fs::read_dir("cuda").map_err(|error| format!("crates/cascade/cuda: {error}"))?;
    for file in files.flatten().map(|file| file.path()) {
        if file.extension().is_some_and(|extension| extension == "cu") {
            compile(&nvcc, &file, &out)?;
        }
    }
    Ok(())
}

/// Compiles `source` to a binary of the same name in `out`.
fn compile(nvcc: &Path, source: &Path, out: &Path) -> Result<(), String> {
    let name = source.file_stem().ok_or("a kernel file has no name")?;
    let mut command = Command::new(nvcc);
    command.args(["-std=c++17", "-O3", "-fatbin", "--threads", "0", "-Wno-deprecated-gpu-targets"]);
    // Kernels with a defined order of operations write out every fused multiply-add.
    if !name.to_string_lossy().starts_with("dense") {
        command.arg("-fmad=false");
    }
    for architecture in ARCHITECTURES {
        command.arg(format!("-gencode=arch=compute_{architecture},code=sm_{architecture}"));
    }
    command.arg("-gencode=arch=compute_90,code=compute_90");
    command.arg(source).arg("-o").arg(out.join(name).with_extension("fatbin"));
    let output = command.output().map_err(|error| {
        format!("{} cannot be started ({error}): install the CUDA toolkit and set CUDA_HOME", nvcc.display())
    })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}:\n{}", source.display(), String::from_utf8_lossy(&output.stderr))),
    }
}
