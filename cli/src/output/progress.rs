//! Progress bar on standard error. Nothing is drawn if standard error is not a terminal.

use std::time::Duration;

use c3_server::printable::Printable;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Interval at which the bar is redrawn even if nothing changes, so that it does not look frozen.
const TICK: Duration = Duration::from_millis(120);

/// Progress bar that is cleared when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Starts a bar for `bytes` bytes in total; `None`, an unknown total, starts a spinner.
    pub(crate) fn start(label: &str, bytes: Option<u64>) -> Self {
        let (bar, template) = match bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{prefix:9} [{bar:40}] {bytes}/{total_bytes} {msg}"),
            None => (ProgressBar::no_length(), "{prefix:9} {spinner} {bytes}"),
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
        let bar = bar.with_style(style.progress_chars("=> ")).with_prefix(label.to_owned());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Sets the number of bytes done.
    pub(crate) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Adds `bytes` to the number of bytes done, and estimates the time left.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
        self.0.set_message(time_left(self.0.eta()));
    }

    /// Shows the progress of an upload, with the gateway's estimate of the time left.
    pub(crate) fn update(&self, progress: &c3_client::Progress) {
        self.0.set_position(progress.bytes_done);
        self.0.set_message(progress.time_left.map_or_else(String::new, time_left));
    }

    /// Prints a line above the bar. Prints nothing if standard error is not a terminal.
    pub(crate) fn println(&self, line: &str) {
        self.0.println(Printable(line).to_string());
    }

    /// Hides the bar while `write` runs, so that `write` can print.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn time_left(time: Duration) -> String {
    format!("{} left", HumanDuration(time))
}
