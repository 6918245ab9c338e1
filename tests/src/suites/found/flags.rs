//! Flags, environment variables and units of the command lines; control characters, colours and noise in their output.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tonic::Code;

use crate::harness::cluster::ClusterSpec;
use crate::harness::external;
use crate::harness::fixtures;
use crate::harness::process::{Launch, Process, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::disk::unprivileged;
use crate::suites::store::ops::default_options;

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &[
    "empty-variables",
    "default-data-folder",
    "unit-suffixes",
    "global-flags",
    "control-characters",
    "log-colours",
    "log-noise",
];

/// Maximum time until a program listens or refuses to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Number of failing calls in [`repeated_lines`].
const FAILED_CALLS: usize = 30;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "empty-variables" => empty_variables().await,
        "default-data-folder" => default_data_folder().await,
        "unit-suffixes" => unit_suffixes().await,
        "global-flags" => global_flags().await,
        "control-characters" => control_characters().await,
        "log-colours" => log_colours(),
        "log-noise" => log_noise().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Returns the command line of every server, with the role that it logs once it listens. `c3 serve` runs several
/// servers, of which the gateway listens last.
fn servers() -> [(Launch, &'static str); 4] {
    [
        (Launch::new(Program::CompressorNode), "compressor"),
        (Launch::new(Program::DecoderNode), "decoder"),
        (Launch::new(Program::Gateway), "gateway"),
        (Launch::new(Program::C3).arg("serve"), "gateway"),
    ]
}

async fn help(launch: &Launch) -> Result<String> {
    Ok(String::from_utf8(launch.clone().arg("--help").output().await?.stdout)?)
}

/// Starts every server, and runs `c3`, with each environment variable set to the empty string; none may refuse to run.
async fn empty_variables() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-flags-")?;
    let mut refusals = Vec::new();
    for (launch, role) in servers() {
        let help = help(&launch).await?;
        let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
        let launch = variables.fold(launch, |launch, name| launch.env(name, ""));
        let (process, starts) = start(launch, role, folder.path(), folder.path()).await?;
        if !starts {
            refusals.push(process.log());
        }
    }
    let ls = Launch::new(Program::C3).args(["ls"]).env("C3_GATEWAY", "").env("C3_LOG", "").output().await?;
    // No gateway needs to run at the default address, so only a usage error is wrong.
    if ls.status.code() == Some(2) {
        refusals.push(String::from_utf8_lossy(&ls.stderr).into_owned());
    }
    Ok(vec![Quantity::equal("empty-variables-refused", refusals, Vec::new())])
}

/// Starts a server on a free port, with `home` as its working directory and home directory. Returns false if it refuses
/// to start.
async fn start(launch: Launch, role: &str, home: &Path, logs: &Path) -> Result<(Process, bool)> {
    let (home, address) = (home.display().to_string(), free_address()?);
    let launch = launch.under(["env", "-C", &home]).env("HOME", home.clone()).env("XDG_DATA_HOME", "");
    let process = launch.arg("--listen").arg(&address).spawn(logs, address).await?;
    let starts = until("a server to start or to refuse", START_LIMIT, async || {
        let listens = process.log().contains(&format!("listening role=\"{role}\""));
        (listens || process.log().contains("error: ")).then_some(listens)
    });
    let starts = starts.await?;
    Ok((process, starts))
}

/// Starts a gateway and `c3 serve` without `--data`; both must use the same default folder.
async fn default_data_folder() -> Result<Vec<Quantity>> {
    let (folder, logs) = (TempDir::with_prefix("c3-home-")?, TempDir::with_prefix("c3-logs-")?);
    for (launch, role) in servers().into_iter().filter(|(_, role)| *role == "gateway") {
        let (process, starts) = start(launch, role, folder.path(), logs.path()).await?;
        ensure!(starts, "{}", process.log());
    }
    let created = fs::read_dir(folder.path())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let created = created.collect::<Result<Vec<_>>>()?;
    Ok(vec![Quantity::observed("default-data-folders", &created, created.len() == 1, "one folder for both programs")])
}

/// Searches the help of every command for flags that are named after a unit, such as `--wait-ms`, of which there must
/// be none. Values with units, such as `2KiB`, must be accepted.
async fn unit_suffixes() -> Result<Vec<Quantity>> {
    let c3 = Launch::new(Program::C3);
    let commands = help(&c3).await?;
    let commands = commands.split_once("Commands:\n").context("no commands")?.1.split("\n\n").next();
    let names = commands.unwrap_or_default().lines().filter_map(|line| line.split_whitespace().next());
    let mut suffixed = BTreeSet::new();
    let commands = names.filter(|name| *name != "help").map(|name| c3.clone().arg(name));
    for launch in commands.chain(servers().map(|(launch, _)| launch)) {
        let help = help(&launch).await?;
        let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
        let has_unit = |flag: &&str| flag.split('-').any(|part| ["ms", "s", "mib", "bytes"].contains(&part));
        suffixed.extend(flags.filter(has_unit).map(ToOwned::to_owned));
    }
    let limits =
        ["--document-size-max", "2KiB", "--cache-size", "1.5MiB", "--node-wait", "500ms", "--gc-grace", "1h 30m"];
    let cluster = ClusterSpec {
        node_args: ["--call-timeout", "300"].map(ToOwned::to_owned).to_vec(),
        ..ClusterSpec::with_gateway_args(&limits)
    };
    let cluster = cluster.start().await?;
    let (api, text) = (cluster.api()?, fixtures::text("page.txt")?);
    let fits = api.put(&text.as_bytes()[..2048], default_options()).await.is_ok();
    let over = api.put(&text.as_bytes()[..2049], default_options()).await.err().map(|status| status.code());
    let file = NamedTempFile::new()?;
    fs::write(file.path(), &text[..1000])?;
    let c3 = c3.env("C3_GATEWAY", cluster.gateway.url()).arg("--json");
    let stored = json(&c3.clone().args(["put", "--ttl", "1h"]).arg(file.path()).output().await?)?;
    let id = stored["id"].as_str().context("no id")?;
    let stat = json(&c3.args(["stat", id]).output().await?)?;
    let [created, expires] = ["created_unix_ms", "expires_unix_ms"].map(|field| stat[field].as_u64());
    Ok(vec![
        Quantity::equal("unit-suffixes-of-flags", suffixed, BTreeSet::new()),
        Quantity::holds(
            "unit-size-limit",
            fits && over == Some(Code::InvalidArgument),
            "2048 bytes pass 2KiB, 2049 do not",
        ),
        Quantity::equal(
            "unit-ttl-ms",
            expires.zip(created).map(|(expires, created)| expires - created),
            Some(3_600_000),
        ),
    ])
}

fn json(output: &Output) -> Result<Value> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Passes the global flags of `c3` before the command, where they must work as well.
async fn global_flags() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let urls = format!("{0},{0}", cluster.gateway.url());
    let page = fixtures::root().join("tests/fixtures/texts/page.txt");
    let c3 = Launch::new(Program::C3).args(["--gateway", &urls, "--json"]);
    let put = json(&c3.clone().arg("put").arg(page).output().await?)?;
    let listed = json(&c3.arg("ls").output().await?)?;
    let ids = listed["documents"].as_array().map(|documents| documents.iter().map(|document| &document["id"]));
    let is_listed = ids.is_some_and(|mut ids| ids.any(|id| *id == put["id"]));
    Ok(vec![Quantity::holds("global-flags-before-the-command", is_listed, "the document is stored and listed")])
}

