//! The texts of a batch: files, the files of folders, what patterns match, and lines of JSON.
//!
//! A thread of its own looks for them and goes no further ahead than the batch has use for. Links are followed; a link
//! that leads back to where it is, or nowhere, is a text that cannot be had, and so told.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use walkdir::{DirEntry, WalkDir};

use crate::jsonl::{self, Line};

/// Texts that are found ahead of their puts.
const AHEAD: usize = 16;
/// Bytes of lines in memory, those being put among them.
const ROOM_BYTES: usize = 64 << 20;
/// What a pattern has and the name of a file seldom.
const PATTERN: [char; 3] = ['*', '?', '['];
/// Hidden files are matched by no pattern, as in a shell.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// How far into a folder is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The files in it.
    Folder,
    /// And those in the folders in it.
    Tree,
}

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Files, folders and patterns.
    pub(crate) arguments: Vec<PathBuf>,
    pub(crate) depth: Depth,
    /// Where each line of a file is a text of its own: the field that holds it.
    pub(crate) field: Option<String>,
}

/// A text of a batch, or why there is none.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) origin: Origin,
    pub(crate) text: Result<Text, String>,
}

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: PathBuf,
    /// Number of the line, from 1, where it is one.
    pub(crate) line: Option<u64>,
}

/// A text to put.
#[derive(Debug)]
pub(crate) enum Text {
    /// To be opened when its turn comes.
    File(PathBuf),
    /// A line's, with its place in memory.
    Line { text: String, room: OwnedSemaphorePermit },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file.display()),
            None => self.file.display().fmt(f),
        }
    }
}

/// Whether an argument stands for itself: no folder, no pattern.
pub(crate) fn is_one_text(argument: &Path) -> bool {
    !argument.is_dir() && pattern(argument).is_none()
}

/// Finds the texts, each when there is use for it.
pub(crate) fn find(wanted: Wanted) -> mpsc::Receiver<Input> {
    let (found, inputs) = mpsc::channel(AHEAD);
    let finder = Finder { found, room: Arc::new(Semaphore::new(ROOM_BYTES)), runtime: Handle::current() };
    tokio::task::spawn_blocking(move || {
        for argument in &wanted.arguments {
            if finder.argument(argument, &wanted).is_err() {
                break;
            }
        }
    });
    inputs
}

/// Nobody wants the texts any more.
struct Unwanted;

struct Finder {
    found: mpsc::Sender<Input>,
    room: Arc<Semaphore>,
    runtime: Handle,
}

impl Finder {
    fn argument(&self, argument: &Path, wanted: &Wanted) -> Result<(), Unwanted> {
        if argument.is_dir() {
            return self.folder(argument, wanted);
        }
        let Some(pattern) = pattern(argument) else { return self.file(argument, wanted) };
        match Pattern::new(pattern) {
            Ok(pattern) => self.matches(argument, &pattern, wanted),
            Err(error) => self.none(argument, format!("not a pattern: {error}")),
        }
    }

    /// The files that match a pattern, looked for below its part that is no pattern.
    fn matches(&self, argument: &Path, pattern: &Pattern, wanted: &Wanted) -> Result<(), Unwanted> {
        let plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(PATTERN);
        let fixed = PathBuf::from_iter(argument.components().take_while(plain));
        let here = fixed.as_os_str().is_empty();
        let depth = match pattern.as_str().contains("**") {
            true => usize::MAX,
            false => argument.components().skip_while(plain).count(),
        };
        let walk =
            WalkDir::new(if here { Path::new(".") } else { &fixed }).max_depth(depth).follow_links(true);
        let is_wanted =
            |path: &Path| pattern.matches_path_with(path.strip_prefix(".").unwrap_or(path), MATCHING);
        let mut any = false;
        for entry in walk {
            match entry {
                Ok(entry) if entry.file_type().is_file() && is_wanted(entry.path()) => {
                    any = true;
                    self.file(entry.path().strip_prefix(".").unwrap_or(entry.path()), wanted)?;
                }
                Ok(_) => {}
                // Behind a link that leads back is nothing that was not found before.
                Err(error) if error.loop_ancestor().is_some() => {}
                Err(error) => {
                    if let Some(path) = error.path().filter(|path| is_wanted(path)) {
                        any = true;
                        self.none(path, problem(&error))?;
                    }
                }
            }
        }
        if any { Ok(()) } else { self.none(argument, "nothing matches".to_owned()) }
    }

