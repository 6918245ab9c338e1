//! Uploads texts to the gateway, shows the progress, and tells the user how to resume an interrupted upload.

use std::sync::Arc;
use std::time::{Duration, Instant};

use c3_client::{Client, Stored, UploadName, WriteOptions};
use tokio_util::io::InspectReader;

use crate::error::CliError;
use crate::input::{TextInput, TextReader};
use crate::kept;
use crate::output::{Progress, StageBars};

/// Label of the progress bar for the bytes that were sent. The gateway takes them as fast as it stores them.
const SEND: &str = "send";

/// Stores a text and shows the progress. Returns the result and the elapsed time. Notes what an interruption keeps,
/// unless the command has set a note. An upload has a name if `options` set one, or if the gateway chose one because
/// the text is long. If such an upload fails, the error says how to resume it.
pub(crate) async fn store(
    client: &Client,
    input: TextInput,
    options: &WriteOptions,
    progress: StageBars,
) -> Result<(Stored, Duration), CliError> {
    let started = Instant::now();
    let mut name = options.upload.clone();
    // A command such as `roundtrip` has a note of its own, since its uploads cannot be resumed.
    let is_resumable = kept::note().is_empty();
    let note = |name: &UploadName| kept::set(format!("the parts that are done are kept; {}", how_to_resume(name)));
    match &name {
        _ if !is_resumable => {}
        Some(name) => note(name),
        None => kept::set("no document was stored; repeat the command, which reuses the parts that are done"),
    }
    let sent = Progress::start(SEND, input.bytes);
    let on_progress = |done: c3_client::Progress| {
        progress.update(&done);
        if is_resumable
            && name.is_none()
            && let Some(upload) = done.upload
        {
            progress.println(&format!("if the upload is interrupted, {}", how_to_resume(&upload)));
            note(&upload);
            name = Some(upload);
        }
    };
    match send(client, input, options, Some(sent), on_progress).await {
        Ok(stored) => Ok((stored, started.elapsed())),
        Err(error) => Err(match (error, name) {
            (CliError::Failed(message), Some(name)) => CliError::Failed(format!("{message}; {}", how_to_resume(&name))),
            (error, _) => error,
        }),
    }
}

/// Stores a text, and shows the bytes that were sent in `sent`. If `input.reopen` is set, retries as
/// [`Client::put_with_retries`] does. An error about the text names its file.
pub(crate) async fn send(
    client: &Client,
    input: TextInput,
    options: &WriteOptions,
    sent: Option<Progress>,
    on_progress: impl FnMut(c3_client::Progress),
) -> Result<Stored, CliError> {
    let sent = sent.map(Arc::new);
    let counted = |reader: TextReader| {
        let sent = sent.clone();
        sent.iter().for_each(|sent| sent.set(0));
        InspectReader::new(reader, move |bytes| sent.iter().for_each(|sent| sent.add_and_clear(bytes.len() as u64)))
    };
    let stored = async {
        match input.reopen {
            Some(text) => {
                let open = || {
                    let text = text.clone().open();
                    async { Ok(counted(text.await?)) }
                };
                client.put_with_retries(open, options, on_progress).await
            }
            None => client.put(counted(input.reader), options).await?.finish_with(on_progress).await,
        }
    };
    stored.await.map_err(|error| CliError::from(error).in_file(&input.name))
}

fn how_to_resume(name: &UploadName) -> String {
    format!("repeat the command with --upload {name} to resume")
}
