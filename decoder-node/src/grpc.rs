//! The gRPC service: converts between messages and the node's types.

use c3_node::{CallError, saturating_u32};
use c3_proto::{FromWire, ToWire, pb};
use c3_server::ServiceError;
use c3_types::limits::{SHARD_BYTES_MAX, WINDOW_TOKENS_MAX};
use c3_types::{Corrections, Invalid, LatentGroup};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::Config;
use crate::job::Decoded;
use crate::model::Node;
use crate::window::{self, DecodeTask, ToDecode, ToVerify, Verdict};

/// Maximum number of windows that a call has in progress. They are enough to keep the model busy while responses are
/// sent, and too few for one call to fill the queue.
const CALL_WINDOWS_MAX: usize = 16;

/// The `c3.v1.Decoder` service.
#[derive(Clone)]
pub(crate) struct Grpc {
    node: Node,
    config: Config,
}

impl Grpc {
    pub(crate) fn new(node: Node, config: Config) -> Self {
        Self { node, config }
    }
}

#[tonic::async_trait]
impl pb::decoder_server::Decoder for Grpc {
    type DecodeStream = BoxStream<'static, Result<pb::DecodeResponse, Status>>;
    type VerifyStream = BoxStream<'static, Result<pb::VerifyResponse, Status>>;

    async fn decode(
        &self,
        request: Request<Streaming<pb::DecodeRequest>>,
    ) -> Result<Response<Self::DecodeStream>, Status> {
        let node = self.node.clone();
        Ok(Response::new(respond(request, move |request| decode(node.clone(), request))))
    }

    async fn verify(
        &self,
        request: Request<Streaming<pb::VerifyRequest>>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let node = self.node.clone();
        Ok(Response::new(respond(request, move |request| verify(node.clone(), request))))
    }

    async fn describe(&self, _: Request<pb::DescribeRequest>) -> Result<Response<pb::DescribeResponse>, Status> {
        let mut description = self.node.describe().map_err(|error| error.status())?;
        let limits = description.limits.unwrap_or_default();
        let loaded = self.node.loaded().map_err(|error| error.status())?;
        let kv_bytes_max = self.config.kv_cache_bytes(loaded.model.info());
        description.limits = Some(pb::NodeLimits { kv_bytes_max, ..limits });
        Ok(Response::new(description))
    }
}

/// Returns the responses of a call, each as soon as its window completes. Backpressure: tonic polls this stream, and
/// with it the requests, only while the connection has room.
fn respond<Q, R, F>(
    requests: Request<Streaming<Q>>,
    answer: impl Fn(Q) -> F + Send + 'static,
) -> BoxStream<'static, Result<R, Status>>
where
    Q: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<R, CallError>> + Send + 'static,
{
    let answers = requests.into_inner().map(move |request| {
        let answer = request.map(&answer);
        async move { answer?.await.map_err(|error| error.status()) }
    });
    answers.buffer_unordered(CALL_WINDOWS_MAX).boxed()
}

async fn decode(node: Node, request: pb::DecodeRequest) -> Result<pb::DecodeResponse, CallError> {
    let number = request.window;
    let Decoded { text, tokens } = window::decode(&node, to_decode(request)?).await?;
    // The text is sent in one piece. The blocks of a window (in the default model, one for each latent) decode in
    // parallel, so the text is complete only at the end.
    Ok(pb::DecodeResponse { window: number, text: text.into(), last: true, tokens: saturating_u32(tokens) })
}

async fn verify(node: Node, request: pb::VerifyRequest) -> Result<pb::VerifyResponse, CallError> {
    let number = request.window;
    let Verdict { correct, corrections, hash } = window::verify(&node, to_verify(request)?).await?;
    Ok(pb::VerifyResponse {
        window: number,
        right: saturating_u32(correct),
        corrections: Some(corrections.to_wire()),
        hash: hash.to_wire(),
    })
}

