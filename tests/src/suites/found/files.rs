//! Output files of the command line.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures;
use crate::harness::foreground::{Foreground, full_output};
use crate::harness::gateway_api::id_of;
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops::{default_options, small_text};

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &["output-files", "interrupted-output-files"];

/// User and group without any permissions.
const NOBODY: u32 = 65_534;
/// Maximum time until a command has opened its output, or until it ends after a signal.
const STEP_LIMIT: Duration = Duration::from_secs(30);
/// Signals that ask a program to end, with the exit code of a program that they ended.
const SIGNALS: [(&str, i32); 3] = [("HUP", 129), ("INT", 130), ("TERM", 143)];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "output-files" => output_files().await,
        "interrupted-output-files" => interrupted().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// A stored document, and a folder for its copies that every user may enter.
struct Fixture {
    cluster: Cluster,
    text: String,
    id: String,
    folder: TempDir,
}

impl Fixture {
    async fn start() -> Result<Self> {
        let cluster = ClusterSpec::default().start().await?;
        let text = small_text(1);
        let put = cluster.api()?.put(text.as_bytes(), default_options()).await?;
        let id = id_of(&put.document.context("no document")?);
        let folder = TempDir::with_prefix("c3-output-")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { cluster, text, id, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the command that writes the document to `path`.
    fn get(&self, path: impl AsRef<Path>) -> Launch {
        let launch = Launch::new(Program::C3).args(["get", &self.id, "-o"]).arg(path.as_ref());
        launch.env("C3_GATEWAY", self.cluster.gateway.url())
    }

    /// Writes the document to `path` and returns the error message of the command.
    async fn get_to(&self, path: impl AsRef<Path>) -> Result<String> {
        Ok(String::from_utf8(self.get(path).output().await?.stderr)?)
    }
}

/// Writes a document to descriptors, existing files, links and folders without permission; the whole text must arrive,
/// and owners, modes and links must stay. An error must name the path as the user gave it.
async fn output_files() -> Result<Vec<Quantity>> {
    let fixture = Fixture::start().await?;
    let mut quantities = redirections(&fixture).await?;
    quantities.extend(replacements(&fixture).await?);
    quantities.push(read_only_folder(&fixture).await?);
    let missing = fixture.path("missing/file");
    let refused = fixture.get_to(&missing).await?;
    let says = format!("error: {}: No such file or directory (os error 2): check the path\n", missing.display());
    quantities.push(Quantity::equal("output-in-a-missing-folder", refused, says));
    Ok(quantities)
}

/// Writes to descriptors that a shell has opened for a file with content; the text must come after that content.
async fn redirections(fixture: &Fixture) -> Result<Vec<Quantity>> {
    let around = format!("before\n{}after\n", fixture.text);
    let cases = [
        ("truncated", "/dev/stdout", r#"{ echo before; "$0" "$@"; echo after; } > "$FILE""#),
        ("appended", "/dev/stdout", r#"echo before > "$FILE"; "$0" "$@" >> "$FILE"; echo after >> "$FILE""#),
        ("descriptor", "/dev/fd/3", r#"echo before > "$FILE"; "$0" "$@" 3>> "$FILE"; echo after >> "$FILE""#),
    ];
    let mut quantities = Vec::new();
    for (name, output, script) in cases {
        let file = fixture.path(name);
        let launch = fixture.get(output).under(["sh", "-c", script]).env("FILE", file.display().to_string());
        launch.output().await?;
        quantities.push(Quantity::equal(
            format!("output-redirected-{name}"),
            fs::read_to_string(&file)?,
            around.clone(),
        ));
    }
    Ok(quantities)
}

/// Writes to files whose mode, owner or links must not change.
async fn replacements(fixture: &Fixture) -> Result<Vec<Quantity>> {
    let [private, linked, other, link, created] =
        ["private", "linked", "other", "link", "created"].map(|n| fixture.path(n));
    fs::write(&private, "old")?;
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;
    // Only root may give files away.
    if private.metadata()?.uid() == 0 {
        chown(&private, Some(NOBODY), Some(NOBODY))?;
    }
    let attributes = |path: &Path| path.metadata().map(|m| (m.mode(), m.uid(), m.gid()));
    let before = attributes(&private)?;
    fixture.get_to(&private).await?;
    fs::write(&linked, "old and longer than the text ".repeat(100))?;
    fs::hard_link(&linked, &other)?;
    fixture.get_to(&linked).await?;
    symlink("created", &link)?;
    fixture.get_to(&link).await?;
    Ok(vec![
        Quantity::equal("output-replaced-attributes", attributes(&private)?, before),
        Quantity::equal("output-replaced-text", fs::read_to_string(&private)?, fixture.text.clone()),
        Quantity::equal("output-hard-links", fs::read_to_string(&other)?, fixture.text.clone()),
        Quantity::equal("output-dangling-link", fs::read_to_string(&created).unwrap_or_default(), fixture.text.clone()),
        Quantity::holds("output-link-stays", link.is_symlink(), "a symbolic link"),
    ])
}

/// Writes, without the rights of root, to a writable file in a folder in which no file can be created.
async fn read_only_folder(fixture: &Fixture) -> Result<Quantity> {
    let folder = fixture.path("read-only");
    fs::create_dir(&folder)?;
    let file = folder.join("file");
    fs::write(&file, "old")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555))?;
    let mut launch = fixture.get(&file);
    if file.metadata()?.uid() == 0 {
        let nobody = NOBODY.to_string();
        launch = launch.under(["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    }
    launch.output().await?;
    Ok(Quantity::equal("output-in-a-read-only-folder", fs::read_to_string(&file)?, fixture.text.clone()))
}

/// Ends commands by signals while their temporary files exist; the temporary files must be removed, the old output must
/// stay, and the exit code must be that of the signal.
async fn interrupted() -> Result<Vec<Quantity>> {
    let fixture = Fixture::start().await?;
    let mut quantities = Vec::new();
    // While the decoder is stopped, a get waits after it has created its temporary file.
    fixture.cluster.decoders[0].signal("STOP")?;
    for (signal, code) in SIGNALS {
        let folder = fixture.path(signal);
        fs::create_dir(&folder)?;
        fs::write(folder.join("file"), "old")?;
        // The shell that started this program may ignore SIGHUP, as nohup does.
        let launch = fixture.get(folder.join("file")).under(["env", "--default-signal=HUP"]);
        let mut get = Foreground::start(&launch, Stdio::null())?;
        let entries = || fs::read_dir(&folder).map(Iterator::count).unwrap_or_default();
        until("a temporary file", STEP_LIMIT, async || (entries() == 2).then_some(())).await?;
        get.signal(signal)?;
        quantities.push(Quantity::equal(
            format!("interrupted-exit-code-{signal}"),
            get.ended(STEP_LIMIT).await?.code(),
            Some(code),
        ));
        let left = (entries(), fs::read_to_string(folder.join("file"))?);
        quantities.push(Quantity::equal(format!("interrupted-files-{signal}"), left, (1, "old".to_owned())));
    }
    fixture.cluster.decoders[0].signal("CONT")?;
    quantities.extend(blocked_roundtrip(&fixture.path("roundtrip")).await?);
    Ok(quantities)
}

/// Ends a `c3 roundtrip`, which has a temporary store, by a signal while its thread is blocked in a write. The store
/// must be removed.
async fn blocked_roundtrip(folder: &Path) -> Result<Vec<Quantity>> {
    fs::create_dir(folder)?;
    let page = fixtures::root().join("tests/fixtures/texts/page.txt");
    let launch = Launch::new(Program::C3).arg("roundtrip").arg(page).env("TMPDIR", folder.display().to_string());
    let (stdout, _reader) = full_output()?;
    let mut roundtrip = Foreground::start(&launch, stdout)?;
    roundtrip.blocks_in_call_of(1).await?;
    roundtrip.signal("TERM")?;
    let code = roundtrip.ended(STEP_LIMIT).await?.code();
    Ok(vec![
        Quantity::equal("interrupted-blocked-exit-code", code, Some(143)),
        Quantity::equal("interrupted-blocked-files", fs::read_dir(folder)?.count(), 0),
    ])
}
