//! Human-readable numbers, times and ids.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{HumanCount, HumanDuration};

/// Digits of an id in a table: enough to be unique in practice, few enough to read.
const SHORT_ID_DIGITS: usize = 12;

/// Returns the first digits of an id.
pub(crate) fn short_id(id: &str) -> &str {
    &id[..id.len().min(SHORT_ID_DIGITS)]
}

/// Formats a count with its noun: `1 document` or `1,200 documents`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

/// Formats a fraction as a percentage. Rounds down to three decimals, so that only 1 is shown as 100 %.
pub(crate) fn percent(fraction: f64) -> String {
    if fraction >= 1.0 { "100 %".to_owned() } else { format!("{:.3} %", (fraction * 1e5).floor() / 1e3) }
}

/// Formats text tokens per latent, such as `20x`. The ratio 0 means that the document's shards (parts of its text) have
/// different ratios, and is shown as `mixed`.
pub(crate) fn ratio(ratio: u32) -> String {
    if ratio == 0 { "mixed".to_owned() } else { format!("{ratio}x") }
}

/// Formats the time that has passed since `unix_ms`, in milliseconds since 1970: `2 hours ago` or `in the future`.
pub(crate) fn time_since(unix_ms: u64) -> String {
    match moment(unix_ms).elapsed() {
        Ok(age) => format!("{} ago", HumanDuration(age)),
        Err(_) => "in the future".to_owned(),
    }
}

/// Formats the time that is left until `unix_ms`, in milliseconds since 1970: `expires in 2 hours` or `expired`.
pub(crate) fn time_until(unix_ms: u64) -> String {
    match moment(unix_ms).duration_since(SystemTime::now()) {
        Ok(left) => format!("expires in {}", HumanDuration(left)),
        Err(_) => "expired".to_owned(),
    }
}

fn moment(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_is_shown_as_100_percent() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.999_999_9), "99.999 %");
        assert_eq!(percent(0.5), "50.000 %");
    }

    #[test]
    fn a_noun_agrees_with_its_count() {
        assert_eq!([0, 1, 1200].map(|number| count(number, "byte")), ["0 bytes", "1 byte", "1,200 bytes"]);
    }

    #[test]
    fn ratio_zero_is_mixed() {
        assert_eq!((ratio(0), ratio(20)), ("mixed".to_owned(), "20x".to_owned()));
    }
}
