//! Uploads texts to the gateway, shows the progress, and tells the user how to resume an interrupted upload.

use std::time::{Duration, Instant};

use c3_client::{Client, Stored, UploadName, WriteOptions};

use crate::error::CliError;
use crate::input::TextInput;
use crate::output::Progress;

/// Stores a text and shows the progress. Returns the result and the elapsed time. An upload has a name if `options` set
/// one, or if the gateway chose one because the text is long. If such an upload fails, the error says how to resume it.
pub(crate) async fn store(
    client: &Client,
    input: TextInput,
    options: &WriteOptions,
    progress: Progress,
) -> Result<(Stored, Duration), CliError> {
    let started = Instant::now();
    let mut name = options.upload.clone();
    let on_progress = |done: c3_client::Progress| {
        progress.update(&done);
        if name.is_none()
            && let Some(upload) = done.upload
        {
            progress.println(&format!("if the upload is interrupted, {}", how_to_resume(&upload)));
            name = Some(upload);
        }
    };
    match send(client, input, options, on_progress).await {
        Ok(stored) => Ok((stored, started.elapsed())),
        Err(error) => Err(match (error, name) {
            (CliError::Failed(message), Some(name)) => CliError::Failed(format!("{message}; {}", how_to_resume(&name))),
            (error, _) => error,
        }),
    }
}

/// Stores a text. If `input.reopen` is set, retries as [`Client::put_with_retries`] does. An error about the text names
/// its file.
pub(crate) async fn send(
    client: &Client,
    input: TextInput,
    options: &WriteOptions,
    on_progress: impl FnMut(c3_client::Progress),
) -> Result<Stored, CliError> {
    let stored = async {
        match input.reopen {
            Some(text) => client.put_with_retries(|| text.clone().open(), options, on_progress).await,
            None => client.put(input.reader, options).await?.finish_with(on_progress).await,
        }
    };
    stored.await.map_err(|error| CliError::from(error).in_file(&input.name))
}

fn how_to_resume(name: &UploadName) -> String {
    format!("repeat the command with --upload {name} to resume")
}
