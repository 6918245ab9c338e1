//! Checkpoints and texts that tests and suites use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Without `--full`, texts are shorter by this factor.
const SHORT_SHARE: usize = 10;

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    parent.expect("the crate lies in the repository").to_path_buf()
}

/// Returns the folder of the default model.
pub fn default_model() -> PathBuf {
    root().join("models/c3-mini")
}

/// Returns the folder of the golden vectors of the published layout. Its subfolder `checkpoint` has the checkpoint.
pub fn golden() -> PathBuf {
    root().join("tests/fixtures/golden")
}

/// Reads a text from `tests/fixtures/texts`.
pub fn text(name: &str) -> Result<String> {
    let path = root().join("tests/fixtures/texts").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Inputs of the suites from outside the repository: books and golden vectors in the folder `shared` beside the
/// repository.
#[derive(Clone, Copy, Debug)]
pub struct Corpus {
    /// True to use whole texts and full counts. If false, most texts and counts are reduced, many to a tenth.
    pub full: bool,
}

impl Corpus {
    /// Returns the path of a file or folder in `shared`. Fails if it is missing.
    pub fn path(self, name: &str) -> Result<PathBuf> {
        let path = root().join("../shared").join(name);
        ensure!(path.exists(), "{} is missing: the suites need it", path.display());
        Ok(path)
    }

    /// Reads a whole book.
    pub fn whole_book(self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.path(&format!("texts/{name}.txt"))?)?)
    }

    /// Reads a book: all of it if [`Corpus::full`] is set, otherwise about a tenth from its middle.
    pub fn book(self, name: &str) -> Result<String> {
        let book = self.whole_book(name)?;
        Ok(if self.full { book } else { middle(&book, book.len() / SHORT_SHARE).to_owned() })
    }

    /// Reads all books and concatenates them.
    pub fn books(self) -> Result<String> {
        let names = ["little-colonels-hero", "dickens-and-music", "critical-and-historical-essays"];
        names.iter().map(|name| self.whole_book(name)).collect()
    }

    /// Returns about `bytes` bytes of prose if [`Corpus::full`] is set, otherwise a tenth of that.
    pub fn long_text(self, bytes: usize) -> Result<String> {
        let books = self.books()?;
        let bytes = if self.full { bytes } else { bytes / SHORT_SHARE };
        // Appends the books with their lines in reverse order. In a plain repetition, the gateway would find equal
        // shards (parts of a text) and reuse their results.
        let again: String = books.lines().rev().flat_map(|line| [line, "\n"]).collect();
        let text = books + &again;
        ensure!(text.len() >= bytes, "the books have fewer than {bytes} bytes");
        Ok(text[..text.floor_char_boundary(bytes)].to_owned())
    }

    /// Copies the published-layout checkpoint and its tokenizer to a temporary folder that `--model` accepts.
    pub fn golden_model(self) -> Result<TempDir> {
        let folder = TempDir::with_prefix("c3-golden-")?;
        let from = self.path("golden")?;
        fs::create_dir(folder.path().join("llm1"))?;
        let (checkpoint, to) = (from.join("checkpoint"), folder.path());
        let files = ["config.json", "generation_config.json", "model.safetensors"];
        for file in files {
            fs::copy(checkpoint.join(file), to.join(file))?;
            fs::copy(checkpoint.join("llm1").join(file), to.join("llm1").join(file))?;
        }
        fs::copy(from.join("tokenizer.json"), to.join("tokenizer.json"))?;
        Ok(folder)
    }
}

/// Returns at most `bytes` bytes from the middle of a text, starting at the next paragraph if there is one.
pub fn middle(text: &str, bytes: usize) -> &str {
    let from = text.floor_char_boundary((text.len() - bytes.min(text.len())) / 2);
    let from = text[from..].find("\n\n").map_or(from, |paragraph| from + paragraph + 2);
    &text[from..text.floor_char_boundary((from + bytes).min(text.len()))]
}

/// Returns about `bytes` bytes of `text`, which must be longer. The offset is `number * bytes`, modulo
/// `text.len() - bytes`.
pub fn stretch(text: &str, number: usize, bytes: usize) -> &str {
    let from = text.floor_char_boundary(number * bytes % (text.len() - bytes));
    &text[from..text.floor_char_boundary(from + bytes)]
}

/// Repeats `text` until the result has about `bytes` bytes. Each line begins with the number of its repetition, so that
/// the gateway finds no equal shards (parts of a text) whose results it would reuse.
pub fn repeated(text: &str, bytes: usize) -> String {
    let lines = (0..).flat_map(|number| text.split_inclusive('\n').map(move |line| (number, line)));
    let mut repeated = String::with_capacity(bytes);
    for (number, line) in lines {
        if repeated.len() >= bytes {
            break;
        }
        // Blank lines stay blank, because they end paragraphs.
        repeated += &if line == "\n" { line.to_owned() } else { format!("{number} {line}") };
    }
    repeated
}

/// Cuts a text into `count` parts of about equal length.
pub fn parts(text: &str, count: usize) -> Vec<&str> {
    let cut = |number: usize| text.floor_char_boundary(number * text.len() / count);
    (0..count).map(|number| &text[cut(number)..cut(number + 1)]).collect()
}

/// Returns a line of `bytes` hexadecimal digits that does not repeat itself.
pub fn line_without_space(bytes: usize) -> String {
    let hashes = (0u64..).map(|i| blake3::hash(&i.to_le_bytes()).to_hex().to_string());
    let mut line: String = hashes.take(bytes.div_ceil(64)).collect();
    line.truncate(bytes);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_begins_at_a_paragraph() {
        assert_eq!(middle("aaaa\n\nbbbb\n\ncccc", 8), "bbbb\n\ncc");
        assert_eq!(middle("ünü", 100), "ünü");
    }

    #[test]
    fn repetitions_differ_in_every_line() {
        assert_eq!(repeated("a\n\nb\n", 14), "0 a\n\n0 b\n1 a\n\n");
        assert_eq!(parts("aünb", 2), ["a", "ünb"]);
    }

    #[test]
    fn lines_have_the_requested_length() {
        assert_eq!(line_without_space(130).len(), 130);
    }
}
