//! Interrupted puts that are resumed: finished work must not be repeated.

use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c3_proto::pb;
use c3_proto::pb::put_document_response::Event;
use futures::stream;

use super::ops::{default_options, reads_back};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::gateway_api::{id_of, put_messages};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Maximum time until half of a put is done.
const HALF_LIMIT: Duration = Duration::from_secs(1800);
/// Maximum fraction of a put's tokens that is computed again.
pub const REDONE_MAX: f64 = 0.05;
/// Number of bytes read on either side of the middle, where the put was interrupted. More than a shard.
const MARGIN_BYTES: usize = 10_000;

/// Process that is killed to interrupt a put.
#[derive(Clone, Copy)]
pub enum KilledProcess {
    /// The gateway. The put is resumed at the restarted gateway.
    Gateway,
    /// The client program `c3`.
    Client,
}

/// Interrupts each put half-way and resumes it; the document must be complete, and at most the fraction `redone_max` of
/// its tokens may be computed again. `redone_max` is `None` for short texts, of which the few shards (parts of the
/// text) in flight are a large part.
pub async fn resume(
    puts: &[(KilledProcess, &str)],
    gateway_args: &[&str],
    redone_max: Option<f64>,
) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::with_gateway_args(gateway_args).start().await?;
    let mut quantities = Vec::new();
    for &(victim, text) in puts {
        let name = match victim {
            KilledProcess::Gateway => "gateway",
            KilledProcess::Client => "client",
        };
        let options =
            pb::WriteOptions { upload: format!("killed-{name}"), bytes: Some(text.len() as u64), ..default_options() };
        let before = work(&cluster).await?;
        match victim {
            KilledProcess::Gateway => kill_gateway(&mut cluster, text, options.clone()).await?,
            KilledProcess::Client => kill_client(&cluster, text, &options).await?,
        }
        cluster.wait_until_idle().await?;
        let api = cluster.api()?;
        let half = work(&cluster).await? - before;
        let uploads = api.stub().uploads(pb::UploadsRequest {}).await?.into_inner().uploads;
        let contradicted = pb::WriteOptions { ratio: default_options().ratio + 1, ..options.clone() };
        let refused = api.put(text.as_bytes(), contradicted).await.err();
        let put = api.put(text.as_bytes(), options).await?;
        let document = put.document.context("no document")?;
        let of_one_put = 2 * document.tokens;
        let redone = (work(&cluster).await? - before).saturating_sub(of_one_put) as f64 / of_one_put as f64;
        let middle = text.len() / 2;
        let read = middle.saturating_sub(MARGIN_BYTES)..(middle + MARGIN_BYTES).min(text.len());
        let same = reads_back(&api, &id_of(&document), text, read).await?;
        let left = api.stub().uploads(pb::UploadsRequest {}).await?.into_inner().uploads.len();
        let name = |what: &str| format!("resumed-{name}-{what}");
        let done = half as f64 / of_one_put as f64;
        let bound = redone_max.unwrap_or(f64::INFINITY);
        quantities.extend([
            Quantity::observed(name("done-when-killed"), done, (0.2..0.9).contains(&done), "about half"),
            Quantity::observed(
                name("redone"),
                redone,
                redone <= bound,
                redone_max.map_or("reported only".into(), |most| format!("<= {most}")),
            ),
            Quantity::holds(name("identical"), same, "identical"),
            Quantity::equal(name("recorded"), uploads.len(), 1),
            Quantity::equal(name("recorded-after"), left, 0),
            Quantity::equal(
                name("contradicted"),
                refused.map(|status| format!("{:?}", status.code())),
                Some("InvalidArgument".into()),
            ),
        ]);
    }
    Ok(quantities)
}

/// Returns the work of the nodes so far: the number of compressed tokens plus the number of verified tokens.
async fn work(cluster: &Cluster) -> Result<u64> {
    let (compressor, decoder) = cluster.counters().await?;
    Ok(compressor.tokens_compressed + decoder.tokens_verified)
}

async fn kill_gateway(cluster: &mut Cluster, text: &str, options: pb::WriteOptions) -> Result<()> {
    let messages = put_messages(text.as_bytes(), options);
    let mut events = cluster.api()?.stub().put_document(stream::iter(messages)).await?.into_inner();
    loop {
        let event = events.message().await?.context("the put ended before it was killed")?;
        match event.event {
            Some(Event::Progress(progress)) if 2 * progress.bytes_done >= text.len() as u64 => break,
            Some(Event::Result(_)) => anyhow::bail!("the put ended before it was killed"),
            _ => {}
        }
    }
    cluster.restart_gateway().await
}

async fn kill_client(cluster: &Cluster, text: &str, options: &pb::WriteOptions) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    let ratio = options.ratio.to_string();
    let c3 = Launch::new(Program::C3).args(["put", "--upload", &options.upload, "--ratio", &ratio]);
    let c3 = c3.args(["--gateway", &cluster.gateway.url()]).arg(file.path());
    let before = cluster.counters().await?.1.tokens_verified;
    let mut client = KillOnDrop(c3.command()?.spawn()?);
    // Half of the text in tokens. Prose has about 4.3 bytes per token.
    let half = text.len() as u64 * 10 / 43 / 2;
    let done = until("half of the put", HALF_LIMIT, async || {
        let verified = cluster.counters().await.ok()?.1.tokens_verified - before;
        (verified >= half).then_some(())
    });
    done.await?;
    ensure!(client.0.try_wait()?.is_none(), "the put ended before it was killed");
    Ok(())
}

/// A child process that is killed on drop.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
