//! Finds the input texts of a batch: files, files in directories, files that match patterns, and lines of JSON.
//!
//! Runs on its own thread and finds a bounded number of inputs ahead of the uploads. Follows symbolic links. In a
//! directory, a link that is broken or points to a directory above it is reported as a failed input. For a
//! pattern, only broken links that match it are reported.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use walkdir::{DirEntry, WalkDir};

use super::display_name;
use super::jsonl::{self, Line};

/// Maximum number of inputs found ahead of their uploads. Whole files among them are not open yet.
const CHANNEL_CAPACITY: usize = 16;
/// Maximum total bytes of JSON texts that are queued or being uploaded. The search may hold one more text, which waits
/// for free memory.
const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Characters by which an argument is recognized as a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];
/// As in a shell, `*`, `?` and `[` match neither `/` nor the leading dot of a name.
const MATCH_OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Depth to which a directory is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only files directly in the directory.
    Shallow,
    /// Also files in all directories below it.
    Recursive,
}

/// The inputs to find.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// Files, directories and patterns.
    pub(crate) arguments: Vec<PathBuf>,
    pub(crate) depth: Depth,
    /// If set, all files are read as JSON Lines, and this field of each line is a text.
    pub(crate) field: Option<String>,
}

/// An input text, or the error message if it could not be found or read.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) origin: Origin,
    /// Path of a whole file that is stored as a label of its document, see [`kept_path`]. `None` for a line of JSON,
    /// for standard input, and for a path that is not UTF-8.
    pub(crate) path: Option<String>,
    pub(crate) text: Result<FoundText, String>,
}

/// File, or line of a file, from which a text comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: PathBuf,
    /// 1-based line number of a text in JSON Lines; `None` for a whole file.
    pub(crate) line: Option<u64>,
}

/// A text that was found.
#[derive(Debug)]
pub(crate) enum FoundText {
    /// A file that is not open yet.
    File(PathBuf),
    /// The text of a line. `memory` is its share of [`MEMORY_BYTES_MAX`]; drop it once the text is stored.
    Line { text: String, memory: OwnedSemaphorePermit },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", display_name(&self.file)),
            None => display_name(&self.file).fmt(f),
        }
    }
}

/// Returns true if an argument is neither a directory nor a pattern.
pub(crate) fn is_single_file(argument: &Path) -> bool {
    !argument.is_dir() && pattern(argument).is_none()
}

/// Returns the kept path (see [`kept_path`]) of a file that is itself an argument, not found by a directory or pattern.
pub(crate) fn kept_path_of(file: &Path) -> Option<String> {
    kept_path(file, left_out(file, parent(file)))
}

/// Starts the search on a blocking thread. Dropping the receiver ends the search early. Panics outside a tokio runtime.
pub(crate) fn find(search: Search) -> mpsc::Receiver<Input> {
    let (found, inputs) = mpsc::channel(CHANNEL_CAPACITY);
    let memory = Arc::new(Semaphore::new(MEMORY_BYTES_MAX));
    let finder = Finder { search, found, memory, runtime: Handle::current() };
    tokio::task::spawn_blocking(move || {
        let mut arguments = finder.search.arguments.iter();
        arguments.try_for_each(|argument| finder.argument(argument))
    });
    inputs
}

/// The receiver was dropped.
struct ReceiverDropped;

struct Finder {
    search: Search,
    found: mpsc::Sender<Input>,
    memory: Arc<Semaphore>,
    runtime: Handle,
}

impl Finder {
    fn argument(&self, argument: &Path) -> Result<(), ReceiverDropped> {
        if argument.is_dir() {
            return self.directory(argument);
        }
        let Some(pattern) = pattern(argument) else { return self.file(argument, left_out(argument, parent(argument))) };
        match Pattern::new(&without_dot(Path::new(pattern)).to_string_lossy()) {
            Ok(pattern) => self.matches(argument, &pattern),
            Err(error) => self.failed(argument, format!("not a valid pattern: {error}")),
        }
    }

    /// Sends the files that match `pattern`. Walks the directory that the components before the first wildcard name.
    fn matches(&self, argument: &Path, pattern: &Pattern) -> Result<(), ReceiverDropped> {
        let is_literal = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(WILDCARDS);
        let literal = PathBuf::from_iter(argument.components().take_while(is_literal));
        let root = if literal.as_os_str().is_empty() { Path::new(".") } else { &literal };
        let depth = match pattern.as_str().contains("**") {
            true => usize::MAX,
            false => argument.components().skip_while(is_literal).count(),
        };
        let left_out = left_out(argument, root);
        let is_match = |path: &Path| pattern.matches_path_with(&without_dot(path), MATCH_OPTIONS);
        let mut is_empty = true;
        for entry in WalkDir::new(root).max_depth(depth).follow_links(true) {
            match entry {
                Ok(entry) if entry.file_type().is_file() && is_match(entry.path()) => {
                    is_empty = false;
                    self.file(&without_dot(entry.path()), left_out)?;
                }
                Ok(_) => {}
                // A link to a parent directory adds no files: the walk visits that directory anyway.
                Err(error) if error.loop_ancestor().is_some() => {}
                Err(error) => {
                    if let Some(path) = error.path().filter(|path| is_match(path)) {
                        is_empty = false;
                        self.failed(path, message(&error))?;
                    }
                }
            }
        }
        if is_empty { self.failed(argument, "no file matches the pattern".to_owned()) } else { Ok(()) }
    }

