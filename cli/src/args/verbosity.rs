//! `--quiet` and `--verbose`.

use clap::ArgAction;

/// Amount of output besides results and errors.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Verbosity {
    /// Print no progress and no notices; a server logs only warnings
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print logs; repeat it for debug logs. --log overrides it
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

/// Role of the process, which decides on its default log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogRole {
    Client,
    Server,
}

impl Verbosity {
    /// Returns the log filter of a process without `--log`.
    pub(crate) fn log_filter(self, role: LogRole) -> &'static str {
        const LEVELS: [&str; 5] = ["off", "warn", "info", "debug", "trace"];
        let base = match (role, self.quiet) {
            (LogRole::Client, _) => 0,
            (LogRole::Server, true) => 1,
            (LogRole::Server, false) => 2,
        };
        // A client that asks for logs wants at least the informational ones.
        let added = usize::from(self.verbose) + usize::from(role == LogRole::Client && self.verbose > 0);
        LEVELS[(base + added).min(LEVELS.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_silent_and_servers_inform_by_default() {
        let filter = |quiet, verbose, role| Verbosity { quiet, verbose }.log_filter(role);
        assert_eq!(
            [0, 1, 2, 3, 9].map(|count| filter(false, count, LogRole::Client)),
            ["off", "info", "debug", "trace", "trace"]
        );
        assert_eq!([0, 1, 2].map(|count| filter(false, count, LogRole::Server)), ["info", "debug", "trace"]);
        assert_eq!(filter(true, 0, LogRole::Server), "warn");
    }
}
