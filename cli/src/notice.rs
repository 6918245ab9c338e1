//! Notice on standard error while a command waits for nodes.

use std::time::Duration;

use c3_client::{Client, ClientOptions, Stage, UnreadyStages};
use tokio::time::sleep;

use crate::output::notice;

/// Interval between two polls of the nodes' states. A command that waits for a node prints the notice within two
/// intervals.
const POLL: Duration = Duration::from_secs(1);

/// Polls the states of the nodes in the background until the program ends. Prints a notice when a stage in `needed`,
/// compressor or decoder, has no ready node, and again whenever the set of these stages changes.
pub(crate) fn watch(gateway: &str, options: ClientOptions, needed: &'static [Stage]) {
    let gateway = gateway.to_owned();
    tokio::spawn(async move {
        let (mut connected, mut printed) = (None, Vec::new());
        loop {
            sleep(POLL).await;
            // Polls over a separate connection, because a text that the gateway does not read yet blocks the command's
            // own connection. If the gateway does not answer, the command itself reports this.
            let client = match connected.take() {
                Some(client) => client,
                None => match Client::connect_with(&gateway, &options).await {
                    Ok(client) => client,
                    Err(_) => continue,
                },
            };
            let unready = client.unready_stages().await;
            connected = Some(client);
            let Ok(UnreadyStages { mut stages, node_wait }) = unready else { continue };
            stages.retain(|stage| needed.contains(stage));
            if !stages.is_empty() && stages != printed {
                notice(format_args!("{}; waiting up to {} s", self::unready(&stages), node_wait.as_secs_f64()));
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
