//! Puts that last: taken up where they broke off, and built upon a document that is stored.

use c3_client::{Base, Client, Stored, UploadName, WriteOptions};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use crate::args::{RemoteArgs, id};
use crate::failure::Failure;
use crate::output::print;
use crate::progress::Progress;
use crate::report::{age_to, json};
use crate::source::Source;

/// Arguments of `put` for long texts, and for edited ones.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct UploadArgs {
    /// Name of this put: the same text put again under it goes on where it broke off, with the same options [default: the
    /// gateway names what lasts long]
    #[arg(long, value_name = "NAME")]
    pub(crate) upload: Option<UploadName>,
    /// A stored document that the text is an edited version of (ID or @NAME): what is not given is as that document
    /// has it
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(crate) base: Option<String>,
}

impl UploadArgs {
    /// The base. What a name stands for is settled here: it may stand for another document by the next try.
    pub(crate) async fn base(&self, client: &Client) -> Result<Option<Base>, Failure> {
        let Some(base) = &self.base else { return Ok(None) };
        Ok(Some(Base::Edited(client.stat(base).await?.id.into())))
    }
}

/// Stores a text, under a progress bar; one that can be read again is sent again where a gateway is gone or full. Where
/// the put breaks off, the failure says how to go on.
pub(crate) async fn store(
    client: &Client,
    source: Source,
    options: &WriteOptions,
    progress: &Progress,
) -> Result<Stored, Failure> {
    let mut name = options.upload.clone();
    let told = |done: c3_client::Progress| {
        progress.told(&done);
        if name.is_none()
            && let Some(upload) = done.upload
        {
            progress.line(&go_on(&upload));
            name = Some(upload);
        }
    };
    send(client, source, options, told).await.map_err(|error| match (Failure::from(error), name) {
        (Failure::WorkFailed(message), Some(name)) => {
            Failure::WorkFailed(format!("{message}; {}", go_on(&name)))
        }
        (failure, _) => failure,
    })
}

/// Stores a text and says how far it is.
pub(crate) async fn send(
    client: &Client,
    source: Source,
    options: &WriteOptions,
    told: impl FnMut(c3_client::Progress),
) -> Result<Stored, c3_client::Error> {
    match source.lasting {
        Some(text) => client.put_repeatable(|| text.clone().open(), options, told).await,
        None => client.put(source.text, options).await?.finish_with(told).await,
    }
}

fn go_on(name: &UploadName) -> String {
    format!("the same command with --upload {name} goes on where it breaks off")
}

/// A put that can be taken up.
#[derive(Serialize)]
struct Line {
    name: String,
    bytes_done: u64,
    tokens_done: u64,
    expires_unix_ms: u64,
}

/// Lists the puts that did not end, and can be taken up.
pub(crate) async fn list(args: RemoteArgs) -> Result<(), Failure> {
    let uploads = Client::connect(&args.gateway).await?.uploads().await?;
    let lines = Vec::from_iter(uploads.into_iter().map(|upload| Line {
        name: upload.name,
        bytes_done: upload.bytes_done,
        tokens_done: upload.tokens_done,
        expires_unix_ms: upload.expires_unix_ms,
    }));
    if args.json {
        return print(&json(&serde_json::json!({ "uploads": lines })));
    }
    for Line { name, bytes_done, tokens_done, expires_unix_ms } in &lines {
        let (bytes, tokens) = (HumanBytes(*bytes_done), HumanCount(*tokens_done));
        print(&format!("{name}  {bytes} done, {tokens} tokens  {}", age_to(*expires_unix_ms)))?;
    }
    print(&format!("uploads: {}", lines.len()))
}
