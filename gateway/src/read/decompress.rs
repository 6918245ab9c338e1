//! One-shot Decompress: the text of latents that the caller brings, or an answer to a prompt about them. Nothing is
//! stored.

use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use c3_proto::{Description, Window};
use futures::{Stream, StreamExt, pin_mut};

use super::window::{self, Sealed};
use crate::error::Failure;
use crate::gateway::{Gateway, SharedGateway};
use crate::nodes::calls::GenerateJob;
use crate::task;

/// What is asked about the windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecompressOptions {
    /// Name of the cascade; `None`: the one whose compressor made the latents.
    pub(crate) cascade: Option<String>,
    /// What to answer about each window; `None`: its text.
    pub(crate) prompt: Option<Prompt>,
}

/// A question as the published chat takes it.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) text: String,
    /// 0: as in the published code.
    pub(crate) tokens_max: u32,
}

/// The text of each window, or the answer about it, in order.
pub(crate) fn decompress<S>(
    gateway: SharedGateway,
    options: DecompressOptions,
    windows: S,
) -> impl Stream<Item = Result<Bytes, Failure>> + Send
where
    S: Stream<Item = Result<Window, Failure>> + Send,
{
    try_stream! {
        let options = Arc::new(options);
        let texts = windows
            .enumerate()
            .map(|(number, window)| {
                let (gateway, options) = (Arc::clone(&gateway), Arc::clone(&options));
                task::begin(async move { decode(&gateway, &options, number, window?).await })
            })
            .buffered(gateway.config.look_ahead);
        pin_mut!(texts);
        while let Some(text) = texts.next().await {
            yield text?;
        }
    }
}

async fn decode(
    gateway: &Gateway,
    options: &DecompressOptions,
    number: usize,
    window: Window,
) -> Result<Bytes, Failure> {
    let made_by = window.group.compressor();
    let served = gateway.nodes.cascade_of_latents(options.cascade.as_deref(), made_by).await?;
    match &options.prompt {
        Some(prompt) => answer(gateway, &served, prompt, &window).await,
        None => {
            let sealed = Sealed {
                decoder: served.cascade.decoder,
                group: &window.group,
                corrections: window.corrections.as_ref(),
                arithmetic: None,
                bytes: window.bytes.end - window.bytes.start,
                hash: window.hash,
            };
            window::decode(&gateway.nodes, sealed, &format!("window {number}")).await
        }
    }
}

async fn answer(
    gateway: &Gateway,
    served: &Description,
    prompt: &Prompt,
    window: &Window,
) -> Result<Bytes, Failure> {
    if !served.takes_prompt {
        let problem = format!("`{}` reconstructs text and takes no prompt", served.cascade.name);
        return Err(Failure::Unsupported(format!("prompt: {problem}")));
    }
    let job = GenerateJob {
        decoder: served.cascade.decoder,
        group: &window.group,
        prompt: &prompt.text,
        tokens_max: prompt.tokens_max,
    };
    Ok(gateway.nodes.generate(job).await?.value)
}