    fn folder(&self, folder: &Path, wanted: &Wanted) -> Result<(), Unwanted> {
        let depth = if wanted.depth == Depth::Tree { usize::MAX } else { 1 };
        let walk = WalkDir::new(folder).max_depth(depth).follow_links(true);
        let mut any = false;
        for entry in walk.into_iter().filter_entry(|entry| !is_hidden(entry)) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    any = true;
                    self.file(entry.path(), wanted)?;
                }
                Ok(_) => {}
                Err(error) => {
                    any = true;
                    self.none(error.path().unwrap_or(folder), problem(&error))?;
                }
            }
        }
        match (any, wanted.depth) {
            (true, _) => Ok(()),
            (false, Depth::Tree) => self.none(folder, "there is no file in it".to_owned()),
            (false, Depth::Folder) => {
                self.none(folder, "there is no file in it; -r looks into its folders too".to_owned())
            }
        }
    }

    fn file(&self, file: &Path, wanted: &Wanted) -> Result<(), Unwanted> {
        let origin = |line| Origin { file: file.to_owned(), line };
        let Some(field) = &wanted.field else {
            return self.send(origin(None), Ok(Text::File(file.to_owned())));
        };
        let opened: std::io::Result<Box<dyn Read>> = match file == Path::new("-") {
            true => Ok(Box::new(std::io::stdin())),
            false => File::open(file).map(|file| Box::new(file) as Box<dyn Read>),
        };
        let lines = match opened {
            Ok(lines) => lines,
            Err(error) => return self.none(file, error.to_string()),
        };
        for (number, line) in jsonl::Lines::new(BufReader::new(lines)) {
            let text = match line {
                Ok(Line::Whole(line)) => jsonl::text(&line, field),
                Ok(Line::TooLong) => Err(jsonl::too_long()),
                Err(error) => return self.send(origin(Some(number)), Err(error.to_string())),
            };
            let text = text.map(|text| Text::Line { room: self.room(text.len()), text });
            self.send(origin(Some(number)), text)?;
        }
        Ok(())
    }

    /// Waits until there is room in memory for so many bytes.
    fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(ROOM_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        self.runtime.block_on(room).expect("it is never closed")
    }

    fn none(&self, file: &Path, why: String) -> Result<(), Unwanted> {
        self.send(Origin { file: file.to_owned(), line: None }, Err(why))
    }

    fn send(&self, origin: Origin, text: Result<Text, String>) -> Result<(), Unwanted> {
        self.found.blocking_send(Input { origin, text }).map_err(|_| Unwanted)
    }
}

/// The argument as a pattern, where it is one and no file has the name.
fn pattern(argument: &Path) -> Option<&str> {
    let typed = argument.to_str().filter(|typed| typed.contains(PATTERN))?;
    argument.symlink_metadata().is_err().then_some(typed)
}

/// Hidden by its name. What was named by the caller is not.
fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.')
}

/// What is wrong, without the path.
fn problem(error: &walkdir::Error) -> String {
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
        let mut inputs = find(Wanted { arguments, depth, field: field.map(str::to_owned) });
        let mut found = Vec::new();
        while let Some(Input { origin, text }) = inputs.recv().await {
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
    async fn folders_and_patterns_stand_for_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for name in ["a.txt", "b.md", ".hidden", "inner/c.txt", "inner/.hidden"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let shallow = found(&[folder.path()], Depth::Folder, None).await;
        assert_eq!(names(&shallow), ["a.txt", "b.md"]);
        let deep = found(&[folder.path()], Depth::Tree, None).await;
        assert_eq!(names(&deep), ["a.txt", "b.md", "c.txt"]);
        let pattern = folder.path().join("**/*.txt");
        assert_eq!(names(&found(&[&pattern], Depth::Folder, None).await), ["a.txt", "c.txt"]);
        let nothing = found(&[&folder.path().join("*.rs")], Depth::Folder, None).await;
        assert_eq!(nothing[0].1.as_deref(), Some("nothing matches"));
        fs::write(folder.path().join("d[1].txt"), "a name that looks like a pattern").unwrap();
        assert!(is_one_text(&folder.path().join("d[1].txt")) && !is_one_text(&pattern));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_that_lead_nowhere_or_back_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a.txt"), "a").unwrap();
        std::os::unix::fs::symlink(folder.path(), inner.join("back")).unwrap();
        std::os::unix::fs::symlink("gone", inner.join("nowhere")).unwrap();
        let found = found(&[folder.path()], Depth::Tree, None).await;
        assert_eq!(names(&found), ["a.txt", "back", "nowhere"]);
        let matched = super::tests::found(&[&folder.path().join("**/*.txt")], Depth::Folder, None).await;
        assert_eq!(names(&matched), ["a.txt"]);
        assert!(found[0].1.is_none());
        assert!(found[1].1.as_ref().unwrap().contains("leads back"), "{found:?}");
        assert!(found[2].1.is_some());
    }

    #[tokio::test]
    async fn each_line_is_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.jsonl");
        fs::write(&file, "{\"body\":\"one\"}\n\n{\"body\":2}\n{\"body\":\"three\"}").unwrap();
        let found = found(&[&file], Depth::Folder, Some("body")).await;
        assert_eq!(names(&found), ["f.jsonl:1", "f.jsonl:3", "f.jsonl:4"]);
        assert!(found[0].1.is_none() && found[1].1.is_some() && found[2].1.is_none());
    }
}
