//! `c3 get` of many documents: into a folder, side by side, each a file named by its id.
//!
//! An id is the hash of a text, so a file that is there already is known to hold the text, or another.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use c3_client::{ByteRange, Client, ListQuery};
use c3_proto::DocumentId;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::args::positive;
use crate::batch::Batch;
use crate::failure::Failure;
use crate::get::GetArgs;
use crate::list::readable;
use crate::output::Output;
use crate::progress::Progress;
use crate::report::{Report, Seconds};

/// Documents at once: their windows share steps of the decoders.
const JOBS: usize = 16;

/// Arguments of a get of many documents.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GetManyArgs {
    /// Every stored document
    #[arg(long, conflicts_with_all = ["ids", "prefix"])]
    all: bool,
    /// Every document whose id begins with these digits
    #[arg(long, value_name = "DIGITS", conflicts_with = "ids")]
    prefix: Option<String>,
    /// Documents that are read at once
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = positive)]
    jobs: usize,
}

/// Whether what is to be written is a folder: there is one, or the name ends as a folder's does.
pub(crate) fn is_folder(output: Option<&Path>) -> bool {
    output.is_some_and(|path| path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/'))
}

/// Writes the documents and reports on each as it is done.
pub(crate) async fn run(args: GetArgs) -> Result<(), Failure> {
    let Some(folder) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        return Err(Failure::CallWrong("several documents go to a folder: name it with -o DIR".to_owned()));
    };
    if args.range != ByteRange::default() {
        return Err(Failure::CallWrong("--range is of one document, to a file".to_owned()));
    }
    std::fs::create_dir_all(folder).map_err(|error| Failure::at(folder, &error))?;
    let client = Client::connect(&args.remote.gateway).await?;
    let mut batch = Batch::begin("get", args.remote.json);
    let progress = batch.progress();
    let get = |id: Result<String, Failure>| {
        let (client, progress) = (client.clone(), &progress);
        async move {
            let id = id?;
            let report = one(&client, &id, folder, progress).await;
            Ok::<_, Failure>((id, report))
        }
    };
    let mut gets = std::pin::pin!(ids(&client, &args).map(get).buffer_unordered(args.many.jobs));
    while let Some((id, report)) = gets.try_next().await? {
        match report {
            Ok(report) => batch.done(&report)?,
            Err(failure) => batch.missed(&id, &failure)?,
        }
    }
    batch.finish()
}

/// The ids that are asked for.
fn ids(client: &Client, args: &GetArgs) -> BoxStream<'static, Result<String, Failure>> {
    if !args.many.all && args.many.prefix.is_none() {
        return stream::iter(args.ids.clone()).map(Ok).boxed();
    }
    let prefix = args.many.prefix.clone().unwrap_or_default();
    let query = ListQuery { prefix, ..ListQuery::default() };
    let listed = readable(client, &query);
    listed.map_ok(|document| document.id.to_string()).map_err(Failure::from).boxed()
}

async fn one(client: &Client, typed: &str, folder: &Path, progress: &Progress) -> Result<Report, Failure> {
    let begun = Instant::now();
    let mut text = client.get(typed, ByteRange::default()).await?;
    let document = text.document().clone();
    let path = folder.join(document.id.to_string());
    if !is_there(document.id, &path).await? {
        let mut output = Output::open_new(&path)?;
        while let Some(piece) = text.try_next().await? {
            output.write(&piece).await?;
            progress.more(piece.len() as u64);
        }
        output.finish().await?;
    }
    let total = begun.elapsed().as_secs_f64();
    let seconds = Seconds { get: Some(total), total, ..Seconds::default() };
    Ok(Report { file: Some(path.display().to_string()), seconds, ..Report::of(&document) })
}

/// Whether the file holds the document already. Errors: it holds something else.
async fn is_there(id: DocumentId, path: &Path) -> Result<bool, Failure> {
    let file = path.to_owned();
    let hash = tokio::task::spawn_blocking(move || hash_of(&file)).await;
    match hash.map_err(io::Error::from).flatten() {
        Ok(hash) if hash.as_bytes() == id.as_bytes() => Ok(true),
        Ok(_) => Err(differs(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::at(path, &error)),
    }
}

fn hash_of(path: &PathBuf) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize())
}

fn differs(path: &Path) -> Failure {
    Failure::WorkFailed(format!("{} is there and holds another text: move it away", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_is_known_by_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let (id, path) = (DocumentId::of(b"text"), folder.path().join("file"));
        assert!(!is_there(id, &path).await.unwrap());
        std::fs::write(&path, "text").unwrap();
        assert!(is_there(id, &path).await.unwrap());
        std::fs::write(&path, "another").unwrap();
        assert!(is_there(id, &path).await.unwrap_err().to_string().contains("another text"));
    }

    #[test]
    fn a_folder_is_there_or_ends_as_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_folder(Some(folder.path())) && is_folder(Some(Path::new("new/"))));
        assert!(!is_folder(Some(Path::new("new"))) && !is_folder(None));
    }
}