/// Names files with escape sequences and line feeds; nothing that `c3` prints may contain them unescaped.
async fn control_characters() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let folder = TempDir::with_prefix("c3-names-")?;
    let [good, bad, missing] = ["good", "bad", "missing"].map(|name| format!("{name}\u{1b}[31m\u{9b}2J\nforged\u{7f}"));
    fs::write(folder.path().join(&good), fixtures::text("page.txt")?)?;
    fs::write(folder.path().join(&bad), [0xff])?;
    let mut printed = Vec::new();
    let path = folder.path().display().to_string();
    for args in [
        vec!["put", "--recursive", "."],
        vec!["--json", "put", "--recursive", "."],
        vec!["roundtrip", &good],
        vec!["put", &bad],
        vec!["put", &missing],
        vec!["put-latents", &bad],
        vec!["stat", &missing],
        vec!["get", "--all", "--output", &good],
        vec!["bench", &good, "--op", &missing],
    ] {
        let c3 = Launch::new(Program::C3).under(["env", "-C", &path]).args(&args);
        let output = c3.env("C3_GATEWAY", cluster.gateway.url()).output().await?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let is_control = |character: char| character.is_control() && character != '\n';
        if text.contains(is_control) || text.lines().any(|line| line.starts_with("forged")) {
            printed.push(format!("{args:?}: {text:?}"));
        }
    }
    Ok(vec![Quantity::equal("control-characters-printed", printed, Vec::new())])
}