    fn directory(&self, directory: &Path) -> Result<(), ReceiverDropped> {
        let depth = if self.search.depth == Depth::Recursive { usize::MAX } else { 1 };
        let walk = WalkDir::new(directory).max_depth(depth).follow_links(true);
        let mut is_empty = true;
        for entry in walk.into_iter().filter_entry(|entry| !is_hidden(entry)) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    is_empty = false;
                    self.file(entry.path(), left_out(directory, parent(directory)))?;
                }
                Ok(_) => {}
                Err(error) => {
                    is_empty = false;
                    self.failed(error.path().unwrap_or(directory), message(&error))?;
                }
            }
        }
        match (is_empty, self.search.depth) {
            (false, _) => Ok(()),
            (true, Depth::Recursive) => self.failed(directory, "the directory has no files".to_owned()),
            (true, Depth::Shallow) => {
                self.failed(directory, "the directory has no files; --recursive includes its subdirectories".to_owned())
            }
        }
    }

    fn file(&self, file: &Path, left_out: &Path) -> Result<(), ReceiverDropped> {
        let origin = |line| Origin { file: file.to_owned(), line };
        let Some(field) = &self.search.field else {
            let (origin, path) = (origin(None), kept_path(file, left_out));
            let found = Input { origin, path, text: Ok(FoundText::File(file.to_owned())) };
            return self.found.blocking_send(found).map_err(|_| ReceiverDropped);
        };
        let opened: std::io::Result<Box<dyn Read>> = match file == Path::new("-") {
            true => Ok(Box::new(std::io::stdin())),
            false => File::open(file).map(|file| Box::new(file) as Box<dyn Read>),
        };
        let lines = match opened {
            Ok(lines) => lines,
            Err(error) => return self.failed(file, error.to_string()),
        };
        for (number, line) in jsonl::Lines::new(BufReader::new(lines)) {
            let text = match line {
                Ok(Line::Complete(line)) => jsonl::text(&line, field),
                Ok(Line::TooLong) => Err(jsonl::too_long()),
                Err(error) => return self.send(origin(Some(number)), Err(error.to_string())),
            };
            let text = text.map(|text| FoundText::Line { memory: self.reserve_memory(text.len()), text });
            self.send(origin(Some(number)), text)?;
        }
        Ok(())
    }

    /// Blocks until `bytes` bytes of [`MEMORY_BYTES_MAX`] are free, and reserves them.
    fn reserve_memory(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(MEMORY_BYTES_MAX)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).acquire_many_owned(bytes);
        self.runtime.block_on(memory).expect("the semaphore is never closed")
    }

    fn failed(&self, file: &Path, message: String) -> Result<(), ReceiverDropped> {
        self.send(Origin { file: file.to_owned(), line: None }, Err(message))
    }

    fn send(&self, origin: Origin, text: Result<FoundText, String>) -> Result<(), ReceiverDropped> {
        self.found.blocking_send(Input { origin, path: None, text }).map_err(|_| ReceiverDropped)
    }
}

/// Returns the argument if it is a pattern: it has wildcards, and no file has exactly this name.
fn pattern(argument: &Path) -> Option<&str> {
    let typed = argument.to_str().filter(|typed| typed.contains(WILDCARDS))?;
    argument.symlink_metadata().is_err().then_some(typed)
}

/// Removes every `.` and every repeated `/`. A walk of `.` puts `./` before every path, but a pattern may begin without
/// it.
fn without_dot(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// Returns the folder whose path is cut off from kept paths: `folder` if `argument` is absolute or contains `..`,
/// otherwise the empty path.
fn left_out<'a>(argument: &Path, folder: &'a Path) -> &'a Path {
    let is_below = argument.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if is_below { Path::new("") } else { folder }
}

/// Returns the path of a file that is stored as the label `path` of its document. The path is relative: the leading
/// folder `left_out` and all `.` and `..` are removed. Returns `None` if nothing remains, for standard input (`-`), and
/// for a path that is not UTF-8.
fn kept_path(file: &Path, left_out: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in file.strip_prefix(left_out).unwrap_or(file).components() {
        if let Component::Normal(part) = part {
            parts.push(part.to_str()?);
        }
    }
    Some(parts.join("/")).filter(|path| !path.is_empty() && path != "-")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Returns true if the entry's name starts with a dot, unless the entry is the argument itself.
fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
}

