//! Failed starts: the program must exit with code 1 and print one line that says what to do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;

/// User id without any permissions.
const NOBODY: &str = "65534";

/// Starts programs on a used port, with broken models, and with a data folder that cannot be written; each must exit
/// with code 1 and print one line that names the cause.
pub async fn refusals() -> Result<Vec<Quantity>> {
    let mut quantities = ports_in_use().await?;
    quantities.extend(broken_models().await?);
    quantities.push(data_not_writable().await?);
    Ok(quantities)
}

async fn ports_in_use() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let taken = cluster.gateway.address();
    let data = TempDir::new()?;
    let mut quantities = Vec::new();
    for program in [Program::CompressorNode, Program::DecoderNode, Program::Gateway] {
        let mut launch = Launch::new(program).args(["--listen", taken]).env("C3_LOG", "error");
        launch = match program {
            Program::Gateway => with_nodes(launch).arg("--data").arg(data.path()),
            _ => launch.arg("--model").arg(fixtures::default_model()),
        };
        let output = launch.output().await?;
        quantities.push(one_line(&format!("port-in-use-{}", program.name()), &output, taken));
    }
    Ok(quantities)
}

/// Adds the node addresses that a gateway requires. Nothing listens on them.
fn with_nodes(gateway: Launch) -> Launch {
    gateway.args(["--compressor", "http://127.0.0.1:7301", "--decoder", "http://127.0.0.1:7302"])
}

async fn broken_models() -> Result<Vec<Quantity>> {
    let missing = copy_of_model()?;
    fs::remove_file(missing.path().join("decoder.gguf"))?;
    fs::remove_file(missing.path().join("compressor.gguf"))?;
    let wrong = copy_of_model()?;
    for file in ["decoder.gguf", "compressor.gguf"] {
        let path = wrong.path().join(file);
        let mut bytes = fs::read(&path)?;
        let last = bytes.last_mut().context("the file is empty")?;
        *last ^= 1;
        fs::write(path, bytes)?;
    }
    let mut quantities = Vec::new();
    for (name, folder) in [("model-file-missing", &missing), ("checksum-wrong", &wrong)] {
        for (program, file) in [(Program::CompressorNode, "compressor.gguf"), (Program::DecoderNode, "decoder.gguf")] {
            let launch = Launch::new(program).args(["--listen", "127.0.0.1:0"]).env("C3_LOG", "error");
            let output = launch.arg("--model").arg(folder.path()).output().await?;
            quantities.push(one_line(&format!("{name}-{}", program.name()), &output, file));
        }
    }
    Ok(quantities)
}

fn copy_of_model() -> Result<TempDir> {
    let folder = TempDir::new()?;
    for entry in fs::read_dir(fixtures::default_model())? {
        let entry = entry?;
        fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
    }
    Ok(folder)
}

/// Starts a gateway that may not write its data folder. The gateway does not run as root, because root may write
/// everywhere.
async fn data_not_writable() -> Result<Quantity> {
    let parent = TempDir::new()?;
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o555))?;
    let data = parent.path().join("data");
    let launch = with_nodes(Launch::new(Program::Gateway)).args(["--listen", "127.0.0.1:0"]).env("C3_LOG", "error");
    let mut command = as_nobody(launch.arg("--data").arg(&data).command()?)?;
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(one_line("data-not-writable", &output, &data.to_string_lossy()))
}

/// Wraps the command to run as [`NOBODY`] if this process runs as root. Otherwise, returns it unchanged.
fn as_nobody(command: Command) -> Result<Command> {
    const ROOT: u32 = 0;
    if fs::metadata("/proc/self")?.uid() != ROOT {
        return Ok(command);
    }
    let mut other = Command::new("setpriv");
    other.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    other.arg(command.get_program()).args(command.get_args());
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ok(other)
}

/// Requires exit code 1 and a single line on standard error that starts with `error: ` and contains `says`.
fn one_line(name: &str, output: &Output, says: &str) -> Quantity {
    let printed = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = printed.lines().collect();
    let ok = output.status.code() == Some(1)
        && matches!(lines.as_slice(), [line] if line.starts_with("error: ") && line.contains(says));
    let seen = format!("exit {:?}: {}", output.status.code(), printed.trim());
    Quantity::observed(name, seen, ok, format!("exit 1 and one line, `error: …{says}…`"))
}
