//! `c3 fsck`: checks the gateway's store and repairs damage.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use c3_client::{Client, DocumentId, Finding, FsckEvent, FsckMode, FsckSummary, WriteOptions};
use futures::TryStreamExt;
use serde_json::json;

use crate::args::RemoteArgs;
use crate::error::{CliError, FSCK_FAULTS_LEFT, FSCK_REPAIRED};
use crate::kept;
use crate::output::Progress;
use crate::output::format::{count, short_id};

/// Arguments of `fsck`.
#[derive(Debug, clap::Args)]
pub(crate) struct FsckArgs {
    /// Repair the damage that can be repaired without the original texts
    #[arg(long)]
    repair: bool,
    /// Original texts of damaged documents, from which these documents are stored again
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "repair")]
    original: Vec<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Checks the store and prints the faults. Fails if there are any, with a separate exit code if all were repaired.
pub(crate) async fn run(args: FsckArgs) -> Result<(), CliError> {
    let Check { findings, summary } = check_and_repair(&args).await.map_err(|error| match error {
        CliError::Failed(message) => CliError::FsckIncomplete(message),
        error => error,
    })?;
    let left = findings.iter().filter(|finding| !finding.repaired).count();
    let FsckSummary { objects, documents, foreign } = summary;
    let mut text = String::new();
    for finding in &findings {
        text += &format!("{}\n", line(finding));
    }
    let repaired = findings.len() - left;
    let (objects_text, documents_text) = (count(objects, "object"), count(documents, "document"));
    write!(text, "{objects_text}, {documents_text}: {} repaired, {left} left", count(repaired as u64, "fault"))
        .expect("writing to a string never fails");
    if foreign > 0 {
        write!(text, "; {foreign} foreign entries skipped").expect("writing to a string never fails");
    }
    let record = json!({
        "objects": objects, "documents": documents, "foreign": foreign, "left": left, "findings": findings,
    });
    args.remote.format.print(text, &record)?;
    match (findings.is_empty(), left) {
        (true, _) => Ok(()),
        (false, 0) => Err(CliError::Reported(FSCK_REPAIRED)),
        (false, _) => Err(CliError::Reported(FSCK_FAULTS_LEFT)),
    }
}

/// Result of a check.
struct Check {
    findings: Vec<Finding>,
    summary: FsckSummary,
}

async fn check_and_repair(args: &FsckArgs) -> Result<Check, CliError> {
    let client = args.remote.connect().await?;
    let mode = if args.repair { FsckMode::Repair } else { FsckMode::Report };
    let mut first = check(&client, mode).await?;
    let damaged = first.findings.iter().filter(|finding| !finding.repaired);
    let damaged: HashSet<DocumentId> = damaged.filter_map(|finding| Some(finding.affected?.document)).collect();
    let mut is_restored = false;
    for file in &args.original {
        let _progress = Progress::start("restore", None);
        is_restored |= restore(&client, file, &damaged).await?;
    }
    if is_restored {
        // A second check shows which faults the originals repaired.
        let second = check(&client, mode).await?;
        let left = second.findings.iter().filter(|finding| !finding.repaired);
        let key = |finding: &Finding| (finding.object.clone(), finding.affected.map(|windows| windows.document));
        let left: HashSet<_> = left.map(key).collect();
        for finding in &mut first.findings {
            finding.repaired = !left.contains(&key(finding));
        }
        first.summary = second.summary;
    }
    Ok(first)
}

async fn check(client: &Client, mode: FsckMode) -> Result<Check, CliError> {
    kept::set(match mode {
        FsckMode::Report => "nothing was changed",
        FsckMode::Repair => "repairs that are done stay done; run the command again to repair the rest",
    });
    let progress = Progress::start("fsck", None);
    let mut events = client.fsck(mode).await?;
    let mut findings = Vec::new();
    while let Some(event) = events.try_next().await? {
        match event {
            FsckEvent::Finding(finding) => {
                findings.push(finding);
                progress.say(&count(findings.len() as u64, "fault"));
            }
            FsckEvent::Progress { documents, documents_total } => progress.set_documents(documents, documents_total),
            FsckEvent::Done(summary) => return Ok(Check { findings, summary }),
        }
    }
    Err(CliError::Failed("the gateway ended the check early; run it again".to_owned()))
}

/// Stores the text of `file` again if its document is in `damaged`. Returns true if the text was stored.
async fn restore(client: &Client, file: &Path, damaged: &HashSet<DocumentId>) -> Result<bool, CliError> {
    let text = tokio::fs::read(file).await.map_err(|error| CliError::at(file, &error))?;
    let id = DocumentId::of(&text);
    if !damaged.contains(&id) {
        return Ok(false);
    }
    // Uses the options with which the document was stored. If its manifest (the object that describes it) cannot be
    // read, these options are lost, and the gateway's defaults apply.
    let options = match client.stat(&id.to_string()).await {
        Ok(document) => WriteOptions {
            cascade: Some(document.cascade.name.clone()),
            ratio: Some(document.ratio),
            codec: Some(document.codec),
            skip_verification: document.verification.is_none(),
            margin: document.verification.map(|verification| verification.margin),
            ..WriteOptions::default()
        },
        Err(_) => WriteOptions::default(),
    };
    let stored = async { client.put(std::io::Cursor::new(text), &options).await?.finish().await };
    stored.await.map_err(|error| CliError::from(error).in_file(&file.display().to_string()))?;
    Ok(true)
}

fn line(finding: &Finding) -> String {
    let state = if finding.repaired { "repaired" } else { "fault" };
    let Finding { object, problem, .. } = finding;
    let affected = finding.affected.map_or_else(String::new, |affected| {
        let (id, first) = (affected.document.to_string(), affected.first_window);
        let windows = match affected.windows {
            0 => String::new(),
            1 => format!(", window {first}"),
            count => format!(", windows {first} to {}", first + count - 1),
        };
        format!("  (document {}{windows})", short_id(&id))
    });
    format!("{state:8}  {object}: {problem}{affected}")
}
