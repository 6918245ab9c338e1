//! A rolling upgrade from the programs of another commit to these, and back, under load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use c3_client::Client;
use tempfile::TempDir;

use crate::harness::fixtures;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::chaos::load::{Load, LoadClient, LoadReport, Workload};

/// Programs of each role. Two, so that calls go on while one is replaced.
const EACH: usize = 2;
/// Roles in the order in which `docs/guides/operate.md` upgrades them.
const ORDER: [Program; 3] = [Program::DecoderNode, Program::CompressorNode, Program::Gateway];
/// Callers of each of the two loads. A load begins with one of the gateways.
const CALLERS: usize = 2;
/// Documents that the loads read, and the size of each.
const DOCUMENTS: usize = 10;
const DOCUMENT_BYTES: usize = 2000;
/// Calls that each load makes at least while each version serves alone.
const CALLS_MIN: usize = 20;
/// Maximum time in which these end.
const CALLS_LIMIT: Duration = Duration::from_secs(120);

/// Replaces the programs of the previous commit, or of the commit in the environment variable `C3_PREVIOUS`, by these,
/// one after another, and back.
pub(super) async fn upgrade(text: &str) -> Result<Vec<Quantity>> {
    let (previous, commit) = tokio::task::spawn_blocking(build_previous).await??;
    let folder = TempDir::with_prefix("c3-upgrade-")?;
    let mut programs = Vec::new();
    for program in ORDER {
        for _ in 0..EACH {
            programs.push((program, free_address()?));
        }
    }
    let fleet = Fleet { folder: folder.path(), programs: &programs };
    let mut running = Vec::new();
    for number in 0..programs.len() {
        running.push(fleet.start(number, Some(&previous)).await?);
    }
    let mut urls = Vec::from_iter(running[2 * EACH..].iter().map(Process::url));
    let workload = Workload::prepare(&GatewayApi::to(&running[2 * EACH])?, text, DOCUMENTS, DOCUMENT_BYTES).await?;
    let mut loads = Vec::new();
    for _ in 0..EACH {
        let client = LoadClient::Public(Client::connect(&urls.join(",")).await?);
        loads.push(workload.start(&client, CALLERS));
        // The callers of the next load begin with the other gateway.
        urls.rotate_left(1);
    }
    wait_for_calls(&loads).await?;
    for version in [None, Some(previous.as_path())] {
        for (number, process) in running.iter_mut().enumerate() {
            process.terminate().await?;
            *process = fleet.start(number, version).await?;
        }
        wait_for_calls(&loads).await?;
    }
    let mut reports = Vec::new();
    for load in loads {
        reports.push(load.end().await?);
    }
    let mut lost = unreadable(&reports, &running[2 * EACH]).await?;
    for (number, process) in running.iter_mut().enumerate() {
        process.terminate().await?;
        *process = fleet.start(number, None).await?;
    }
    lost.extend(unreadable(&reports, &running[2 * EACH]).await?);
    let failed = Vec::from_iter(reports.iter().flat_map(|report| report.failed.clone()));
    Ok(vec![
        Quantity::reported("upgrade-previous", commit),
        Quantity::reported("upgrade-calls", reports.iter().map(|report| report.succeeded).sum::<usize>()),
        Quantity::reported("upgrade-documents", reports.iter().map(|report| report.acknowledged.len()).sum::<usize>()),
        Quantity::equal("upgrade-failed-calls", failed, Vec::new()),
        Quantity::equal("upgrade-wrong-texts", reports.iter().map(|report| report.wrong).sum::<usize>(), 0),
        Quantity::equal("upgrade-unreadable", lost, Vec::new()),
    ])
}

/// Waits until each load has made [`CALLS_MIN`] further calls.
async fn wait_for_calls(loads: &[Load]) -> Result<()> {
    let goals = Vec::from_iter(loads.iter().map(|load| load.ended() + CALLS_MIN));
    let reached = || loads.iter().zip(&goals).all(|(load, goal)| load.ended() >= *goal);
    until("calls to end", CALLS_LIMIT, async || reached().then_some(())).await
}

/// Reads all documents that the loads stored. Returns one line for each that cannot be read or is wrong.
async fn unreadable(reports: &[LoadReport], gateway: &Process) -> Result<Vec<String>> {
    let (api, mut lost) = (GatewayApi::to(gateway)?, Vec::new());
    for report in reports {
        lost.extend(report.lost(&api).await);
    }
    Ok(lost)
}

/// Builds the programs of the previous commit unless they are built already. Returns their folder and the commit.
fn build_previous() -> Result<(PathBuf, String)> {
    let git = |args: &[&str]| -> Result<String> {
        let output = Command::new("git").args(args).current_dir(fixtures::root()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let revision = std::env::var("C3_PREVIOUS").unwrap_or_else(|_| "HEAD~1".to_owned());
    let commit = git(&["rev-parse", "--short", &revision])?;
    let target = fixtures::root().join("target/previous");
    let (source, build, binaries) = (target.join(&commit), target.join("build"), target.join(format!("{commit}-bin")));
    if !binaries.is_dir() {
        if !source.is_dir() {
            git(&["worktree", "prune"])?;
            git(&["worktree", "add", "--detach", &source.display().to_string(), &commit])?;
        }
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--workspace", "--locked", "--target-dir"]).arg(&build);
        for program in ORDER {
            cargo.args(["--bin", program.name()]);
        }
        let status = cargo.current_dir(&source).status()?;
        ensure!(status.success(), "cannot build {commit}");
        // The name exists only once the folder is complete.
        let copied = target.join(format!("{commit}-copying"));
        std::fs::create_dir_all(&copied)?;
        for program in ORDER {
            std::fs::copy(build.join("release").join(program.name()), copied.join(program.name()))?;
        }
        std::fs::rename(copied, &binaries)?;
        git(&["worktree", "remove", "--force", &source.display().to_string()])?;
    }
    Ok((binaries, commit))
}

/// Programs with fixed addresses over one store.
struct Fleet<'a> {
    folder: &'a Path,
    programs: &'a [(Program, String)],
}

impl Fleet<'_> {
    /// Starts the program with this number, and waits until it is ready.
    async fn start(&self, number: usize, binaries: Option<&Path>) -> Result<Process> {
        let (program, address) = &self.programs[number];
        let launch = Launch::new(*program).from_folder(binaries).args(["--listen", address]);
        let launch = match program {
            Program::Gateway => {
                let launch = launch.arg("--data").arg(self.folder.join("data"));
                self.programs.iter().fold(launch, |launch, (program, address)| match program {
                    Program::CompressorNode => launch.args(["--compressor", &format!("http://{address}")]),
                    Program::DecoderNode => launch.args(["--decoder", &format!("http://{address}")]),
                    _ => launch,
                })
            }
            // Two nodes of a stage share two cores.
            _ => launch.arg("--model").arg(fixtures::default_model()).args(["--threads", "1"]),
        };
        let mut process = launch.spawn(self.folder, address.clone()).await?;
        process.ready().await?;
        Ok(process)
    }
}
