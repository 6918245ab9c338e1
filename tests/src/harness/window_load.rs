//! Load of reads of one cached window, and what it costs the gateway.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use c3_proto::pb::{self, get_latents_response};

use crate::harness::gateway_api::GatewayApi;
use crate::harness::process::Process;

/// Throughput of a load, and its cost.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Requests per second.
    pub per_second: f64,
    /// CPU time of the gateway for one request, in seconds.
    pub cpu_seconds: f64,
}

/// Measures `work`, which sends requests to the gateway and returns their number.
pub async fn measured(gateway: &Process, work: impl AsyncFnOnce() -> Result<u64>) -> Result<Measured> {
    let (begun, before) = (Instant::now(), gateway.cpu_seconds()?);
    let requests = work().await? as f64;
    let cpu_seconds = (gateway.cpu_seconds()? - before) / requests;
    Ok(Measured { per_second: requests / begun.elapsed().as_secs_f64(), cpu_seconds })
}

/// Reads the latents of a document over gRPC again and again for `duration`. Fails unless each answer has `bytes` bytes
/// of latents. Returns the number of requests.
pub async fn read_latents(api: GatewayApi, id: String, bytes: usize, duration: Duration) -> Result<u64> {
    let (mut client, begun, mut requests) = (api.stub(), Instant::now(), 0);
    while begun.elapsed() < duration {
        let mut parts = client.get_latents(pb::GetLatentsRequest { id: id.clone() }).await?.into_inner();
        let mut read = 0;
        while let Some(message) = parts.message().await? {
            if let Some(get_latents_response::Part::Window(window)) = message.part {
                read += window.group.map_or(0, |group| group.data.len());
            }
        }
        ensure!(read == bytes, "{read} bytes came instead of {bytes}");
        requests += 1;
    }
    Ok(requests)
}
