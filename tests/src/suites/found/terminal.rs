//! Signals, closed outputs and progress bars of the command line.

use std::fs::{self, OpenOptions};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use c3_types::DocumentId;
use tempfile::TempDir;

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::foreground::{Foreground, full_output};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::{default_options, medium_text, small_text};

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &["signals-while-blocked", "unwritable-stderr", "few-descriptors-of-c3", "progress-bars"];

/// Maximum time from a signal to the exit of a blocked command.
const EXIT_LIMIT: Duration = Duration::from_secs(10);
/// Signals that ask a program to end, with the exit code of a program that they ended.
const SIGNALS: [(&str, i32); 3] = [("HUP", 129), ("INT", 130), ("TERM", 143)];
/// First argument of a system call that writes to standard output.
const STDOUT: u32 = 1;
/// First argument of a system call that opens a file by its path (`AT_FDCWD`, the current directory).
const CURRENT_DIRECTORY: u32 = 0xffff_ff9c;
/// Size in bytes of each text whose progress is shown.
const TEXT_BYTES: usize = 2048;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "signals-while-blocked" => signals_while_blocked().await,
        "unwritable-stderr" => unwritable_stderr().await,
        "few-descriptors-of-c3" => few_descriptors().await,
        "progress-bars" => progress_bars().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Sends one signal to commands that are blocked in a write to an output that nobody reads, or in opening a pipe; they
/// must end with the exit code of the signal.
async fn signals_while_blocked() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let folder = TempDir::new()?;
    let pipe = folder.path().join("pipe").display().to_string();
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "mkfifo failed");
    let text = small_text(1);
    cluster.api()?.put(text.as_bytes(), default_options()).await?;
    let id = DocumentId::of(text.as_bytes()).to_string();
    let mut quantities = Vec::new();
    for (signal, code) in SIGNALS {
        // The shell that started this program may ignore SIGHUP, as nohup does.
        let c3 = |args: &[&str]| at(&cluster, args).under(["env", "--default-signal=HUP"]);
        let (stdout, _reader) = full_output()?;
        let mut list = Foreground::start(&c3(&["ls"]), stdout)?;
        list.blocks_in_call_of(STDOUT).await?;
        list.signal(signal)?;
        let ended = list.ended(EXIT_LIMIT).await.ok().and_then(|status| status.code());
        quantities.push(Quantity::equal(format!("blocked-output-{signal}"), ended, Some(code)));
        let mut get = Foreground::start(&c3(&["get", &id, "-o", &pipe]), Stdio::null())?;
        get.blocks_in_call_of(CURRENT_DIRECTORY).await?;
        get.signal(signal)?;
        let ended = get.ended(EXIT_LIMIT).await.ok().and_then(|status| status.code());
        quantities.push(Quantity::equal(format!("blocked-pipe-{signal}"), ended, Some(code)));
    }
    Ok(quantities)
}

/// Runs programs that fail while standard error cannot be written; they must exit with the right code.
async fn unwritable_stderr() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let commands = [
        ("c3-usage", Launch::new(Program::C3).arg("fetch"), 2),
        ("c3-failure", Launch::new(Program::C3).args(["roundtrip", "/no/such/file"]), 1),
        ("c3-batch", at(&cluster, &["put", "/no/such/file", "/no/such/other"]), 1),
        ("gateway", Launch::new(Program::Gateway).args(["--listen", "192.0.2.1:1"]), 1),
    ];
    let mut quantities = Vec::new();
    for (name, launch, code) in commands {
        let mut command = launch.command()?;
        command.stdout(Stdio::null()).stderr(OpenOptions::new().write(true).open("/dev/full")?);
        let status = tokio::task::spawn_blocking(move || command.status()).await??;
        quantities.push(Quantity::equal(format!("unwritable-stderr-{name}"), status.code(), Some(code)));
    }
    Ok(quantities)
}

/// Runs programs with few file descriptors; none may panic, and the error must name `ulimit -n`. A panic would give the
/// exit code 101.
async fn few_descriptors() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let limited = |launch: Launch, limit: usize| {
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        async move { launch.under(["sh", "-c", &script]).output().await }
    };
    let mut panics = Vec::new();
    for limit in 4..40 {
        let Output { status, .. } = limited(at(&cluster, &["ls"]), limit).await?;
        if !matches!(status.code(), Some(0 | 1)) {
            panics.push(limit);
        }
    }
    let mut quantities = vec![Quantity::equal("few-descriptors-of-c3-panics", panics, Vec::new())];
    for (name, launch) in [("c3", at(&cluster, &["ls"])), ("gateway", Launch::new(Program::Gateway))] {
        let Output { status, stderr, .. } = limited(launch, 7).await?;
        let seen = format!("exit {:?}: {}", status.code(), String::from_utf8_lossy(&stderr).trim());
        let ok =
            seen.starts_with("exit Some(1): error: ") && seen.ends_with("`ulimit -n`") && seen.lines().count() == 1;
        quantities.push(Quantity::observed(
            format!("few-descriptors-of-c3-{name}"),
            seen,
            ok,
            "exit 1 and a line that names the remedy",
        ));
    }
    Ok(quantities)
}

/// Watches progress bars on a terminal while a decoder node is stopped; they must show the total and never `0 B` done.
/// No bar may appear within a text that `c3 get` prints.
async fn progress_bars() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let folder = TempDir::new()?;
    let text = medium_text(0);
    cluster.api()?.put(text.as_bytes(), default_options()).await?;
    let id = DocumentId::of(text.as_bytes()).to_string();
    let mut get = Foreground::start_on_terminal(&at(&cluster, &["get", &id]))?;
    get.ended(Duration::from_secs(60)).await?;
    let last = text.lines().last().unwrap_or_default();
    get.shows(last).await?;
    // A terminal shows a line feed as a carriage return and a line feed.
    let mut quantities = vec![Quantity::equal("progress-in-the-text", get.screen(), text.replace('\n', "\r\n"))];

    for number in 1..4 {
        fs::write(folder.path().join(format!("{number}.txt")), &medium_text(number)[..TEXT_BYTES])?;
    }
    let folder = folder.path().display().to_string();
    let first = format!("{folder}/1.txt");
    for (name, argument, total) in [("one-text", &first, "2.00 KiB"), ("several-texts", &folder, "6.00 KiB")] {
        cluster.decoders[0].signal("STOP")?;
        let mut put = Foreground::start_on_terminal(&at(&cluster, &["put", argument]))?;
        let shown = put.shows(total).await;
        let screen = put.screen();
        cluster.decoders[0].signal("CONT")?;
        quantities.push(Quantity::holds(format!("progress-total-of-{name}"), shown.is_ok(), format!("shows {total}")));
        quantities.push(Quantity::holds(
            format!("progress-nothing-done-of-{name}"),
            !screen.contains(" 0 B"),
            "never 0 B",
        ));
        let ended = put.ended(Duration::from_secs(60)).await?;
        quantities.push(Quantity::equal(format!("progress-put-of-{name}"), ended.code(), Some(0)));
    }
    Ok(quantities)
}

fn at(cluster: &Cluster, args: &[&str]) -> Launch {
    Launch::new(Program::C3).args(args).env("C3_GATEWAY", cluster.gateway.url())
}
