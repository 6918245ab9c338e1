//! A node that returns corrupt latents or texts. It forwards every call to a real node and flips a bit in the responses
//! of `Compress` and `Decode`.

use std::net::SocketAddr;

use anyhow::Result;
use c3_proto::pb;
use c3_proto::pb::compressor_client::CompressorClient;
use c3_proto::pb::compressor_server::{Compressor, CompressorServer};
use c3_proto::pb::decoder_client::DecoderClient;
use c3_proto::pb::decoder_server::{Decoder, DecoderServer};
use c3_types::limits::MESSAGE_BYTES_MAX;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::harness::process::Process;

/// A running corrupt node. Dropping the value stops the node.
#[derive(Debug)]
pub struct ByzantineNode {
    /// Address that the node listens on.
    pub address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

type Answers<M> = BoxStream<'static, Result<M, Status>>;

impl ByzantineNode {
    /// Starts a compressor node that flips one bit in the latents of every window that `upstream` returns.
    pub async fn compressor(upstream: &Process) -> Result<Self> {
        let upstream = CompressorClient::new(upstream.channel()?).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let service = CompressorServer::new(CorruptCompressor(upstream)).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self::serve(tonic::transport::Server::builder().add_service(service)).await
    }

    /// Starts a decoder node that flips one bit in every piece of text that `upstream` returns.
    pub async fn decoder(upstream: &Process) -> Result<Self> {
        let upstream = DecoderClient::new(upstream.channel()?).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let service = DecoderServer::new(CorruptDecoder(upstream)).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self::serve(tonic::transport::Server::builder().add_service(service)).await
    }

    async fn serve(router: tonic::transport::server::Router) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = async move { drop(router.serve_with_incoming(TcpIncoming::from(listener)).await) };
        Ok(Self { address, _serving: AbortOnDropHandle::new(tokio::spawn(serving)) })
    }
}

/// Returns the client's messages up to the first error.
fn forwarded<M: Send + 'static>(request: Request<Streaming<M>>) -> impl futures::Stream<Item = M> + Send {
    request.into_inner().take_while(|message| std::future::ready(message.is_ok())).filter_map(async |m| m.ok())
}

fn corrupted<M: Send + 'static>(answers: Streaming<M>, change: fn(&mut M)) -> Response<Answers<M>> {
    Response::new(
        answers
            .map(move |answer| {
                answer.map(|mut answer| {
                    change(&mut answer);
                    answer
                })
            })
            .boxed(),
    )
}

/// Returns a copy of `bytes` with one bit of the middle byte flipped.
fn changed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes
}

struct CorruptCompressor(CompressorClient<Channel>);

#[tonic::async_trait]
impl Compressor for CorruptCompressor {
    type CompressStream = Answers<pb::CompressResponse>;

    async fn compress(
        &self,
        request: Request<Streaming<pb::CompressRequest>>,
    ) -> Result<Response<Self::CompressStream>, Status> {
        let answers = self.0.clone().compress(forwarded(request)).await?.into_inner();
        Ok(corrupted(answers, |answer| {
            if let Some(group) = &mut answer.group {
                group.data = changed(&group.data).into();
            }
        }))
    }

    async fn describe(&self, request: Request<pb::DescribeRequest>) -> Result<Response<pb::DescribeResponse>, Status> {
        self.0.clone().describe(request).await
    }
}

struct CorruptDecoder(DecoderClient<Channel>);

#[tonic::async_trait]
impl Decoder for CorruptDecoder {
    type DecodeStream = Answers<pb::DecodeResponse>;
    type VerifyStream = Answers<pb::VerifyResponse>;

    async fn decode(
        &self,
        request: Request<Streaming<pb::DecodeRequest>>,
    ) -> Result<Response<Self::DecodeStream>, Status> {
        let answers = self.0.clone().decode(forwarded(request)).await?.into_inner();
        Ok(corrupted(answers, |answer| answer.text = changed(&answer.text).into()))
    }

    async fn verify(
        &self,
        request: Request<Streaming<pb::VerifyRequest>>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let answers = self.0.clone().verify(forwarded(request)).await?.into_inner();
        Ok(Response::new(answers.boxed()))
    }

    async fn describe(&self, request: Request<pb::DescribeRequest>) -> Result<Response<pb::DescribeResponse>, Status> {
        self.0.clone().describe(request).await
    }
}
