//! `store`: stores a text or a file.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use c3_client::{DocumentName, Error as ClientError, Expected, Labels, PutName, WriteOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio_util::io::InspectReader;

use super::Output;
use crate::call::{Call, handle};
use crate::error::Error;
use crate::summary::Head;

pub(super) const ABOUT: &str = "Store a long text outside the context, so that you can drop it. It comes back exactly, \
    byte for byte. Returns a handle: keep it, or give a name. Storing the same text again changes nothing.";

/// Text or file, and options.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    /// The text
    text: Option<String>,
    /// File to store instead of a text; costs you no tokens
    path: Option<String>,
    /// Name to recall it by, such as `plan` or `team/plan`; moves from the document that had it
    name: Option<String>,
    /// Labels to find it by
    labels: Option<BTreeMap<String, String>>,
    /// Text tokens per latent; leave out for the default
    ratio: Option<u32>,
}

/// The stored document.
#[derive(Serialize, JsonSchema)]
pub(super) struct Stored {
    handle: String,
    id: String,
    size: u64,
    lines: u64,
    tokens: u64,
    summary: String,
}

pub(super) async fn store(call: &Call<'_>, args: Args) -> Result<Output, Error> {
    let mut labels = args.labels.unwrap_or_default();
    let (head, size, stored);
    match (args.text, args.path) {
        (Some(text), None) => {
            let text = Bytes::from(text);
            let options = options(args.name.as_deref(), labels, args.ratio)?;
            size = text.len() as u64;
            let open = || std::future::ready(Ok(Cursor::new(text.clone())));
            (stored, head) = put(call, open, size, &options).await?;
        }
        (None, Some(path)) => {
            // Fails early, and with a clear message.
            size = call.files.read(&path)?.metadata().map_or(0, |metadata| metadata.len());
            labels.entry(c3_client::PATH_LABEL.to_owned()).or_insert_with(|| path.clone());
            let options = options(args.name.as_deref(), labels, args.ratio)?;
            let open = || {
                let file = call.files.read(&path).map_err(std::io::Error::other);
                std::future::ready(file.map(tokio::fs::File::from_std))
            };
            (stored, head) = put(call, open, size, &options).await?;
        }
        (None, None) => return Err(Error::argument("give `text`")),
        (Some(_), Some(_)) => return Err(Error::argument("give either `text` or `path`")),
    }
    let document = &stored.document;
    Output::new(&Stored {
        handle: handle(document),
        id: document.id.to_string(),
        size: document.bytes,
        lines: head.lines(),
        tokens: document.tokens,
        summary: head.summary(document),
    })
}

fn options(name: Option<&str>, labels: BTreeMap<String, String>, ratio: Option<u32>) -> Result<WriteOptions, Error> {
    let name = name.map(|name| name.parse::<DocumentName>()?.checked_as_new()).transpose()?;
    let name = name.map(|name| PutName { name, expected: Expected::Any });
    Ok(WriteOptions { name, ratio, labels: Labels::new(labels)?, ..WriteOptions::default() })
}

/// Stores the text that `open` returns. Also returns the start of the text.
async fn put<T, O>(
    call: &Call<'_>,
    open: impl Fn() -> O,
    size: u64,
    options: &WriteOptions,
) -> Result<(c3_client::Stored, Head), ClientError>
where
    T: AsyncRead + Send + 'static,
    O: Future<Output = std::io::Result<T>>,
{
    let head = Arc::new(Mutex::new(Head::default()));
    let opened = || {
        let (head, opening) = (Arc::clone(&head), open());
        async move {
            *head.lock().unwrap_or_else(PoisonError::into_inner) = Head::default();
            let observe = move |bytes: &[u8]| head.lock().unwrap_or_else(PoisonError::into_inner).observe(bytes);
            Ok(InspectReader::new(opening.await?, observe))
        }
    };
    let stored = call
        .with_progress(Some(size), async |progress| {
            let report = |event: c3_client::Progress| _ = progress.send_replace(event.bytes_done);
            call.client.put_with_retries(opened, options, report).await
        })
        .await?;
    let head = std::mem::take(&mut *head.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((stored, head))
}
