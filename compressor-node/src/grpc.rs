//! gRPC to the node's words and back.

use c3_node::{ModelFacts, count};
use c3_proto::{Invalid, LatentCodec, limits::SHARD_BYTES_MAX, pb};
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    model::Node,
    shard::{Shard, Window, compress},
};

/// Shards of one call that are worked on at once: enough to keep the model busy while answers travel, few enough that
/// a call cannot fill the queue by itself.
const CALL_SHARDS_MAX: usize = 8;

/// The service.
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
        // Nothing runs ahead of the caller: the stream is polled when the connection has room for more.
        let windows = request
            .into_inner()
            .map(move |request| shard(node.clone(), request))
            .buffer_unordered(CALL_SHARDS_MAX)
            .map_ok(|windows| stream::iter(windows.into_iter().map(Ok)))
            .try_flatten();
        Ok(Response::new(windows.boxed()))
    }

    async fn describe(
        &self,
        _: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeResponse>, Status> {
        Ok(Response::new(self.0.describe()?))
    }
}

async fn shard(
    node: Node,
    request: Result<pb::CompressRequest, Status>,
) -> Result<Vec<pb::CompressResponse>, Status> {
    let request = request?;
    let (number, with_token_ids) = (request.shard, request.with_token_ids);
    let shard = checked(request, &node.served()?.facts)?;
    let windows = compress(&node, shard).await?;
    let of = count(windows.len());
    let answers = windows.into_iter().enumerate().map(|(i, window)| {
        let Window { bytes, tokens, group } = window;
        pb::CompressResponse {
            shard: number,
            window: count(i),
            windows: of,
            start: bytes.start as u64,
            end: bytes.end as u64,
            group: Some(group.to_wire()),
            token_ids: if with_token_ids { tokens } else { Vec::new() },
        }
    });
    Ok(answers.collect())
}

fn checked(request: pb::CompressRequest, facts: &ModelFacts) -> Result<Shard, Invalid> {
    let bytes = request.text.len();
    if !(1..=SHARD_BYTES_MAX).contains(&bytes) {
        let problem = format!("a shard has 1 to {SHARD_BYTES_MAX} bytes, {bytes} given");
        return Err(Invalid::new("text", problem));
    }
    let text = String::from_utf8(request.text.into()).map_err(|error| {
        Invalid::new("text", format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
    })?;
    let codec = LatentCodec::from_wire(request.codec)?.unwrap_or(facts.codec);
    // Told before anything is computed: not every width divides into a codec's blocks.
    codec.bytes(count(facts.latent_token_len), count(facts.latent_width))?;
    Ok(Shard { text, ratio: facts.ratio.check(request.ratio)?, codec })
}

#[cfg(test)]
mod tests {
    use c3_proto::{CascadeName, Fingerprint, RatioRange};

    use super::*;

    fn facts(latent_width: usize) -> ModelFacts {
        ModelFacts {
            cascade: CascadeName {
                name: "test".to_owned(),
                compressor: Fingerprint::of(b"compressor"),
                decoder: Fingerprint::of(b"decoder"),
            },
            arithmetic: "test".to_owned(),
            device: "cpu".to_owned(),
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
    fn what_is_left_open_is_the_checkpoints() {
        let shard = checked(request(b"text", 0, 0), &facts(64)).unwrap();
        assert_eq!((shard.ratio, shard.codec), (20, LatentCodec::Q4_0));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let large: &'static [u8] = Box::leak(vec![b'a'; SHARD_BYTES_MAX + 1].into_boxed_slice());
        let codec = LatentCodec::Q4_0.to_wire();
        for (given, width, field, says) in [
            (request(b"", 0, 0), 64, "text", "1 to"),
            (request(large, 0, 0), 64, "text", "16384 bytes"),
            (request(b"ab\xff", 0, 0), 64, "text", "byte 2"),
            (request(b"text", 7, 0), 64, "ratio", "8 to 80"),
            (request(b"text", 81, 0), 64, "ratio", "8 to 80"),
            (request(b"text", 0, 99), 64, "codec", "q4_0"),
            (request(b"text", 0, codec), 60, "width", "multiple of 32"),
        ] {
            let error = checked(given, &facts(width)).unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.problem.contains(says), "{error}");
        }
    }
}
