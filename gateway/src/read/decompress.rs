//! One-shot Decompress: returns the text of the caller's latents, or the answer to a prompt about them. Stores nothing.

use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_routing::GenerateJob;
use c3_types::{DecompressOptions, Description, Prompt, Window};
use futures::{Stream, StreamExt, pin_mut};

use super::window::{self, EncodedWindow};
use crate::error::Error;
use crate::metrics::Direction;
use crate::spawn::spawn;
use crate::state::{Gateway, SharedGateway};

/// Streams, for each window in order, its text or the answer to the prompt about it.
pub(crate) fn decompress<S>(
    gateway: SharedGateway,
    options: DecompressOptions,
    windows: S,
) -> impl Stream<Item = Result<Bytes, Error>> + Send
where
    S: Stream<Item = Result<Window, Error>> + Send,
{
    try_stream! {
        let options = Arc::new(options);
        let texts = windows
            .enumerate()
            .map(|(number, window)| {
                let (gateway, options) = (Arc::clone(&gateway), Arc::clone(&options));
                spawn(async move { decode(&gateway, &options, number, window?).await })
            })
            .buffered(gateway.look_ahead());
        pin_mut!(texts);
        while let Some(text) = texts.next().await {
            yield text?;
        }
    }
}

async fn decode(gateway: &Gateway, options: &DecompressOptions, number: usize, window: Window) -> Result<Bytes, Error> {
    let compressor = window.group.compressor();
    let served = gateway.router.cascade_of_latents(options.cascade.as_deref(), compressor).await?;
    match &options.prompt {
        Some(prompt) => answer(gateway, &served, prompt, &window).await,
        None => {
            let encoded = EncodedWindow {
                decoder: served.cascade.decoder,
                group: &window.group,
                corrections: window.corrections.as_ref(),
                arithmetic: None,
                bytes: window.bytes.end - window.bytes.start,
                hash: window.hash,
            };
            let text = window::decode(&gateway.router, encoded, &format!("window {number}")).await?;
            gateway.count_text(Direction::Out, text.len() as u64, u64::from(window.group.tokens()));
            Ok(text)
        }
    }
}

async fn answer(gateway: &Gateway, served: &Description, prompt: &Prompt, window: &Window) -> Result<Bytes, Error> {
    if !served.takes_prompt {
        let problem = format!("cascade `{}` does not support prompts: choose another cascade", served.cascade.name);
        return Err(Error::Unsupported(format!("prompt: {problem}")));
    }
    let job = GenerateJob {
        decoder: served.cascade.decoder,
        group: &window.group,
        prompt: &prompt.text,
        tokens_max: prompt.tokens_max,
    };
    let answer = gateway.router.generate(job).await?.value;
    gateway.count_text(Direction::Out, answer.len() as u64, u64::from(prompt.tokens_max));
    Ok(answer)
}
