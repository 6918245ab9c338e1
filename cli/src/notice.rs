//! Notice on standard error while a command waits for nodes.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use c3_client::{Client, Stage, UnreadyStages};
use tokio::time::sleep;

/// Interval at which the nodes are looked at. A command that waits for a node says so within two intervals.
const POLL: Duration = Duration::from_secs(1);
/// Clears the line of a progress bar, which is then drawn again below the notice.
const CLEAR_LINE: &str = "\r\x1b[2K";

/// Watches the stages that a command needs until the program ends. Prints once when nodes are missing, and again when
/// other stages lack nodes.
pub(crate) fn watch(gateway: &str, needed: &'static [Stage]) {
    let gateway = gateway.to_owned();
    tokio::spawn(async move {
        let mut printed = Vec::new();
        loop {
            sleep(POLL).await;
            // On a connection of its own: a text that the gateway does not read yet blocks the command's connection. The
            // command itself reports a gateway that does not answer.
            let Ok(client) = Client::connect(&gateway).await else { continue };
            let Ok(UnreadyStages { mut stages, node_wait }) = client.unready_stages().await else { continue };
            stages.retain(|stage| needed.contains(stage));
            if !stages.is_empty() && stages != printed {
                let clear = if io::stderr().is_terminal() { CLEAR_LINE } else { "" };
                let wait = node_wait.as_secs_f64();
                // The notice is not worth a failure if standard error is closed.
                let _ = writeln!(io::stderr(), "{clear}{}; waiting up to {wait} s", unready(&stages));
            }
            printed = stages;
        }
    });
}

/// Returns, for example, `no compressor and no decoder is ready`.
pub(crate) fn unready(stages: &[Stage]) -> String {
    let names = Vec::from_iter(stages.iter().map(|stage| format!("no {stage}")));
    format!("{} is ready", names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_stages_are_named() {
        assert_eq!(unready(&[Stage::Decoder]), "no decoder is ready");
        assert_eq!(unready(&Stage::ALL), "no compressor and no decoder is ready");
    }
}
