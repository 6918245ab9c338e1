//! `c3 get` of many documents in parallel. Each is written to the paths in its labels, which are those of the files
//! from which it was put. A document without such a label is written to a file named by its id.
//!
//! The id of a document is the hash of its text. The hash of an existing file therefore shows whether the file already
//! contains the document.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::File;
use std::future::ready;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use c3_client::{ByteRange, Client, Document, DocumentId, ListQuery, Stage};
use futures::{StreamExt, TryStreamExt, stream};

use super::GetArgs;
use crate::commands::ls::readable;
use crate::error::CliError;
use crate::kept;
use crate::output::format::{count, short_id};
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
    let client = args.remote.connect_to_nodes(&[Stage::Decoder]).await?;
    let mut batch = Batch::start("get", args.remote.format);
    let progress = batch.progress();
    let documents = documents(&client, &args, &mut batch).await?;
    batch.set_total(ready(Some(documents.iter().map(|document| document.bytes).sum())));
    let get = |(document, files): (Document, Vec<PathBuf>)| {
        let (client, progress) = (client.clone(), &progress);
        async move {
            let report = get_to_files(&client, &document, &Files { directory, files }, progress).await;
            (document.id, report)
        }
    };
    kept::set("no document was written");
    let mut gets = std::pin::pin!(stream::iter(files_of(documents)).map(get).buffer_unordered(args.jobs));
    while let Some((id, report)) = gets.next().await {
        match report {
            Ok(report) => {
                batch.succeeded(&report)?;
                let documents = count(batch.documents(), "document");
                kept::set(format!("wrote {documents} so far; repeat the command to write the rest"));
            }
            Err(error) => batch.document_failed(&id.to_string(), &error)?,
        }
    }
    batch.finish()
}

/// Returns the requested documents with their labels. A document whose description cannot be read, for example because
/// it does not exist, is reported to `batch` as a failure. With `--all` or `--prefix`, skips documents that cannot be
/// read, with a warning.
async fn documents(client: &Client, args: &GetArgs, batch: &mut Batch) -> Result<Vec<Document>, CliError> {
    if args.all || args.prefix.is_some() {
        let prefix = args.prefix.clone().unwrap_or_default();
        return Ok(readable(client, &ListQuery { prefix, ..ListQuery::default() }).try_collect().await?);
    }
    let stats = stream::iter(&args.ids).map(|id| async move { (id, client.stat(id).await) });
    let mut stats = std::pin::pin!(stats.buffered(args.jobs));
    let mut documents = Vec::new();
    while let Some((id, document)) = stats.next().await {
        match document {
            Ok(document) => documents.push(document),
            Err(error) => batch.document_failed(id, &error.into())?,
        }
    }
    Ok(documents)
}

/// Returns the files of each document, relative to the directory: the paths in its labels, or its id if it has none. If
/// several documents have the same path, the newest one gets it. For the others, the beginning of the id is appended to
/// the path.
fn files_of(mut documents: Vec<Document>) -> Vec<(Document, Vec<PathBuf>)> {
    documents.sort_by_key(|document| (Reverse(document.created_unix_ms), document.id));
    documents.dedup_by_key(|document| document.id);
    let mut taken = HashSet::new();
    let files = documents.into_iter().map(|document| {
        let id = document.id.to_string();
        let mut files = Vec::from_iter(document.labels.paths().filter_map(path_below));
        if files.is_empty() {
            files.push(PathBuf::from(&id));
        }
        for file in &mut files {
            if !taken.insert(file.clone()) {
                file.as_mut_os_string().push(format!(".{}", short_id(&id)));
            }
        }
        (document, files)
    });
    files.collect()
}

/// Returns the path of a label if it stays below the directory: not absolute, and without `..`.
fn path_below(label: &str) -> Option<PathBuf> {
    let path = Path::new(label);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    (is_below && !label.is_empty()).then(|| path.to_owned())
}

/// Files to which one document is written.
struct Files<'a> {
    directory: &'a Path,
    /// Relative to `directory`.
    files: Vec<PathBuf>,
}

