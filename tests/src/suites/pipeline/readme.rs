//! README's commands for the three programs, on the ports in README.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c3_types::DocumentId;
use tempfile::TempDir;

use crate::harness::fixtures;
use crate::harness::process::Program;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until all programs serve.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Starts README's servers, then runs its other commands in order; each must succeed, and the text must come back.
/// `text` is the content of the file that the commands put and get.
pub async fn quick_start(text: &str) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-by-hand-")?;
    write_files(folder.path(), text)?;
    let (servers, commands) = readme_commands()?;
    let mut running = Vec::new();
    for line in &servers {
        let mut server = shell(line, folder.path())?;
        running.push(Server(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?));
    }
    let nodes = "c3 nodes";
    let ready = until("the three programs to serve", READY_LIMIT, async || {
        let output = shell(nodes, folder.path()).ok()?.output().ok()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        (output.status.success() && printed.matches("\tready\t").count() == servers.len() - 1).then_some(())
    });
    ready.await?;
    let id = DocumentId::of(text.as_bytes()).to_string();
    for line in commands.iter().map(|line| line.replace(" ID ", &format!(" {id} "))) {
        let output = shell(&line, folder.path())?.output()?;
        ensure!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
    }
    let back = fs::read(folder.path().join("back.txt"))?;
    Ok(vec![Quantity::holds("by-hand-identical", back == text.as_bytes(), "identical")])
}

/// Writes the files that README's commands refer to.
fn write_files(folder: &Path, text: &str) -> Result<()> {
    let letter = "Dear reader, this is a letter of a few lines.\n";
    for part in ["notes", "letters"] {
        fs::create_dir(folder.join(part))?;
        fs::write(folder.join(part).join("first.txt"), format!("{letter}It is about {part}.\n"))?;
    }
    let line = serde_json::json!({ "body": letter }).to_string();
    let edited = format!("{text}\n\nA paragraph that the author never wrote.\n");
    let long = format!("A title\n\n{text}");
    let files = [("book", text), ("more", letter), ("edited", &edited), ("long", &long)];
    for (name, text) in files {
        fs::write(folder.join(name).with_extension("txt"), text)?;
    }
    Ok(fs::write(folder.join("dump.jsonl"), line + "\n")?)
}

/// Returns the server commands and the other commands of README's three-programs section, without `cargo` and `export`.
fn readme_commands() -> Result<(Vec<String>, Vec<String>)> {
    let readme = fs::read_to_string(fixtures::root().join("README.md"))?;
    let section = readme.split("\n## ").find(|section| section.starts_with("The three programs"));
    let section = section.context("README has no section on the three programs")?;
    let blocks = section.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(|block| block.lines().skip(1)).filter(|line| !line.is_empty());
    let (servers, commands): (Vec<_>, Vec<_>) = lines.map(str::to_owned).partition(|line| {
        let first = line.split_whitespace().next().unwrap_or_default();
        Program::named(first).is_some_and(|program| program != Program::C3)
    });
    let commands = commands.into_iter().filter(|line| !line.starts_with("cargo ") && !line.starts_with("export "));
    Ok((servers, commands.collect()))
}

/// Returns a shell command in `folder`, with this build's programs first on `PATH`.
fn shell(line: &str, folder: &Path) -> Result<Command> {
    let programs = Program::C3.path()?;
    let programs = programs.parent().context("the program has no parent folder")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-ec", &format!("exec {line}")]).current_dir(folder);
    command.env("PATH", format!("{}:{path}", programs.display()));
    command.stdin(Stdio::null());
    Ok(command)
}

/// A server process that is killed on drop.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}