/// Logs to a pseudo-terminal; the log must be coloured, but not with `NO_COLOR` or on a dumb terminal.
fn log_colours() -> Result<Vec<Quantity>> {
    let coloured = |term: &str, no_color: &str| -> Result<bool> {
        let c3 = Program::C3.path()?.display().to_string();
        let command = format!("'{c3}' --log trace ls --gateway http://127.0.0.1:9");
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("TERM", term).env("NO_COLOR", no_color).env_remove("CI");
        let printed = String::from_utf8_lossy(&script.stdin(Stdio::null()).output()?.stdout).into_owned();
        ensure!(printed.contains("TRACE"), "no log: {printed}");
        Ok(printed.contains('\u{1b}'))
    };
    Ok(vec![
        Quantity::holds("log-colours-on-a-terminal", coloured("xterm", "")?, "the terminal is seen as one"),
        Quantity::holds("log-colours-with-no-color", !coloured("xterm", "1")?, "no escape sequence"),
        Quantity::holds("log-colours-on-a-dumb-terminal", !coloured("dumb", "")?, "no escape sequence"),
    ])
}

/// Reads the log of `c3 serve` from its start to a garbage collection, and the log of a gateway whose store fails; the
/// first must contain no warning and no field in Rust's debug format, and the second no line more than twice.
async fn log_noise() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-log-")?;
    let serve = Launch::new(Program::C3).arg("serve").arg("--data").arg(folder.path().join("data"));
    let serve = serve.serve(folder.path()).await?;
    let ready = async || (serve.log().matches("node is ready").count() >= 2).then_some(());
    until("both nodes to be ready", START_LIMIT, ready).await?;
    let gc = Launch::new(Program::C3).args(["gc", "--gateway", &serve.url()]).output().await?;
    ensure!(gc.status.success(), "{}", String::from_utf8_lossy(&gc.stderr));
    let log = serve.log();
    let lines = |is_wrong: fn(&str) -> bool| log.lines().filter(|line| is_wrong(line)).collect::<Vec<_>>();
    let (failed, repeats) = repeated_lines().await?;
    Ok(vec![
        Quantity::equal("log-warnings-of-a-start", lines(|line| line.contains(" WARN ")), Vec::new()),
        Quantity::equal("log-debug-forms", lines(has_debug_form), Vec::new()),
        Quantity::equal("log-failed-calls", failed, FAILED_CALLS),
        Quantity::at_most("log-repeats-of-a-line", repeats as f64, 2.0),
    ])
}

/// Returns true if the value of a field looks like `Name(…)` or `Name { … }`.
fn has_debug_form(line: &str) -> bool {
    line.split('=').skip(1).any(|value| {
        let rest = value.trim_start_matches(|character: char| character.is_ascii_alphanumeric());
        value.starts_with(|character: char| character.is_ascii_uppercase())
            && (rest.starts_with('(') || rest.starts_with(" {"))
    })
}

/// Makes calls on a gateway that may not read its store. Returns the number of failed calls, and the number of times
/// that the most frequent log line appears. Lines that differ only in their time count as the same.
async fn repeated_lines() -> Result<(usize, usize)> {
    let folder = TempDir::with_prefix("c3-denied-")?;
    let data = folder.path().join("data").display().to_string();
    let gateway_wrapper = unprivileged(folder.path())?;
    let spec = ClusterSpec { data: Some(data.clone()), gateway_wrapper, ..ClusterSpec::default() };
    let cluster = spec.start().await?;
    let api = cluster.api()?;
    external::run("chmod", &["000", &data])?;
    let mut failed = 0;
    for _ in 0..FAILED_CALLS {
        failed += usize::from(api.ids().await.is_err());
    }
    external::run("chmod", &["755", &data])?;
    let log = cluster.gateway.log();
    let mut repeats = HashMap::<&str, usize>::new();
    for line in log.lines() {
        *repeats.entry(line.split_once(' ').map_or(line, |(_, line)| line)).or_default() += 1;
    }
    Ok((failed, repeats.into_values().max().unwrap_or_default()))
}
