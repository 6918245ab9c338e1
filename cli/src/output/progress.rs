//! A bar on standard error while long work runs; nothing where standard error is no terminal.

use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How often a bar without news moves.
const TICK: Duration = Duration::from_millis(120);

/// A bar for `bytes` bytes, or a spinner where nobody knows how many. It vanishes when dropped.
pub(crate) fn bar(what: &str, bytes: Option<u64>) -> Progress {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{prefix:9} [{bar:40}] {bytes}/{total_bytes} {msg}"),
        None => (ProgressBar::no_length(), "{prefix:9} {spinner} {bytes}"),
    };
    let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
    let bar = bar.with_style(style.progress_chars("=> ")).with_prefix(what.to_owned());
    bar.enable_steady_tick(TICK);
    Progress(bar)
}

/// A bar that vanishes when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// So many bytes are done.
    pub(crate) fn done(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// So many more bytes are done.
    pub(crate) fn more(&self, bytes: u64) {
        self.0.inc(bytes);
        self.0.set_message(left(self.0.eta()));
    }

    /// What a put tells of itself.
    pub(crate) fn told(&self, progress: &c3_client::Progress) {
        self.0.set_position(progress.bytes_done);
        self.0.set_message(progress.left.map_or_else(String::new, left));
    }

    /// A line above the bar.
    pub(crate) fn line(&self, line: &str) {
        self.0.println(line);
    }

    /// Writes something without the bar in its way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn left(time: Duration) -> String {
    format!("{} left", HumanDuration(time))
}