impl Files<'_> {
    /// Opens the files that do not contain the document yet, and creates their folders.
    async fn open(&self, id: DocumentId) -> Result<Vec<Output>, CliError> {
        let mut outputs = Vec::new();
        for file in &self.files {
            self.create_folder(file)?;
            let path = self.directory.join(file);
            if !is_present(id, &path).await? {
                outputs.push(Output::open_new(&path)?);
            }
        }
        Ok(outputs)
    }

    /// Creates the folders of a file. Refuses symbolic links, which could lead out of the directory.
    fn create_folder(&self, file: &Path) -> Result<(), CliError> {
        let mut folder = self.directory.to_owned();
        for part in file.parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            if folder.is_symlink() {
                let folder = folder.display();
                return Err(CliError::Failed(format!("{folder} is a symbolic link: move it away, then try again")));
            }
            match std::fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                created => created.map_err(|error| CliError::at(&folder, &error))?,
            }
        }
        Ok(())
    }
}

/// Writes a document to its files.
async fn get_to_files(
    client: &Client,
    document: &Document,
    files: &Files<'_>,
    progress: &Progress,
) -> Result<Report, CliError> {
    let started = Instant::now();
    let mut outputs = files.open(document.id).await?;
    if !outputs.is_empty() {
        let mut text = client.get(&document.id.to_string(), ByteRange::default()).await?;
        while let Some(piece) = text.try_next().await? {
            for output in &mut outputs {
                output.write(&piece).await?;
            }
            progress.add(piece.len() as u64);
        }
    }
    for output in outputs {
        output.finish().await?;
    }
    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { get: Some(total), total, ..Seconds::default() };
    let file = files.files.first().map(|file| files.directory.join(file).display().to_string());
    Ok(Report { file, seconds, ..Report::of_document(document) })
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

    fn document(text: &str, created_unix_ms: u64, paths: &[&str]) -> Document {
        let fingerprint = c3_types::Fingerprint::of(b"model");
        let paths = paths.iter().enumerate().map(|(i, path)| (format!("path.{i}"), (*path).to_owned()));
        Document {
            id: DocumentId::of(text.as_bytes()),
            bytes: 1,
            tokens: 1,
            latents: 1,
            ratio: 20,
            codec: c3_client::LatentCodec::F32,
            verification: None,
            cascade: c3_types::Cascade::new("c3-mini".to_owned(), fingerprint, fingerprint).unwrap(),
            shards: 1,
            windows: 1,
            stored_bytes: 1,
            created_unix_ms,
            expires_unix_ms: None,
            labels: c3_client::Labels::new(paths).unwrap(),
            names: Vec::new(),
        }
    }

    #[test]
    fn documents_get_their_paths_and_never_leave_the_directory() {
        let id = |text: &str| DocumentId::of(text.as_bytes()).to_string();
        let old = document("old", 1, &["a/b.txt"]);
        let new = document("new", 2, &["a/b.txt", "c"]);
        let outside = document("outside", 3, &["/etc/passwd", "../x", "a/../../x", ""]);
        let files = files_of(vec![old.clone(), new.clone(), outside.clone(), old.clone()]).into_iter();
        let files = Vec::from_iter(files.map(|(document, files)| (document.id, files)));
        let paths = |paths: &[&str]| Vec::from_iter(paths.iter().map(PathBuf::from));
        let expected = [
            (outside.id, paths(&[&id("outside")])),
            (new.id, paths(&["a/b.txt", "c"])),
            (old.id, paths(&[&format!("a/b.txt.{}", short_id(&id("old")))])),
        ];
        assert_eq!(files, expected);
    }

    #[cfg(unix)]
    #[test]
    fn folders_are_created_but_not_through_links() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = Files { directory: directory.path(), files: Vec::new() };
        files.create_folder(Path::new("a/b/c.txt")).unwrap();
        files.create_folder(Path::new("a/b/d.txt")).unwrap();
        assert!(directory.path().join("a/b").is_dir());
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("link")).unwrap();
        assert!(files.create_folder(Path::new("link/b/c.txt")).is_err());
        assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);
    }

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
