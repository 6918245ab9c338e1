//! Progress bar on standard error. Nothing is drawn if standard error is not a terminal.

use std::fmt::Write;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use c3_client::WriteOptions;
use c3_server::printable::Printable;
use indicatif::{
    HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

/// Interval at which the bar is redrawn even if nothing changes, so that it does not look frozen.
const TICK: Duration = Duration::from_millis(120);
/// Time for which estimates of the total time must agree before the time left is shown.
const STABLE_TIME: Duration = Duration::from_secs(5);
/// Two estimates of the total time agree if they differ by at most this fraction.
const STABLE_DIFFERENCE: f64 = 0.2;

/// All bars of the process.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Progress bar that is cleared when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    estimate: Mutex<Estimate>,
}

impl Progress {
    /// Starts a bar for `bytes` bytes in total, or a spinner if the total is unknown (`None`).
    pub(crate) fn start(label: &str, bytes: Option<u64>) -> Self {
        let bar = BARS.add(ProgressBar::no_length().with_style(style("{spinner}")).with_prefix(label.to_owned()));
        bar.enable_steady_tick(TICK);
        let progress = Self { bar, estimate: Mutex::default() };
        if let Some(bytes) = bytes {
            progress.set_total(bytes);
        }
        progress
    }

    /// Returns a bar that is never drawn.
    pub(crate) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), estimate: Mutex::default() }
    }

    /// Returns true if the bar is not drawn.
    pub(crate) fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Sets the number of bytes in total.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_style(style("{spinner} [{bar:40}]"));
    }

    /// Sets the number of bytes done, and estimates the time left from the mean rate.
    pub(crate) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
        let left = self.bar.length().and_then(|total| total.checked_sub(bytes)).filter(|_| bytes > 0);
        self.show_time_left(left.map(|left| self.bar.elapsed().mul_f64(left as f64 / bytes as f64)));
    }

    /// Adds `bytes` to the number of bytes done.
    pub(crate) fn add(&self, bytes: u64) {
        self.set(self.bar.position() + bytes);
    }

    /// Adds `bytes` to the number of bytes done. Clears the bar once all are done.
    pub(crate) fn add_and_clear(&self, bytes: u64) {
        self.set_and_clear(self.bar.position() + bytes);
    }

    /// Sets the number of bytes done. Clears the bar once all are done.
    fn set_and_clear(&self, bytes: u64) {
        self.set(bytes);
        if self.bar.length().is_some_and(|total| bytes >= total) {
            self.bar.finish_and_clear();
        }
    }

    /// Replaces the text behind the times.
    pub(crate) fn say(&self, text: &str) {
        self.bar.set_message(format!(", {}", Printable(text)));
    }

    /// Prints a line above the bar. Prints nothing if standard error is not a terminal.
    pub(crate) fn println(&self, line: &str) {
        self.bar.println(Printable(line).to_string());
    }

    /// Shows a number of documents in place of bytes.
    pub(crate) fn set_documents(&self, done: u64, total: u64) {
        self.bar.set_style(progress_style("{prefix:9} {spinner} [{bar:40}] {pos}/{len} documents, {elapsed}{msg}"));
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn show_time_left(&self, left: Option<Duration>) {
        let mut estimate = self.estimate.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.filter(|left| estimate.is_stable(self.bar.elapsed(), *left));
        self.bar.set_message(left.map_or_else(String::new, |left| format!(", {} left", HumanDuration(left))));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        BARS.remove(&self.bar);
    }
}

/// Bars of a write, one for each stage. They are cleared when dropped.
pub(crate) struct StageBars {
    compress: Progress,
    /// The last stage: verification, or storage if verification is skipped.
    last: Progress,
}

impl StageBars {
    /// Starts the bars of a write with these options. `bytes` is the size of the document, or `None` if it is unknown.
    pub(crate) fn start(options: &WriteOptions, bytes: Option<u64>) -> Self {
        let last = if options.skip_verification { "store" } else { "verify" };
        Self { compress: Progress::start("compress", bytes), last: Progress::start(last, bytes) }
    }

    /// Shows the progress of a write, with the gateway's estimate of the time left.
    pub(crate) fn update(&self, progress: &c3_client::Progress) {
        self.compress.set_and_clear(progress.bytes_compressed);
        self.last.bar.set_position(progress.bytes_done);
        self.last.show_time_left(progress.time_left);
    }

    /// Prints a line above the bars. Prints nothing if standard error is not a terminal.
    pub(crate) fn println(&self, line: &str) {
        self.last.println(line);
    }
}

/// Hides all bars while `write` runs, so that `write` can print.
pub(super) fn suspend_bars<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// Hides all bars for good.
pub(super) fn hide_bars() {
    BARS.set_draw_target(ProgressDrawTarget::hidden());
}

/// Returns a style that shows the label, `activity`, the bytes and the times.
fn style(activity: &str) -> ProgressStyle {
    let style = progress_style(&format!("{{prefix:9}} {activity} {{amount}}{{rate}}{{elapsed}}{{msg}}"));
    let style = style.with_key("amount", |state: &ProgressState, out: &mut dyn Write| {
        // While nothing is done, shows only the total. The progress of a small text jumps from nothing to the end, so a
        // user would only ever see `0 B` done.
        let _ = match (state.pos(), state.len()) {
            (0, None) => Ok(()),
            (0, Some(bytes)) | (bytes, None) => write!(out, "{}, ", HumanBytes(bytes)),
            (bytes, Some(total)) => write!(out, "{}/{}, ", HumanBytes(bytes), HumanBytes(total)),
        };
    });
    style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
        let seconds = state.elapsed().as_secs_f64();
        if state.pos() > 0 && seconds > 0.0 {
            let _ = write!(out, "{}/s, ", HumanBytes((state.pos() as f64 / seconds) as u64));
        }
    })
}

fn progress_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well formed").progress_chars("=> ")
}

/// Decides when estimates of the time left are stable enough to be shown.
#[derive(Debug, Default)]
struct Estimate {
    /// Start of the current series of agreeing estimates, and the first estimate of the total time in the series.
    first: Option<(Duration, Duration)>,
}

impl Estimate {
    /// Returns true if the estimates, including this one made after `elapsed`, have agreed for [`STABLE_TIME`].
    fn is_stable(&mut self, elapsed: Duration, left: Duration) -> bool {
        let total = elapsed + left;
        let agrees = |first: Duration| first.abs_diff(total) <= first.mul_f64(STABLE_DIFFERENCE);
        match self.first {
            Some((since, first)) if agrees(first) => elapsed.saturating_sub(since) >= STABLE_TIME,
            _ => {
                self.first = Some((elapsed, total));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swinging_estimate_is_not_shown() {
        let mut estimate = Estimate::default();
        let mut shown = |elapsed, left| estimate.is_stable(Duration::from_secs(elapsed), Duration::from_secs(left));
        let swinging = [(1, 2640), (3, 1500), (6, 900), (9, 600), (12, 420)];
        assert!(!swinging.into_iter().any(|(elapsed, left)| shown(elapsed, left)));
        assert!(!shown(15, 400) && shown(17, 390) && shown(60, 350));
        assert!(!shown(61, 1000));
    }
}
