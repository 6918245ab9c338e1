//! `c3 put` of many texts. They are stored in parallel, so that they share batches on the nodes and packs (objects of
//! many small documents) in the store.

use std::time::Instant;

use c3_client::{Client, WriteOptions};
use futures::{StreamExt, stream};

use super::{NamingArgs, PutArgs, path_warning};
use crate::error::CliError;
use crate::input::TextInput;
use crate::input::discover::{self, Depth, FoundText, Input, Search, is_single_file};
use crate::kept;
use crate::output::format::count;
use crate::output::{Batch, Progress, Report, warn};
use crate::upload;

/// Stores the texts. A usage error ends the batch, since every further text would cause the same error. Other failures
/// do not end the batch.
pub(super) async fn run(args: PutArgs) -> Result<(), CliError> {
    args.naming.check_many(args.many.field().as_deref())?;
    if args.upload.is_some() {
        return Err(CliError::Usage("--upload needs a single text".to_owned()));
    }
    let client = args.remote.connect_to_write(&args.write).await?;
    let base = args.resolve_base(&client).await?;
    let skip_search = args.no_search;
    let options = WriteOptions { base, ttl_seconds: args.ttl, skip_search, ..args.write.options(None) };
    let mut batch = Batch::start("put", args.remote.format);
    let depth = if args.many.recursive { Depth::Recursive } else { Depth::Shallow };
    let search = Search { arguments: args.files, depth, field: args.many.field() };
    batch.set_total(total_bytes(search.clone()));
    let inputs = discover::find(search);
    let inputs = stream::unfold(inputs, async |mut inputs| Some((inputs.recv().await?, inputs)));
    let progress = batch.progress();
    let put = |input: Input| {
        let put = Put { client: &client, naming: &args.naming, options: options.clone(), progress: &progress };
        async move { (input.origin.clone(), put.run(input).await) }
    };
    kept::set("no document was stored; repeat the command");
    let mut puts = std::pin::pin!(inputs.map(put).buffer_unordered(args.many.jobs));
    while let Some((origin, report)) = puts.next().await {
        match report {
            Ok(report) => {
                let file = Some(origin.file.display().to_string());
                batch.succeeded(&Report { file, line: origin.line, ..report })?;
                let documents = count(batch.documents(), "document");
                kept::set(format!("stored {documents} so far; repeat the command to store the rest"));
            }
            Err(error @ CliError::Usage(_)) => return Err(error),
            Err(error) => batch.input_failed(&origin, &error)?,
        }
    }
    batch.finish()
}

/// Returns the size of all texts, or `None` if one of them can be read only once, such as standard input.
async fn total_bytes(search: Search) -> Option<u64> {
    if search.arguments.iter().any(|argument| is_single_file(argument) && !argument.is_file()) {
        return None;
    }
    let (mut inputs, mut bytes) = (discover::find(search), 0);
    while let Some(input) = inputs.recv().await {
        bytes += match input.text {
            Ok(FoundText::File(file)) => file.metadata().map_or(0, |metadata| metadata.len()),
            Ok(FoundText::Line { text, .. }) => text.len() as u64,
            Err(_) => 0,
        };
    }
    Some(bytes)
}

/// The put of one text of a batch.
struct Put<'a> {
    client: &'a Client,
    naming: &'a NamingArgs,
    /// Options that all texts of the batch share.
    options: WriteOptions,
    progress: &'a Progress,
}

impl Put<'_> {
    async fn run(self, Input { origin, path, text }: Input) -> Result<Report, CliError> {
        let started = Instant::now();
        // Keeps the memory reservation of a line until its text is stored.
        let (input, _memory) = match text.map_err(CliError::Failed)? {
            FoundText::File(file) => (TextInput::open(&file).await?, None),
            FoundText::Line { text, memory } => (TextInput::from_memory(origin.to_string(), text), Some(memory)),
        };
        let path = path.filter(|_| input.is_file);
        let name = self.naming.name_of(path.as_deref())?;
        let labels = self.naming.labels(path.as_deref())?;
        let options = WriteOptions { bytes: input.bytes, name, labels, ..self.options };
        // A retry reports its progress from 0 again. Only bytes beyond the progress of earlier attempts are added.
        let (mut counted, is_file) = (0, input.is_file);
        let stored = upload::send(self.client, input, &options, None, |done| {
            let more = done.bytes_done.saturating_sub(counted);
            counted += more;
            self.progress.add(more);
        })
        .await?;
        self.progress.add(stored.document.bytes.saturating_sub(counted));
        if is_file && let Some(warning) = path_warning(&origin.to_string(), &options.labels, &stored.document.labels) {
            warn(warning);
        }
        let name = options.name.map(|put| put.name);
        Ok(Report { name, ..Report::of_stored(&stored, started.elapsed()) })
    }
}