fn to_decode(request: pb::DecodeRequest) -> Result<ToDecode, Invalid> {
    let group = group(request.group)?;
    let task = match request.task.ok_or_else(|| Invalid::new("task", "must be given"))? {
        pb::decode_request::Task::Reconstruct(pb::Reconstruct { corrections }) => {
            let corrections = corrections.unwrap_or_default();
            DecodeTask::Reconstruct(Corrections::from_wire((&corrections, group.tokens()))?)
        }
        pb::decode_request::Task::Generate(pb::Generate { prompt, tokens_max }) => {
            if prompt.len() > SHARD_BYTES_MAX {
                let problem = format!("must have at most {SHARD_BYTES_MAX} bytes, has {}", prompt.len());
                return Err(Invalid::new("generate.prompt", problem));
            }
            if tokens_max > WINDOW_TOKENS_MAX {
                let problem = format!("must be at most {WINDOW_TOKENS_MAX}, is {tokens_max}");
                return Err(Invalid::new("generate.tokens_max", problem));
            }
            DecodeTask::Generate { prompt, tokens_max: tokens_max as usize }
        }
    };
    Ok(ToDecode { group, task })
}

fn to_verify(request: pb::VerifyRequest) -> Result<ToVerify, Invalid> {
    let pb::VerifyRequest { group: given, token_ids: tokens, margin, .. } = request;
    let group = group(given)?;
    if tokens.len() != group.tokens() as usize {
        let problem = format!("must have {} ids, one per token of the group; has {}", group.tokens(), tokens.len());
        return Err(Invalid::new("token_ids", problem));
    }
    if !(margin.is_finite() && margin >= 0.0) {
        return Err(Invalid::new("margin", format!("must be a finite number of 0 or more, is {margin}")));
    }
    Ok(ToVerify { group, tokens, margin })
}

fn group(given: Option<pb::LatentGroup>) -> Result<LatentGroup, Invalid> {
    LatentGroup::from_wire(given.ok_or_else(|| Invalid::new("group", "must be given"))?)
}

#[cfg(test)]
mod tests {
    use c3_types::{Fingerprint, LatentCodec, Provenance};
    use pb::decode_request::Task;

    use super::*;

    fn wire() -> Option<pb::LatentGroup> {
        let of = Provenance { compressor: Fingerprint::of(b"model"), tokens: 3, ratio: 20 };
        Some(LatentGroup::encode(&[0.5; 64], 64, LatentCodec::F32, of).unwrap().to_wire())
    }

    fn decode_request(task: Option<Task>) -> pb::DecodeRequest {
        pb::DecodeRequest { window: 1, group: wire(), task }
    }

    fn verify_request(token_ids: &[u32], margin: f32) -> pb::VerifyRequest {
        pb::VerifyRequest { window: 1, group: wire(), token_ids: token_ids.to_vec(), margin }
    }

    #[test]
    fn each_invalid_field_of_a_window_to_decode_is_named() {
        let corrections = Some(pb::Corrections { positions: vec![3], tokens: vec![9] });
        let long = "a".repeat(SHARD_BYTES_MAX + 1);
        for (request, field) in [
            (pb::DecodeRequest::default(), "group"),
            (decode_request(None), "task"),
            (decode_request(Some(Task::Reconstruct(pb::Reconstruct { corrections }))), "corrections.positions"),
            (decode_request(Some(Task::Generate(pb::Generate { prompt: long, tokens_max: 0 }))), "generate.prompt"),
            (
                decode_request(Some(Task::Generate(pb::Generate { tokens_max: u32::MAX, ..Default::default() }))),
                "generate.tokens_max",
            ),
        ] {
            assert_eq!(to_decode(request).unwrap_err().field, field);
        }
    }

    #[test]
    fn each_invalid_field_of_a_window_to_verify_is_named() {
        for (request, field) in [
            (pb::VerifyRequest::default(), "group"),
            (verify_request(&[1, 2], 0.0), "token_ids"),
            (verify_request(&[1, 2, 3], -1.0), "margin"),
            (verify_request(&[1, 2, 3], f32::NAN), "margin"),
        ] {
            assert_eq!(to_verify(request).unwrap_err().field, field);
        }
        assert!(to_verify(verify_request(&[1, 2, 3], 2.0)).is_ok());
    }
}
