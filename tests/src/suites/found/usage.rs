//! Arguments, input files, names and messages of the command line.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use c3_types::DocumentId;
use serde_json::Value;

use crate::harness::cluster::{Cluster, ClusterSpec, files_under};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops::{large_text, small_text};

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &[
    "sizes-from-metadata",
    "messages-of-a-batch",
    "errors-without-a-file",
    "lost-paths",
    "unchecked-names",
    "unsaid-results",
    "unfinished-puts",
];

/// Number of lines of a file that then grows while it is put. The file is larger than what `c3` reads at once.
const GROWING_LINES: usize = 1500;
/// Interval between two lines of a growing file.
const GROWTH_INTERVAL: Duration = Duration::from_millis(1);
/// Maximum time until a put has stored its first shard (part of the text).
const SHARD_LIMIT: Duration = Duration::from_secs(60);
/// A name that a shell would split and expand.
const BAD_NAME: &str = "bad name!";

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    let setup = Setup::new().await?;
    match row {
        "sizes-from-metadata" => setup.sizes_from_metadata().await,
        "messages-of-a-batch" => setup.messages_of_a_batch().await,
        "errors-without-a-file" => setup.errors_without_a_file().await,
        "lost-paths" => setup.lost_paths().await,
        "unchecked-names" => setup.unchecked_names().await,
        "unsaid-results" => setup.unsaid_results().await,
        "unfinished-puts" => setup.unfinished_puts().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// A cluster, and a folder in which `c3` runs.
struct Setup {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Setup {
    async fn new() -> Result<Self> {
        Ok(Self { cluster: ClusterSpec::default().start().await?, folder: tempfile::tempdir()? })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        Ok(fs::write(path, content)?)
    }

    fn launch(&self, args: &[&str]) -> Launch {
        let c3 = Launch::new(Program::C3).args(args).env("C3_GATEWAY", self.cluster.gateway.url());
        let folder = self.folder.path().as_os_str().to_owned();
        c3.under(["env".into(), "-C".into(), folder])
    }

    async fn c3(&self, args: &[&str]) -> Result<Output> {
        self.launch(args).output().await
    }

    /// Returns the printed output of a command that must succeed.
    async fn printed(&self, args: &[&str]) -> Result<String> {
        let output = self.c3(args).await?;
        ensure!(output.status.success(), "c3 {args:?}: {}", all(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn json(&self, args: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.printed(args).await?)?)
    }

    /// Puts a file in `/proc`, whose size is missing from its metadata, and a file that grows during the put; both puts
    /// must succeed. The first text must be complete, and the second a prefix of the file.
    async fn sizes_from_metadata(&self) -> Result<Vec<Quantity>> {
        let generated = "/proc/version";
        let put = self.c3(&["put", generated]).await?;
        let id = DocumentId::of(&fs::read(generated)?).to_string();
        let got = self.c3(&["get", &id]).await?;
        let log = self.path("log");
        self.write("log", small_text(1).repeat(GROWING_LINES))?;
        let before = fs::read(&log)?.len();
        let growth = Growth::start(&log)?;
        let grown = self.c3(&["put", "--json", "log"]).await?;
        growth.stop()?;
        let mut is_prefix = false;
        if grown.status.success() {
            let report: Value = serde_json::from_slice(&grown.stdout)?;
            let text = self.printed(&["get", report["id"].as_str().context("no id")?]).await?;
            is_prefix = text.len() >= before && fs::read(&log)?.starts_with(text.as_bytes());
        }
        Ok(vec![
            Quantity::observed("generated-file-put", all(&put), put.status.success(), "stored"),
            Quantity::holds("generated-file-identical", got.stdout == fs::read(generated)?, "identical"),
            Quantity::observed("growing-file-put", all(&grown), grown.status.success(), "stored"),
            Quantity::holds(
                "growing-file-stored-as-prefix",
                is_prefix,
                "a prefix of the file, at least as long as at the start",
            ),
        ])
    }

    /// Puts a file with a byte order mark, JSON lines that lack the requested field, a folder with one file, and a
    /// pattern that begins with `./`; the texts must be stored, and each wrong line must be reported.
    async fn messages_of_a_batch(&self) -> Result<Vec<Quantity>> {
        let line = |number| format!("{}\n", serde_json::json!({ "text": small_text(number) }));
        self.write("marked.jsonl", format!("\u{feff}{}{}", line(1), line(2)))?;
        let marked = self.c3(&["put", "--jsonl", "marked.jsonl"]).await?;
        self.write("lines.jsonl", (0..12).map(line).collect::<String>())?;
        let wrong = all(&self.c3(&["put", "--field", "body", "lines.jsonl"]).await?);
        self.write("one/a.txt", small_text(3))?;
        let one = self.printed(&["put", "one"]).await?;
        let dotted = self.c3(&["put", "./one/*.txt"]).await?;
        Ok(vec![
            Quantity::observed("byte-order-mark", all(&marked), marked.status.success(), "both lines stored"),
            Quantity::equal("wrong-field-lines-printed", wrong.matches("no field `body`").count(), 12),
            Quantity::holds("count-of-one", one.contains("1 document,"), "1 document"),
            Quantity::observed("pattern-with-a-dot", all(&dotted), dotted.status.success(), "a file matches"),
        ])
    }

    /// Passes a file that is not UTF-8 to each command that reads texts; the error must name the file. An incomplete
    /// `c3 name` must name the command that shows its help.
    async fn errors_without_a_file(&self) -> Result<Vec<Quantity>> {
        self.write("right.txt", small_text(1))?;
        let id = DocumentId::of(small_text(1).as_bytes()).to_string();
        self.printed(&["put", "right.txt"]).await?;
        self.write("wrong.txt", b"abc\xff")?;
        let commands: [(&str, &[&str]); 4] = [
            ("put", &["put", "wrong.txt"]),
            ("append", &["append", &id, "wrong.txt"]),
            ("compress", &["compress", "wrong.txt", "-o", "out"]),
            ("roundtrip", &["roundtrip", "wrong.txt"]),
        ];
        let mut quantities = Vec::new();
        for (name, args) in commands {
            let output = self.c3(args).await?;
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let is_named = stderr.contains("wrong.txt: text: not UTF-8 at byte");
            quantities.push(Quantity::observed(format!("{name}-names-the-file"), stderr, is_named, "names wrong.txt"));
        }
        let name = self.c3(&["name"]).await?;
        let help = all(&name).contains("c3 name --help");
        quantities.push(Quantity::observed("help-of-the-command", all(&name), help, "c3 name --help"));
        Ok(quantities)
    }

    /// Puts a folder and gets all documents into another one; each file must come back under its path, and nothing may
    /// be written outside the output folder. If a file was put in several versions, the newest must get the path.
    async fn lost_paths(&self) -> Result<Vec<Quantity>> {
        let files = [("a.txt", 1), ("inner/b.txt", 2), ("inner/deep/same as a.txt", 1)];
        for (file, number) in files {
            self.write(&format!("tree/{file}"), small_text(number))?;
        }
        self.printed(&["put", "-r", "tree"]).await?;
        self.write("outside.txt", small_text(3))?;
        let outside = self.path("stolen").display().to_string();
        for label in [format!("path={outside}"), "path=../../stolen".to_owned()] {
            self.printed(&["put", "outside.txt", "--label", &label]).await?;
        }
        self.write("version.txt", small_text(4))?;
        self.printed(&["put", "version.txt"]).await?;
        self.write("version.txt", small_text(5))?;
        self.printed(&["put", "version.txt"]).await?;
        self.printed(&["get", "--all", "-o", "box/back"]).await?;
        let back = tree(&self.path("box/back"))?;
        let restored = files
            .iter()
            .all(|(file, number)| back.get(&format!("tree/{file}")).is_some_and(|text| *text == small_text(*number)));
        let is_below = fs::read_dir(self.path("box"))?.count() == 1 && !self.path("stolen").exists();
        let newest = back.get("version.txt").is_some_and(|text| *text == small_text(5));
        Ok(vec![
            Quantity::observed("tree-restored", back.keys().collect::<Vec<_>>(), restored, "each file under its path"),
            Quantity::holds("nothing-outside-the-folder", is_below, "only the output folder was written"),
            Quantity::holds("newest-version-has-the-path", newest, "the file of the path has the newest text"),
            Quantity::equal("files-restored", back.len(), files.len() + 3),
        ])
    }

    /// Puts a file with an invalid name and a folder with a valid one; the invalid name must be refused before anything
    /// is stored, and each file of the folder must be named by its path.
    async fn unchecked_names(&self) -> Result<Vec<Quantity>> {
        self.write("tree/a.txt", small_text(1))?;
        self.write("tree/inner/b.txt", small_text(2))?;
        let bad = self.c3(&["put", "tree/a.txt", "--name", BAD_NAME]).await?;
        let stored = self.json(&["ls", "--json"]).await?["documents"].as_array().map_or(0, Vec::len);
        let named = self.c3(&["put", "-r", "tree", "--name", "team"]).await?;
        let read = self.c3(&["get", "@team/tree/inner/b.txt"]).await?;
        Ok(vec![
            Quantity::equal("bad-name-exit-code", bad.status.code(), Some(2)),
            Quantity::equal("bad-name-stored", stored, 0),
            Quantity::observed("names-by-path", all(&named), named.status.success(), "both files named"),
            Quantity::holds("named-file-read", read.stdout == small_text(2).as_bytes(), "identical"),
        ])
    }

    /// Reads what `c3 put` and `c3 compress` print; a put must state the size, name, labels and path, and whether the
    /// text was stored before, and `compress` must state that the text was verified.
    async fn unsaid_results(&self) -> Result<Vec<Quantity>> {
        self.write("a.txt", small_text(1))?;
        let args = ["put", "a.txt", "--name", "draft", "--label", "lang=en"];
        let first = self.printed(&args).await?;
        let again = self.printed(&args).await?;
        let compressed = self.printed(&["compress", "a.txt", "-o", "latents"]).await?;
        let says = |name: &str, text: &str, wanted: &str| {
            Quantity::observed(format!("put-says-{name}"), text, text.contains(wanted), format!("contains {wanted}"))
        };
        let verified = !compressed.contains("not verified");
        Ok(vec![
            says("its-size", &first, "\nstored "),
            says("its-name", &first, "@draft"),
            says("its-labels", &first, "lang=en"),
            says("its-path", &first, "path=a.txt"),
            Quantity::holds("first-put-is-new", !first.contains("already stored"), "not already stored"),
            says("already-stored", &again, "already stored"),
            Quantity::observed("compress-says-verified", compressed, verified, "verified"),
        ])
    }

    /// Kills a put half-way; `c3 stat` must count its objects as an unfinished upload or as unused, not as a document.
    async fn unfinished_puts(&self) -> Result<Vec<Quantity>> {
        self.write("long.txt", (0..4).map(large_text).collect::<String>())?;
        let latents = self.cluster.data().join("latents");
        let mut put = self.launch(&["put", "long.txt", "--upload", "broken-off"]).command()?.spawn()?;
        let stored = until("the first shard of the put", SHARD_LIMIT, async || {
            files_under(&latents).is_ok_and(|files| !files.is_empty()).then_some(())
        });
        let stored = stored.await;
        put.kill()?;
        put.wait()?;
        stored?;
        self.cluster.wait_until_idle().await?;
        let text = self.printed(&["stat"]).await?;
        let totals = self.json(&["stat", "--json"]).await?;
        let unfinished = totals["upload_bytes"].as_u64().unwrap_or(0) + totals["unused_bytes"].as_u64().unwrap_or(0);
        Ok(vec![
            Quantity::equal("documents", totals["documents"].as_u64(), Some(0)),
            Quantity::at_least("bytes-of-puts-broken-off", unfinished as f64, 1.0),
            Quantity::equal("bytes-called-stored", totals["stored_bytes"].as_u64(), Some(unfinished)),
            Quantity::observed("itemised", &text, text.contains("1 upload;"), "1 upload"),
        ])
    }
}

/// A file that grows by a line at each interval.
struct Growth {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

impl Growth {
    fn start(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new().append(true).open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                file.write_all(small_text(1).as_bytes())?;
                std::thread::sleep(GROWTH_INTERVAL);
            }
            Ok(())
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        Ok(ended.map_err(|_| anyhow::anyhow!("the thread panicked"))??)
    }
}

/// Returns everything that a command printed.
fn all(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Returns the text of each file below a folder, by its path in the folder.
fn tree(folder: &Path) -> Result<BTreeMap<String, String>> {
    let files = files_under(folder)?.into_iter().map(|path| {
        let name = path.strip_prefix(folder)?.display().to_string();
        Ok((name, fs::read_to_string(path)?))
    });
    files.collect()
}
