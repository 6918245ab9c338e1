//! Puts that are killed half-way and taken up: what was done is not done again.

use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use c3_proto::pb::{self, put_document_response::Event};
use futures::stream;

use super::ops::{is_there, written};
use crate::calls::{id_of, put_messages};
use crate::cluster::{Cluster, Plan};
use crate::process::{Launch, Program};
use crate::row::Row;
use crate::wait::until;

/// Longest time that half of a text takes, by a wide margin.
const HALF_LIMIT: Duration = Duration::from_secs(1800);
/// Share of a put's tokens that may be computed again.
pub const REDONE_MAX: f64 = 0.05;
/// What is read on either side of a text's middle, where its put was broken off: a shard and more.
const MARGIN_BYTES: usize = 10_000;

/// Who is killed.
#[derive(Clone, Copy)]
pub enum Victim {
    /// The gateway; the same client asks the next.
    Gateway,
    /// The program `c3`.
    Client,
}

/// Texts whose put is broken off half-way. Where a few shards are more of a text than any bound, there is none.
pub async fn resumed(
    puts: &[(Victim, &str)],
    gateway_args: &[&str],
    redone_max: Option<f64>,
) -> Result<Vec<Row>> {
    let mut cluster = Plan::with_gateway_args(gateway_args).start().await?;
    let mut rows = Vec::new();
    for &(victim, text) in puts {
        let name = match victim {
            Victim::Gateway => "gateway",
            Victim::Client => "client",
        };
        let options = pb::WriteOptions {
            upload: format!("killed-{name}"),
            bytes: Some(text.len() as u64),
            ..written()
        };
        let before = work(&cluster).await?;
        match victim {
            Victim::Gateway => kill_gateway(&mut cluster, text, options.clone()).await?,
            Victim::Client => kill_client(&cluster, text, &options).await?,
        }
        cluster.becomes_idle().await?;
        let calls = cluster.calls()?;
        let half = work(&cluster).await? - before;
        let uploads = calls.raw().uploads(pb::UploadsRequest {}).await?.into_inner().uploads;
        let contradicted = pb::WriteOptions { ratio: written().ratio + 1, ..options.clone() };
        let refused = calls.put(text.as_bytes(), contradicted).await.err();
        let put = calls.put(text.as_bytes(), options).await?;
        let document = put.document.context("no document")?;
        let of_one_put = 2 * document.tokens;
        let redone = (work(&cluster).await? - before).saturating_sub(of_one_put) as f64 / of_one_put as f64;
        let middle = text.len() / 2;
        let read = middle.saturating_sub(MARGIN_BYTES)..(middle + MARGIN_BYTES).min(text.len());
        let same = is_there(&calls, &id_of(&document), text, read).await?;
        let left = calls.raw().uploads(pb::UploadsRequest {}).await?.into_inner().uploads.len();
        let name = |what: &str| format!("resumed-{name}-{what}");
        let done = half as f64 / of_one_put as f64;
        let bound = redone_max.unwrap_or(f64::INFINITY);
        rows.extend([
            Row::seen(name("done-when-killed"), done, (0.2..0.9).contains(&done), "about half"),
            Row::seen(
                name("redone"),
                redone,
                redone <= bound,
                redone_max.map_or("told".into(), |most| format!("<= {most}")),
            ),
            Row::holds(name("identical"), same, "identical"),
            Row::equal(name("recorded"), uploads.len(), 1),
            Row::equal(name("recorded-after"), left, 0),
            Row::equal(
                name("contradicted"),
                refused.map(|status| format!("{:?}", status.code())),
                Some("InvalidArgument".into()),
            ),
        ]);
    }
    Ok(rows)
}

/// Tokens compressed and tokens verified, together.
async fn work(cluster: &Cluster) -> Result<u64> {
    let (compressor, decoder) = cluster.counters().await?;
    Ok(compressor.tokens_compressed + decoder.tokens_verified)
}

async fn kill_gateway(cluster: &mut Cluster, text: &str, options: pb::WriteOptions) -> Result<()> {
    let messages = put_messages(text.as_bytes(), options);
    let mut events = cluster.calls()?.raw().put_document(stream::iter(messages)).await?.into_inner();
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
    let mut client = Killed(c3.command()?.spawn()?);
    // Latents for 4.3 bytes of prose a token.
    let half = text.len() as u64 * 10 / 43 / 2;
    let done = until("half of the put", HALF_LIMIT, async || {
        let verified = cluster.counters().await.ok()?.1.tokens_verified - before;
        (verified >= half).then_some(())
    });
    done.await?;
    ensure!(client.0.try_wait()?.is_none(), "the put ended before it was killed");
    Ok(())
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
