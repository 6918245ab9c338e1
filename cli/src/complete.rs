//! Candidates for shell completion that come from the gateway or the configuration file. Errors yield no candidates,
//! since a completion has no place to print them.

use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;
use std::time::Duration;

use c3_client::{Client, DocumentId, ListQuery, Listed, ListedName, Namespace};
use clap_complete::CompletionCandidate;
use futures::{StreamExt, TryStreamExt};
use indicatif::HumanBytes;

use crate::args::RemoteArgs;
use crate::error::CliError;
use crate::output::format::{short_id, time_since};
use crate::profile;

/// Maximum time for which a completion waits for the gateway.
const LIMIT: Duration = Duration::from_secs(2);
/// Maximum number of documents or names that are offered.
const CANDIDATES_MAX: usize = 200;
/// First character of a name where an id is expected.
const SIGIL: char = '@';

/// Returns the arguments for the gateway from a line that may be incomplete.
type RemoteOf = fn(&[OsString]) -> Option<RemoteArgs>;

static REMOTE_OF: OnceLock<RemoteOf> = OnceLock::new();

/// Sets how completions find the arguments for the gateway in the line that is being completed.
pub(crate) fn ask_gateway_of(remote_of: RemoteOf) {
    let _ = REMOTE_OF.set(remote_of);
}

/// Completes an id, or a name after `@`.
pub(crate) fn documents(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().into_owned();
    match typed.starts_with(SIGIL) {
        true => ask(async |client| names_from(&client, &typed).await),
        false => ask(async |client| ids_from(&client, &typed).await),
    }
}

/// Completes a name without `@`.
pub(crate) fn names(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy().into_owned();
    let typed = format!("{SIGIL}{}", typed.trim_start_matches(SIGIL));
    let candidates = ask(async |client| names_from(&client, &typed).await);
    let bare = |candidate: &CompletionCandidate| {
        let name = candidate.get_value().to_string_lossy();
        CompletionCandidate::new(name.trim_start_matches(SIGIL)).help(candidate.get_help().cloned())
    };
    candidates.iter().map(bare).collect()
}

/// Completes the name of an interrupted upload.
pub(crate) fn uploads() -> Vec<CompletionCandidate> {
    ask(async |client: Client| {
        let uploads = client.uploads().await?;
        Ok(uploads.into_iter().map(|upload| CompletionCandidate::new(upload.name.to_string())).collect())
    })
}

/// Completes the name of a profile.
pub(crate) fn profiles() -> Vec<CompletionCandidate> {
    profile::names().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

async fn ids_from(client: &Client, typed: &str) -> Result<Vec<CompletionCandidate>, CliError> {
    let query = ListQuery { prefix: typed.to_owned(), page_size: CANDIDATES_MAX as u32, ..ListQuery::default() };
    let listed: Vec<Listed> = client.list_where(&query).take(CANDIDATES_MAX).try_collect().await?;
    let candidates = listed.into_iter().filter_map(|listed| match listed {
        Listed::Document(document) => {
            let size = HumanBytes(document.bytes);
            let help = format!("{size}, {} {}", time_since(document.created_unix_ms), document.names.join(" "));
            Some(CompletionCandidate::new(shortened(document.id, typed)).help(Some(help.trim_end().to_owned().into())))
        }
        Listed::Damaged(_) => None,
    });
    Ok(candidates.collect())
}

/// Returns the beginning of an id, or all of it if the caller has typed more than that.
fn shortened(id: DocumentId, typed: &str) -> String {
    let id = id.to_string();
    let short = short_id(&id);
    if typed.len() <= short.len() { short.to_owned() } else { id }
}

/// Returns the names that begin with `typed`, `@NAME` or `@NAMESPACE/NAME`.
async fn names_from(client: &Client, typed: &str) -> Result<Vec<CompletionCandidate>, CliError> {
    let typed = typed.trim_start_matches(SIGIL);
    let (namespace, prefix) = match typed.split_once('/') {
        Some((namespace, prefix)) => (namespace.parse()?, prefix),
        None => (Namespace::default(), typed),
    };
    let listed: Vec<ListedName> = client.names(&namespace, prefix).take(CANDIDATES_MAX).try_collect().await?;
    let candidates = listed.into_iter().filter_map(|listed| match listed {
        ListedName::Named(named) => {
            let help = short_id(&named.id.to_string()).to_owned();
            Some(CompletionCandidate::new(named.name.to_string()).help(Some(help.into())))
        }
        ListedName::Damaged(_) => None,
    });
    Ok(candidates.collect())
}

/// Asks the gateway that the line names, for at most [`LIMIT`].
fn ask(call: impl AsyncFnOnce(Client) -> Result<Vec<CompletionCandidate>, CliError>) -> Vec<CompletionCandidate> {
    let answer = async {
        let remote = REMOTE_OF.get().and_then(|remote_of| remote_of(&line())).ok_or(CliError::OutputClosed)?;
        call(remote.connect().await?).await
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async { tokio::time::timeout(LIMIT, answer).await });
    answer.ok().and_then(Result::ok).unwrap_or_default()
}

/// Returns the line that is being completed: the shell passes it after `--`.
fn line() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}
