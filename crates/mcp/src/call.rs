//! A call of a tool or resource: the gateway that it uses, references to documents, and reports to the client.

use std::future::pending;

use c3_client::{Client, Document, ListQuery, Listed, ListedName, Namespace};
use c3_types::{DocumentName, DocumentRef, IdPrefix};
use futures::{Stream, StreamExt};
use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::service::RequestContext;
use tokio::sync::watch;
use tonic::Code;

use crate::error::Error;
use crate::files::Files;

/// Hexadecimal digits of a handle, which stands for a document in results. Two of a million documents have the same
/// handle with a probability below 0.2 %; the gateway then refuses it as ambiguous.
const HANDLE_DIGITS: usize = 12;
/// Similar documents that an error names.
const SIMILAR_MAX: usize = 3;
/// Minimum digits of a prefix with which similar documents are looked up.
const SIMILAR_DIGITS_MIN: usize = 2;
/// Beginning of the URI of a document.
pub(crate) const DOCUMENTS_URI: &str = "c3://documents/";

/// A call of a tool or resource.
pub(crate) struct Call<'a> {
    pub(crate) client: Client,
    pub(crate) files: &'a Files,
    context: &'a RequestContext<RoleServer>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(client: Client, files: &'a Files, context: &'a RequestContext<RoleServer>) -> Self {
        Self { client, files, context }
    }

    /// Describes the document that `reference` stands for: a handle, an id, a name with `@`, or the URI of a document.
    /// If there is none, the error names similar ones.
    pub(crate) async fn document(&self, reference: &str) -> Result<Document, Error> {
        let reference = reference.trim();
        let reference = reference.strip_prefix(DOCUMENTS_URI).unwrap_or(reference);
        let parsed = reference.parse::<DocumentRef>().map_err(|problem| {
            let problem = problem.problem;
            Error::argument(format!("`{reference}` is no handle: {problem}; names are written with @, such as @plan"))
        })?;
        match self.client.stat(reference).await {
            Err(error) if error.code() == Some(Code::NotFound) => Err(self.not_found(&parsed).await),
            result => Ok(result?),
        }
    }

    async fn not_found(&self, reference: &DocumentRef) -> Error {
        let (problem, similar) = match reference {
            DocumentRef::Id(prefix) => {
                (format!("no document begins with `{}`", prefix.as_str()), self.similar_ids(prefix).await)
            }
            DocumentRef::Name(name) => (format!("no document has the name {name}"), self.similar_names(name).await),
        };
        Error::NotFound(match similar.is_empty() {
            true => format!("{problem}: call `find` to see what is stored"),
            false => format!("{problem}; the nearest are {}", similar.join(", ")),
        })
    }

    /// Returns the handles of documents with the longest common prefix.
    async fn similar_ids(&self, prefix: &IdPrefix) -> Vec<String> {
        let digits = prefix.as_str();
        for length in (SIMILAR_DIGITS_MIN.min(digits.len())..digits.len()).rev() {
            let query = ListQuery { prefix: digits[..length].to_owned(), ..ListQuery::default() };
            let handles = first(self.client.list_where(&query), |listed| match listed {
                Listed::Document(document) => Some(handle(&document)),
                Listed::Damaged(_) => None,
            });
            let handles = handles.await;
            if !handles.is_empty() {
                return handles;
            }
        }
        Vec::new()
    }

    /// Returns names in the same namespace with the same beginning.
    async fn similar_names(&self, name: &DocumentName) -> Vec<String> {
        let start = |chars| name.name().chars().take(chars).collect::<String>();
        for prefix in [start(3), start(1), String::new()] {
            let names = first(self.client.names(name.namespace(), &prefix), |listed| match listed {
                ListedName::Named(named) => Some(named.name.to_string()),
                ListedName::Damaged(_) => None,
            });
            let names = names.await;
            if !names.is_empty() {
                return names;
            }
        }
        Vec::new()
    }

    /// Runs `work`, which reports its progress in bytes through the sender. The client hears of it if it asked to.
    pub(crate) async fn with_progress<T>(
        &self,
        total: Option<u64>,
        work: impl AsyncFnOnce(watch::Sender<u64>) -> T,
    ) -> T {
        let (sender, mut progress) = watch::channel(0);
        let report = async {
            let Some(token) = self.context.meta.get_progress_token() else { return pending().await };
            while progress.changed().await.is_ok() {
                let done = *progress.borrow_and_update();
                let mut report = ProgressNotificationParam::new(token.clone(), done as f64).with_message("bytes");
                report.total = total.map(|total| total as f64);
                // Fails if the client has gone; the call then ends by itself.
                let _ = self.context.peer.notify_progress(report).await;
            }
            pending().await
        };
        tokio::select! {
            result = work(sender) => result,
            never = report => never,
        }
    }
}

/// Returns the handle of a document.
pub(crate) fn handle(document: &Document) -> String {
    document.id.to_string().chars().take(HANDLE_DIGITS).collect()
}

/// Parses a namespace; `None` stands for the default.
pub(crate) fn namespace(namespace: Option<&str>) -> Result<Namespace, Error> {
    Ok(Namespace::or_default(namespace.unwrap_or_default().to_owned())?)
}

/// Returns the first few entries of a list, without those that cannot be read: they only serve to explain an error.
async fn first<T, E>(entries: impl Stream<Item = Result<T, E>>, describe: impl Fn(T) -> Option<String>) -> Vec<String> {
    let entries = entries.filter_map(|entry| std::future::ready(entry.ok().and_then(&describe)));
    entries.take(SIMILAR_MAX).collect().await
}
