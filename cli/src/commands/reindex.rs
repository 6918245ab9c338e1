//! `c3 reindex`: lets search find documents that were stored without search.

use std::time::Duration;

use c3_client::{Client, ReindexJob, ReindexState};
use clap_complete::ArgValueCompleter;
use serde_json::json;
use tokio::time::sleep;

use crate::args::{RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;
use crate::kept;
use crate::output::format::count;
use crate::output::{Progress, warn};

/// Interval at which the state of the job is read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of `reindex`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReindexArgs {
    /// Documents: ids, unique prefixes of ids, or @NAMEs
    #[arg(value_parser = document_ref, required_unless_present_any = ["all", "status"], value_name = "ID",
        add = ArgValueCompleter::new(complete::documents))]
    ids: Vec<String>,
    /// All stored documents, in the background: the gateway decodes them whenever its decoders have nothing else to do,
    /// and goes on if this command is interrupted. Documents that search finds already are skipped
    #[arg(long, conflicts_with_all = ["ids", "status"])]
    all: bool,
    /// With --all: do not wait for the end
    #[arg(long, requires = "all", conflicts_with_all = ["ids", "status"])]
    detach: bool,
    /// Show the state of `reindex --all` in this gateway
    #[arg(long, conflicts_with = "ids")]
    status: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Reindexes the documents one after another, or starts or shows the gateway's job for all documents.
pub(crate) async fn run(args: ReindexArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    let job = match (args.status, args.all, args.detach) {
        (true, ..) => client.reindex_job().await?,
        (_, true, true) => client.start_reindex().await?,
        (_, true, false) => wait_for_end(&client).await?,
        (_, false, _) => return documents(&client, &args).await,
    };
    if let Some(problem) = &job.last_problem {
        warn(problem);
    }
    args.remote.format.print(describe(&job), &job)?;
    match (args.status || args.detach, job.failed) {
        (true, _) | (_, 0) => Ok(()),
        (_, failed) => Err(CliError::Failed(format!("{} failed: repeat the command", count(failed, "document")))),
    }
}

async fn documents(client: &Client, args: &ReindexArgs) -> Result<(), CliError> {
    let progress = Progress::start("reindex", None);
    let total = args.ids.len() as u64;
    let (mut documents, mut windows) = (0, 0);
    for (done, id) in (0..).zip(&args.ids) {
        progress.set_documents(done, total);
        kept::set(format!("{done} of {total} documents are done; repeat the command for the rest"));
        let added = client.reindex(id).await?;
        documents += u64::from(added > 0);
        windows += added;
    }
    drop(progress);
    let text = format!("reindexed: {}, {}", count(documents, "document"), count(windows, "window"));
    args.remote.format.print(text, &json!({ "documents": documents, "windows": windows }))
}

/// Starts the gateway's job, or joins it, and shows its progress until it ends.
async fn wait_for_end(client: &Client) -> Result<ReindexJob, CliError> {
    let mut job = client.start_reindex().await?;
    kept::set("the gateway goes on in the background; `c3 reindex --status` shows its progress");
    let progress = Progress::start("reindex", None);
    while job.is_active() {
        progress.set_documents(job.done(), job.documents);
        progress.say(job.state.as_str());
        sleep(POLL_INTERVAL).await;
        job = client.reindex_job().await?;
    }
    match job.state {
        ReindexState::Idle => {
            let problem = "the gateway was restarted, or another gateway answers";
            Err(CliError::Failed(format!("{problem}: repeat the command, it skips the documents that are done")))
        }
        _ => Ok(job),
    }
}

fn describe(job: &ReindexJob) -> String {
    let state = match job.state {
        ReindexState::Idle => return "not reindexing; `c3 reindex --all` starts it".to_owned(),
        ReindexState::Running => "running",
        ReindexState::Waiting => "waiting for idle decoders",
        ReindexState::Ended => "ended",
    };
    let documents = count(job.documents, "document");
    let reindexed = format!("reindexed: {}, {}", count(job.reindexed, "document"), count(job.windows, "window"));
    format!("{state}: {} of {documents}\n{reindexed}; skipped: {}; failed: {}", job.done(), job.skipped, job.failed)
}
