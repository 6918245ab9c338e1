//! The gateway that a command talks to.

use c3_client::Client;
use c3_proto::Description;

use crate::failure::Failure;
use crate::write::WriteArgs;

/// Connects, and checks what the gateway's models can tell of `write` before a text is sent.
pub(crate) async fn connect_to_write(gateway: &str, write: &WriteArgs) -> Result<Client, Failure> {
    let client = Client::connect(gateway).await?;
    check(&client, write).await?;
    Ok(client)
}

/// Refuses a ratio that the model does not take. Where no node answers, the gateway is left to say so.
pub(crate) async fn check(client: &Client, write: &WriteArgs) -> Result<(), Failure> {
    let ratios = write.asked();
    if ratios.is_empty() {
        return Ok(());
    }
    let nodes = client.nodes().await?;
    let described = nodes.into_iter().filter_map(|node| Description::from_wire(node.description?).ok());
    let mut ranges = described.filter(|node| match &write.cascade {
        Some(cascade) => node.cascade.name == *cascade,
        None => true,
    });
    match ranges.next() {
        // Several models and none named: the gateway asks which.
        Some(node) if ranges.all(|other| other.cascade.name == node.cascade.name) => {
            let wrong = ratios.into_iter().find_map(|ratio| node.ratios.check(ratio).err());
            wrong.map_or(Ok(()), |wrong| Err(Failure::CallWrong(wrong.to_string())))
        }
        _ => Ok(()),
    }
}
