//! `c3 put` of many texts: side by side, so that they share batches on the nodes and packs in the store.

use std::time::Instant;

use c3_client::{Client, Stored, WriteOptions};
use futures::{StreamExt, stream};

use crate::args::positive;
use crate::batch::Batch;
use crate::failure::Failure;
use crate::inputs::{self, Depth, Input, Text, Wanted};
use crate::progress::Progress;
use crate::put::PutArgs;
use crate::remote::connect_to_write;
use crate::report::Report;
use crate::source::Source;
use crate::upload;

/// The field of `--jsonl`.
const FIELD: &str = "text";
/// Puts at once: small texts fill batches of the nodes and packs of the store, and the gateway has places for others.
const JOBS: usize = 128;

/// Arguments of a put of many texts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PutManyArgs {
    /// Of a folder take the files in its folders too
    #[arg(short, long)]
    recursive: bool,
    /// Take each line of a file as a JSON object whose field `text` is a text
    #[arg(long)]
    jsonl: bool,
    /// As --jsonl, with the text in another field
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Texts that are put at once
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = positive)]
    jobs: usize,
}

impl PutManyArgs {
    /// Where each line is a text: the field that holds it.
    pub(crate) fn field(&self) -> Option<String> {
        self.field.clone().or_else(|| self.jsonl.then(|| FIELD.to_owned()))
    }
}

/// Stores the texts and reports on each as it is done.
pub(crate) async fn run(args: PutArgs) -> Result<(), Failure> {
    let labels = args.naming.labels()?;
    if args.naming.name()?.is_some() || args.upload.upload.is_some() {
        return Err(Failure::CallWrong("--name and --upload are of one text: put it by itself".to_owned()));
    }
    let client = connect_to_write(&args.remote.gateway, &args.write).await?;
    let base = args.upload.base(&client).await?;
    let mut batch = Batch::begin("put", args.remote.json);
    let depth = if args.many.recursive { Depth::Tree } else { Depth::Folder };
    let wanted = Wanted { arguments: args.files.clone(), depth, field: args.many.field() };
    let found = stream::unfold(inputs::find(wanted), async |mut found| Some((found.recv().await?, found)));
    let progress = batch.progress();
    let put = |input: Input| {
        let (client, args, labels, base, progress) =
            (client.clone(), &args, &labels, base.clone(), &progress);
        async move {
            let (options, labels) = (args.write.options(None), labels.clone());
            let options = WriteOptions { base, ttl_seconds: args.ttl, labels, ..options };
            let report = one(&client, input.text, options, progress).await;
            (input.origin, report)
        }
    };
    let mut puts = std::pin::pin!(found.map(put).buffer_unordered(args.many.jobs));
    while let Some((origin, report)) = puts.next().await {
        match report {
            Ok(report) => {
                let file = Some(origin.file.display().to_string());
                batch.done(&Report { file, line: origin.line, ..report })?;
            }
            // It is wrong for every text.
            Err(failure @ Failure::CallWrong(_)) => return Err(failure),
            Err(failure) => batch.refused(&origin, &failure)?,
        }
    }
    batch.finish()
}

async fn one(
    client: &Client,
    text: Result<Text, String>,
    options: WriteOptions,
    progress: &Progress,
) -> Result<Report, Failure> {
    let begun = Instant::now();
    // A line keeps its place in memory until it is stored.
    let (source, _room) = match text.map_err(Failure::WorkFailed)? {
        Text::File(file) => (Source::open(&file).await?, None),
        Text::Line { text, room } => (Source::of(text), Some(room)),
    };
    let options = WriteOptions { bytes: source.bytes, ..options };
    let mut told = 0;
    let stored = upload::send(client, source, &options, |done| {
        let more = done.bytes_done.saturating_sub(told);
        told += more;
        progress.more(more);
    });
    let stored: Stored = stored.await?;
    progress.more(stored.document.bytes.saturating_sub(told));
    Ok(Report::of_stored(&stored, begun.elapsed()))
}
