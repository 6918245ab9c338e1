//! The gRPC service: converts between messages and the node's types.

use c3_node::{CallError, ModelInfo, saturating_u32};
use c3_proto::{FromWire, ToWire, pb};
use c3_server::ServiceError;
use c3_types::Invalid;
use c3_types::limits::SHARD_BYTES_MAX;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::model::Node;
use crate::shard::{Shard, Window, compress};

/// Maximum number of shards (parts of a document) that a call has in progress. They are enough to keep the model busy
/// while responses are sent, and too few for one call to fill the queue.
const CALL_SHARDS_MAX: usize = 8;

/// The `c3.v1.Compressor` service.
#[derive(Clone)]
pub(crate) struct Grpc(Node);

impl Grpc {
    pub(crate) fn new(node: Node) -> Self {
        Self(node)
    }
}

#[tonic::async_trait]
impl pb::compressor_server::Compressor for Grpc {
    type CompressStream = BoxStream<'static, Result<pb::CompressResponse, Status>>;

    async fn compress(
        &self,
        request: Request<Streaming<pb::CompressRequest>>,
    ) -> Result<Response<Self::CompressStream>, Status> {
        let node = self.0.clone();
        // Backpressure: tonic polls this stream, and with it the requests, only while the connection has room.
        let windows = request
            .into_inner()
            .map(move |request| {
                let node = node.clone();
                async move { compress_shard(&node, request?).await.map_err(|error| error.status()) }
            })
            .buffer_unordered(CALL_SHARDS_MAX)
            .map_ok(|windows| stream::iter(windows.into_iter().map(Ok)))
            .try_flatten();
        Ok(Response::new(windows.boxed()))
    }

    async fn describe(&self, _: Request<pb::DescribeRequest>) -> Result<Response<pb::DescribeResponse>, Status> {
        Ok(Response::new(self.0.describe().map_err(|error| error.status())?))
    }
}

async fn compress_shard(node: &Node, request: pb::CompressRequest) -> Result<Vec<pb::CompressResponse>, CallError> {
    let (number, with_token_ids) = (request.shard, request.with_token_ids);
    let shard = shard(request, &node.loaded()?.info)?;
    let windows = compress(node, shard).await?;
    let count = saturating_u32(windows.len());
    let responses = windows.into_iter().enumerate().map(|(i, window)| {
        let Window { bytes, tokens, group } = window;
        pb::CompressResponse {
            shard: number,
            window: saturating_u32(i),
            windows: count,
            start: bytes.start as u64,
            end: bytes.end as u64,
            group: Some(group.to_wire()),
            token_ids: if with_token_ids { tokens } else { Vec::new() },
        }
    });
    Ok(responses.collect())
}

fn shard(request: pb::CompressRequest, info: &ModelInfo) -> Result<Shard, Invalid> {
    let bytes = request.text.len();
    if !(1..=SHARD_BYTES_MAX).contains(&bytes) {
        let problem = format!("must have 1 to {SHARD_BYTES_MAX} bytes, has {bytes}");
        return Err(Invalid::new("text", problem));
    }
    let text = String::from_utf8(request.text.into()).map_err(|error| {
        Invalid::new("text", format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
    })?;
    let codec = Option::from_wire(request.codec)?.unwrap_or(info.codec);
    // Fails before any computation if the latent width is not a multiple of the codec's block size.
    codec.bytes(saturating_u32(info.latent_token_len), saturating_u32(info.latent_width))?;
    Ok(Shard { text, ratio: info.ratio.check(request.ratio)?, codec })
}

#[cfg(test)]
mod tests {
    use c3_types::{Cascade, Fingerprint, LatentCodec, RatioRange};

    use super::*;

    fn info(latent_width: usize) -> ModelInfo {
        ModelInfo {
            cascade: Cascade {
                name: "test".to_owned(),
                compressor: Fingerprint::of(b"compressor"),
                decoder: Fingerprint::of(b"decoder"),
            },
            arithmetic: "test".to_owned(),
            device: "cpu".to_owned(),
            accelerator: None,
            latent_width,
            latent_token_len: 32,
            fixed_latents: false,
            ratio: RatioRange { min: 8, max: 80, default: 20 },
            ratios: vec![20],
            codec: LatentCodec::Q4_0,
            takes_prompt: false,
            vocabulary: 100,
        }
    }

    fn request(text: &'static [u8], ratio: u32, codec: i32) -> pb::CompressRequest {
        pb::CompressRequest { text: text.into(), ratio, codec, ..Default::default() }
    }

    #[test]
    fn unset_fields_take_the_checkpoints_defaults() {
        let shard = shard(request(b"text", 0, 0), &info(64)).unwrap();
        assert_eq!((shard.ratio, shard.codec), (20, LatentCodec::Q4_0));
    }

    #[test]
    fn each_invalid_field_is_named() {
        let large: &'static [u8] = Box::leak(vec![b'a'; SHARD_BYTES_MAX + 1].into_boxed_slice());
        let codec = LatentCodec::Q4_0.to_wire();
        for (request, width, field, says) in [
            (request(b"", 0, 0), 64, "text", "1 to"),
            (request(large, 0, 0), 64, "text", "16384 bytes"),
            (request(b"ab\xff", 0, 0), 64, "text", "byte 2"),
            (request(b"text", 7, 0), 64, "ratio", "8 to 80"),
            (request(b"text", 81, 0), 64, "ratio", "8 to 80"),
            (request(b"text", 0, 99), 64, "codec", "q4_0"),
            (request(b"text", 0, codec), 60, "width", "multiple of 32"),
        ] {
            let error = shard(request, &info(width)).unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.problem.contains(says), "{error}");
        }
    }
}
