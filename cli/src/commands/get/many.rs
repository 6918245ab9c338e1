//! `c3 get` of many documents in parallel, each into a file named by its id.
//!
//! The id of a document is the hash of its text. The hash of an existing file thus shows if it is that text.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use c3_client::{ByteRange, Client, DocumentId, ListQuery, Listed};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::GetArgs;
use crate::commands::ls::readable;
use crate::error::CliError;
use crate::output::{Batch, Output, Progress, Report, Seconds};

/// Reads the documents in parallel. A document that fails does not stop the others.
pub(super) async fn run(args: GetArgs) -> Result<(), CliError> {
    let Some(directory) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        return Err(CliError::Usage("several documents need a directory: add --output DIR".to_owned()));
    };
    if args.range != ByteRange::default() {
        return Err(CliError::Usage("--range needs a single ID, and no directory as --output".to_owned()));
    }
    std::fs::create_dir_all(directory).map_err(|error| CliError::at(directory, &error))?;
    let client = args.remote.connect().await?;
    let mut batch = Batch::start("get", args.remote.format);
    batch.set_total(total_bytes(client.clone(), args.ids.clone(), query(&args)));
    let progress = batch.progress();
    let get = |id: Result<String, CliError>| {
        let (client, progress) = (client.clone(), &progress);
        async move {
            let id = id?;
            let report = get_to_file(&client, &id, directory, progress).await;
            Ok::<_, CliError>((id, report))
        }
    };
    let mut gets = std::pin::pin!(ids(&client, &args).map(get).buffer_unordered(args.jobs));
    while let Some((id, report)) = gets.try_next().await? {
        match report {
            Ok(report) => batch.succeeded(&report)?,
            Err(error) => batch.document_failed(&id, &error)?,
        }
    }
    batch.finish()
}

/// Streams the requested ids. With `--all` or `--prefix`, skips documents that cannot be read, with a warning.
fn ids(client: &Client, args: &GetArgs) -> BoxStream<'static, Result<String, CliError>> {
    let Some(query) = query(args) else { return stream::iter(args.ids.clone()).map(Ok).boxed() };
    let listed = readable(client, &query);
    listed.map_ok(|document| document.id.to_string()).map_err(CliError::from).boxed()
}

/// Returns the query of `--all` or `--prefix`.
fn query(args: &GetArgs) -> Option<ListQuery> {
    let prefix = args.prefix.clone().or_else(|| args.all.then(String::new))?;
    Some(ListQuery { prefix, ..ListQuery::default() })
}

/// Returns the size of the documents that `ids` and `query` select, or `None` if a call fails.
async fn total_bytes(client: Client, ids: Vec<String>, query: Option<ListQuery>) -> Option<u64> {
    let mut bytes = 0;
    if let Some(query) = query {
        let mut listed = client.list_where(&query);
        while let Some(listed) = listed.try_next().await.ok()? {
            if let Listed::Document(document) = listed {
                bytes += document.bytes;
            }
        }
    }
    for id in ids {
        bytes += client.stat(&id).await.ok()?.bytes;
    }
    Some(bytes)
}

async fn get_to_file(client: &Client, id: &str, directory: &Path, progress: &Progress) -> Result<Report, CliError> {
    let started = Instant::now();
    let mut text = client.get(id, ByteRange::default()).await?;
    let document = text.document().clone();
    let path = directory.join(document.id.to_string());
    if is_present(document.id, &path).await? {
        progress.add(document.bytes);
    } else {
        let mut output = Output::open_new(&path)?;
        while let Some(piece) = text.try_next().await? {
            output.write(&piece).await?;
            progress.add(piece.len() as u64);
        }
        output.finish().await?;
    }
    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { get: Some(total), total, ..Seconds::default() };
    Ok(Report { file: Some(path.display().to_string()), seconds, ..Report::of_document(&document) })
}

/// Returns true if the file at `path` contains the document, false if there is no file. Fails for any other content.
async fn is_present(id: DocumentId, path: &Path) -> Result<bool, CliError> {
    let file = path.to_owned();
    let hash = tokio::task::spawn_blocking(move || hash_file(&file)).await;
    match hash.map_err(io::Error::from).flatten() {
        Ok(hash) if hash.as_bytes() == id.as_bytes() => Ok(true),
        Ok(_) => {
            let path = path.display();
            Err(CliError::Failed(format!("{path} exists with another text: move it away, then try again")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CliError::at(path, &error)),
    }
}

fn hash_file(path: &PathBuf) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_existing_file_is_recognized_by_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let (id, path) = (DocumentId::of(b"text"), folder.path().join("file"));
        assert!(!is_present(id, &path).await.unwrap());
        std::fs::write(&path, "text").unwrap();
        assert!(is_present(id, &path).await.unwrap());
        std::fs::write(&path, "another").unwrap();
        assert!(is_present(id, &path).await.unwrap_err().to_string().contains("another text"));
    }
}
