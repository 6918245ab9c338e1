//! A rolling upgrade from the programs of another commit to these, and back, under load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use c3_client::{ByteRange, Client, WriteOptions};
use futures::TryStreamExt;
use futures::future::try_join_all;
use tempfile::TempDir;

use crate::harness::fixtures;
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Programs of each role. Two, so that calls go on while one is replaced.
const EACH: usize = 2;
/// Roles in the order in which `docs/guides/operate.md` upgrades them.
const ORDER: [Program; 3] = [Program::DecoderNode, Program::CompressorNode, Program::Gateway];
/// Callers at once. Each writes a document and reads one.
const CALLERS: usize = 3;
/// Documents that the load writes at least while each version serves alone.
const DOCUMENTS_MIN: usize = 20;
/// Maximum time until these are written.
const WRITE_LIMIT: Duration = Duration::from_secs(120);

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
    let mut clients = Vec::new();
    for _ in 0..CALLERS {
        clients.push(Client::connect(&urls.join(",")).await?);
        // Callers begin with different gateways.
        urls.rotate_left(1);
    }
    let load = Arc::new(Load { clients, text: text.to_owned(), ..Load::default() });
    let callers = load.clients.iter().map(|client| tokio::spawn(Arc::clone(&load).run(client.clone())));
    let callers = Vec::from_iter(callers);
    let mut written = vec![load.written_after(DOCUMENTS_MIN).await?];
    for version in [None, Some(previous.as_path())] {
        for (number, process) in running.iter_mut().enumerate() {
            process.terminate().await?;
            *process = fleet.start(number, version).await?;
        }
        written.push(load.written_after(DOCUMENTS_MIN).await?);
    }
    load.ended.store(true, Ordering::Relaxed);
    try_join_all(callers).await?;
    let unreadable_by_previous = load.unreadable().await;
    for (number, process) in running.iter_mut().enumerate() {
        process.terminate().await?;
        *process = fleet.start(number, None).await?;
    }
    Ok(vec![
        Quantity::reported("upgrade-previous", commit),
        Quantity::reported("upgrade-documents", written),
        Quantity::equal("upgrade-failed-calls", load.failures(), Vec::new()),
        Quantity::equal("upgrade-unreadable", [unreadable_by_previous, load.unreadable().await], [0, 0]),
    ])
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

/// Callers that write and read documents with the client library. It goes to another gateway if one does not answer.
#[derive(Default)]
struct Load {
    /// Client of each caller.
    clients: Vec<Client>,
    text: String,
    begun: AtomicUsize,
    /// Ids of the documents, with their texts.
    written: Mutex<Vec<(String, String)>>,
    failures: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Load {
    async fn run(self: Arc<Self>, client: Client) {
        while !self.ended.load(Ordering::Relaxed) {
            if let Err(error) = self.write_and_read(&client).await {
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
            }
        }
    }

    async fn write_and_read(&self, client: &Client) -> Result<()> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let text = format!("{number} {}", self.text);
        let stored = client.put_text(text.clone(), &WriteOptions::default()).await?;
        let earlier = self.with_written(|written| {
            written.push((stored.document.id.to_string(), text));
            written[number * 7919 % written.len()].clone()
        });
        ensure!(reads(client, &earlier).await?, "the text of {} is wrong", earlier.0);
        Ok(())
    }

    /// Waits until this number of further documents is written. Returns the number of all documents.
    async fn written_after(&self, further: usize) -> Result<usize> {
        let goal = self.with_written(|written| written.len()) + further;
        until("documents to be written", WRITE_LIMIT, async || {
            let written = self.with_written(|written| written.len());
            (written >= goal).then_some(written)
        })
        .await
    }

    /// Returns the number of documents that cannot be read or are wrong.
    async fn unreadable(&self) -> usize {
        let mut unreadable = 0;
        for document in self.with_written(|written| written.clone()) {
            unreadable += usize::from(!reads(&self.clients[0], &document).await.unwrap_or(false));
        }
        unreadable
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with_written<T>(&self, f: impl FnOnce(&mut Vec<(String, String)>) -> T) -> T {
        f(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads a document. Returns whether its text is right.
async fn reads(client: &Client, (id, text): &(String, String)) -> Result<bool> {
    let pieces: Vec<_> = client.get(id, ByteRange::default()).await?.try_collect().await?;
    Ok(pieces.concat() == text.as_bytes())
}