/// Returns the error message without the path.
fn message(error: &walkdir::Error) -> String {
    match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => format!("a link that leads back to {}", ancestor.display()),
        (None, Some(error)) => error.to_string(),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn found(arguments: &[&Path], depth: Depth, field: Option<&str>) -> Vec<(String, Option<String>)> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut inputs = find(Search { arguments, depth, field: field.map(str::to_owned) });
        let mut found = Vec::new();
        while let Some(Input { origin, text, .. }) = inputs.recv().await {
            let name = origin.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = origin.line.map_or(name.clone(), |line| format!("{name}:{line}"));
            let why = text.err();
            found.push((name, why));
        }
        found.sort();
        found
    }

    fn names(found: &[(String, Option<String>)]) -> Vec<&str> {
        found.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[tokio::test]
    async fn directories_and_patterns_expand_to_files() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for name in ["a.txt", "b.md", ".hidden", "inner/c.txt", "inner/.hidden"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let shallow = found(&[folder.path()], Depth::Shallow, None).await;
        assert_eq!(names(&shallow), ["a.txt", "b.md"]);
        let deep = found(&[folder.path()], Depth::Recursive, None).await;
        assert_eq!(names(&deep), ["a.txt", "b.md", "c.txt"]);
        let pattern = folder.path().join("**/*.txt");
        assert_eq!(names(&found(&[&pattern], Depth::Shallow, None).await), ["a.txt", "c.txt"]);
        let nothing = found(&[&folder.path().join("*.rs")], Depth::Shallow, None).await;
        assert_eq!(nothing[0].1.as_deref(), Some("no file matches the pattern"));
        fs::write(folder.path().join("d[1].txt"), "a name that looks like a pattern").unwrap();
        assert!(is_single_file(&folder.path().join("d[1].txt")) && !is_single_file(&pattern));
    }

    #[test]
    fn a_kept_path_is_relative_and_stays_below_its_folder() {
        let kept = |argument: &str, file: &str| {
            let (argument, file) = (Path::new(argument), Path::new(file));
            kept_path(file, left_out(argument, parent(argument)))
        };
        for (argument, file, path) in [
            ("a.txt", "a.txt", "a.txt"),
            ("./b/a.txt", "./b/a.txt", "b/a.txt"),
            (".", "./b/a.txt", "b/a.txt"),
            ("notes", "notes/b/a.txt", "notes/b/a.txt"),
            ("/home/u/notes", "/home/u/notes/b/a.txt", "notes/b/a.txt"),
            ("../notes", "../notes/a.txt", "notes/a.txt"),
            ("..", "../a.txt", "a.txt"),
            ("x/../../a.txt", "x/../../a.txt", "a.txt"),
            ("/a.txt", "/a.txt", "a.txt"),
        ] {
            assert_eq!(kept(argument, file).as_deref(), Some(path), "{argument}");
        }
        assert_eq!(kept("-", "-"), None);
    }

    #[test]
    fn a_dot_in_a_path_changes_nothing() {
        for (path, expected) in [("./*.txt", "*.txt"), ("a/.//./b", "a/b"), ("../b", "../b"), ("/a", "/a")] {
            assert_eq!(without_dot(Path::new(path)), Path::new(expected));
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn broken_and_circular_links_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a.txt"), "a").unwrap();
        std::os::unix::fs::symlink(folder.path(), inner.join("back")).unwrap();
        std::os::unix::fs::symlink("gone", inner.join("nowhere")).unwrap();
        let found = found(&[folder.path()], Depth::Recursive, None).await;
        assert_eq!(names(&found), ["a.txt", "back", "nowhere"]);
        let matched = super::tests::found(&[&folder.path().join("**/*.txt")], Depth::Shallow, None).await;
        assert_eq!(names(&matched), ["a.txt"]);
        assert!(found[0].1.is_none());
        assert!(found[1].1.as_ref().unwrap().contains("leads back"), "{found:?}");
        assert!(found[2].1.is_some());
    }

    #[tokio::test]
    async fn each_line_of_json_is_an_input() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.jsonl");
        fs::write(&file, "{\"body\":\"one\"}\n\n{\"body\":2}\n{\"body\":\"three\"}").unwrap();
        let found = found(&[&file], Depth::Shallow, Some("body")).await;
        assert_eq!(names(&found), ["f.jsonl:1", "f.jsonl:3", "f.jsonl:4"]);
        assert!(found[0].1.is_none() && found[1].1.is_some() && found[2].1.is_none());
    }
}
