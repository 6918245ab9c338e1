//! `c3 gc` and `c3 fsck`: upkeep of the gateway's store.

use std::collections::HashSet;
use std::path::PathBuf;

use c3_client::{CheckEvent, Client, DocumentId, Finding, WriteOptions, pb};
use c3_proto::IdPrefix;
use serde::Serialize;

use crate::args::RemoteArgs;
use crate::failure::Failure;
use crate::output::print;
use crate::report;

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Seconds for which what nothing refers to is left alone: longer than any put lasts, or that put fails [default:
    /// the gateway's setting, an hour]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace_s: Option<u64>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Arguments of `fsck`.
#[derive(Debug, clap::Args)]
pub(crate) struct FsckArgs {
    /// Repair what can be rebuilt
    #[arg(long)]
    pub(crate) repair: bool,
    /// A text whose document is put again where a fault touches it
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "repair")]
    pub(crate) original: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Sweeps the store and tells what that did.
pub(crate) async fn gc(args: GcArgs) -> Result<(), Failure> {
    let swept = Client::connect(&args.remote.gateway).await?.sweep(args.grace_s).await?;
    let pb::SweepResponse { condemned, removed, removed_bytes, expired, packed, unreadable } = swept;
    if unreadable > 0 {
        let problem = "cannot be read, so nothing that they may refer to was removed: see `c3 fsck`";
        eprintln!("warning: {unreadable} manifests {problem}");
    }
    match args.remote.json {
        true => print(&report::json(&serde_json::json!({
            "condemned": condemned, "removed": removed, "removed_bytes": removed_bytes,
            "expired": expired, "packed": packed, "unreadable": unreadable,
        }))),
        false => print(&format!(
            "removed {removed} objects of {removed_bytes} bytes; {condemned} more are condemned; {expired} documents \
             were past their time; {packed} were packed"
        )),
    }
}

/// Something wrong with an object, in JSON.
#[derive(Serialize)]
struct FindingRecord {
    object: String,
    problem: String,
    document: Option<String>,
    first_window: u64,
    windows: u64,
    repaired: bool,
}

impl From<&Finding> for FindingRecord {
    fn from(finding: &Finding) -> Self {
        Self {
            object: finding.object.clone(),
            problem: finding.problem.clone(),
            document: finding.document.map(|id| id.to_string()),
            first_window: finding.first_window,
            windows: finding.windows,
            repaired: finding.repaired,
        }
    }
}

/// Checks the store and tells what is wrong. The exit code says what is left.
pub(crate) async fn fsck(args: FsckArgs) -> Result<(), Failure> {
    let outcome =
        check_and_repair(&args).await.map_err(|failure| Failure::NotChecked(failure.to_string()))?;
    let Outcome { findings, left, summary } = outcome;
    let repaired = findings.iter().filter(|finding| finding.repaired).count();
    match args.remote.json {
        true => print(&report::json(&serde_json::json!({
            "objects": summary.objects, "documents": summary.documents, "left": left,
            "findings": findings.iter().map(FindingRecord::from).collect::<Vec<_>>(),
        })))?,
        false => {
            for finding in &findings {
                print(&line(finding))?;
            }
            let pb::CheckSummary { objects, documents } = summary;
            print(&format!(
                "{objects} objects, {documents} documents: {repaired} faults repaired, {left} left"
            ))?;
        }
    }
    match (findings.is_empty(), left) {
        (true, _) => Ok(()),
        (false, 0) => Err(Failure::Repaired),
        (false, _) => Err(Failure::FaultsLeft),
    }
}

struct Outcome {
    findings: Vec<Finding>,
    /// How many are not repaired.
    left: usize,
    summary: pb::CheckSummary,
}

async fn check_and_repair(args: &FsckArgs) -> Result<Outcome, Failure> {
    let client = Client::connect(&args.remote.gateway).await?;
    let (mut findings, mut summary) = check(&client, args.repair).await?;
    let touched = findings.iter().filter(|finding| !finding.repaired).filter_map(|finding| finding.document);
    let touched: HashSet<DocumentId> = touched.collect();
    let mut put_again = false;
    for file in &args.original {
        put_again |= restore(&client, file, &touched).await?;
    }
    let mut left = findings.iter().filter(|finding| !finding.repaired).count();
    if put_again {
        // What is still wrong after the texts were put is left; all else was repaired by them.
        let (again, counts) = check(&client, args.repair).await?;
        summary = counts;
        let wrong = Vec::from_iter(again.into_iter().filter(|finding| !finding.repaired));
        left = wrong.len();
        for finding in &mut findings {
            finding.repaired = !wrong
                .iter()
                .any(|other| (&other.object, other.document) == (&finding.object, finding.document));
        }
    }
    Ok(Outcome { findings, left, summary })
}

async fn check(client: &Client, repair: bool) -> Result<(Vec<Finding>, pb::CheckSummary), Failure> {
    let mut check = client.check(repair).await?;
    let mut findings = Vec::new();
    while let Some(event) = check.next().await? {
        match event {
            CheckEvent::Finding(finding) => findings.push(finding),
            CheckEvent::Done(summary) => return Ok((findings, summary)),
        }
    }
    Err(Failure::WorkFailed("the check broke off".to_owned()))
}

/// Puts a text again, with the settings that its document had, where a fault touches it.
async fn restore(client: &Client, file: &PathBuf, touched: &HashSet<DocumentId>) -> Result<bool, Failure> {
    let text = tokio::fs::read(file).await.map_err(|error| Failure::at(file, &error))?;
    let id = DocumentId::of(&text);
    if !touched.contains(&id) {
        return Ok(false);
    }
    // A manifest that cannot be read tells no settings: then the gateway's own are taken.
    let options = match client.stat(&id.to_string()).await {
        Ok(document) => WriteOptions {
            cascade: Some(document.cascade.name.clone()),
            ratio: Some(document.ratio),
            codec: Some(document.codec),
            skip_verification: document.verification.is_none(),
            margin: document.verification.map(|how| how.margin),
            ..WriteOptions::default()
        },
        Err(_) => WriteOptions::default(),
    };
    client.put(std::io::Cursor::new(text), &options).await?.finish().await?;
    Ok(true)
}

fn line(finding: &Finding) -> String {
    let state = if finding.repaired { "repaired" } else { "fault" };
    let Finding { object, problem, .. } = finding;
    let touches = match finding.document {
        None => String::new(),
        Some(id) => {
            let short = &id.to_string()[..2 * IdPrefix::DIGITS_MIN + 4];
            let first = finding.first_window;
            match finding.windows {
                0 => format!("  (document {short})"),
                1 => format!("  (document {short}, window {first})"),
                count => format!("  (document {short}, windows {first} to {})", first + count - 1),
            }
        }
    };
    format!("{state:8}  {object}: {problem}{touches}")
}
