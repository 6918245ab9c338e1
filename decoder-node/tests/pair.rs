//! A compressor node and a decoder node with the default model, over real gRPC: a shard goes through both and comes
//! back, and both stop when asked to.

use std::{error::Error, net::Ipv4Addr, path::Path, time::Duration};

use c3_node::Settings;
use c3_proto::{limits::MESSAGE_BYTES_MAX, pb};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use pb::{compressor_client::CompressorClient, decode_request::Task, decoder_client::DecoderClient};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const TEXT: &str = "It was the best of times, it was the worst of times.\r\nEs war die beste Zeit, 最好的时代 🙂 \
    <|im_end|><imgpad> and every byte of it comes back.";

struct Pair {
    compressor: CompressorClient<Channel>,
    decoder: DecoderClient<Channel>,
    shutdown: CancellationToken,
    nodes: [JoinHandle<Result<(), String>>; 2],
}

impl Pair {
    async fn start() -> Outcome<Self> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/c3-mini");
        let node = Settings { model: Some(model), ..Default::default() };
        let shutdown = CancellationToken::new();
        let [first, second] = [listen().await?, listen().await?];
        let (compressor, decoder) = (connect(&first)?, connect(&second)?);
        let nodes = [
            tokio::spawn({
                let config = c3_compressor_node::Config { node: node.clone(), ..Default::default() };
                let run = c3_compressor_node::run(config, first, shutdown.clone());
                async { run.await.map_err(|error| error.to_string()) }
            }),
            tokio::spawn({
                let config = c3_decoder_node::Config { node, ..Default::default() };
                let run = c3_decoder_node::run(config, second, shutdown.clone());
                async { run.await.map_err(|error| error.to_string()) }
            }),
        ];
        let (mut compressor, mut decoder) = (CompressorClient::new(compressor), DecoderClient::new(decoder));
        while loading(compressor.describe(pb::DescribeRequest {}).await)? {}
        while loading(decoder.describe(pb::DescribeRequest {}).await)? {}
        Ok(Self { compressor, decoder, shutdown, nodes })
    }

    async fn compress(&mut self, ratio: u32) -> Result<Vec<pb::CompressResponse>, Status> {
        let request = pb::CompressRequest {
            shard: 7,
            text: TEXT.into(),
            ratio,
            with_token_ids: true,
            ..Default::default()
        };
        self.compressor.compress(once(request)).await?.into_inner().try_collect().await
    }

    async fn stop(self) -> Outcome {
        self.shutdown.cancel();
        for node in self.nodes {
            node.await??;
        }
        Ok(())
    }
}

async fn listen() -> Outcome<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?)
}

fn connect(listener: &TcpListener) -> Outcome<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", listener.local_addr()?))?;
    Ok(endpoint.timeout(Duration::from_secs(120)).connect_lazy())
}

fn loading<T>(described: Result<T, Status>) -> Result<bool, Status> {
    match described {
        Ok(_) => Ok(false),
        Err(status) if status.code() == Code::Unavailable => Ok(true),
        Err(status) => Err(status),
    }
}

fn once<T: Send + 'static>(request: T) -> impl Stream<Item = T> + Send + 'static {
    stream::once(async { request })
}

fn to_decode(group: pb::LatentGroup, corrections: Option<pb::Corrections>) -> pb::DecodeRequest {
    let task = Some(Task::Reconstruct(pb::Reconstruct { corrections }));
    pb::DecodeRequest { window: 1, group: Some(group), task }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_goes_through_both_nodes_and_comes_back() -> Outcome {
    let mut pair = Pair::start().await?;
    let windows = pair.compress(8).await?;
    let mut text = Vec::new();
    for (number, window) in windows.iter().enumerate() {
        assert_eq!(
            (window.shard, window.window as usize, window.windows as usize),
            (7, number, windows.len())
        );
        let bytes = &TEXT.as_bytes()[window.start as usize..window.end as usize];
        let group = window.group.clone().ok_or("no group")?;
        let verify = pb::VerifyRequest {
            window: 3,
            group: Some(group.clone()),
            token_ids: window.token_ids.clone(),
            margin: 2.0,
        };
        let verified: Vec<pb::VerifyResponse> =
            pair.decoder.verify(once(verify)).await?.into_inner().try_collect().await?;
        let [verdict] = verified.as_slice() else { return Err("one answer a window".into()) };
        assert_eq!(verdict.window, 3);
        assert_eq!(verdict.hash.as_ref(), c3_proto::WindowHash::of(bytes).as_bytes());
        let decode = to_decode(group, verdict.corrections.clone());
        let mut decoded = pair.decoder.decode(once(decode)).await?.into_inner();
        while let Some(piece) = decoded.next().await {
            text.extend(piece?.text);
        }
    }
    assert_eq!(String::from_utf8(text)?, TEXT);
    let described = pair.decoder.describe(pb::DescribeRequest {}).await?.into_inner();
    let counters = described.counters.unwrap_or_default();
    assert_eq!(counters.windows_decoded as usize, windows.len());
    assert_eq!(counters.windows_verified as usize, windows.len());
    assert_eq!(described.load, Some(pb::NodeLoad::default()));
    pair.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_refused_by_kind() -> Outcome {
    let mut pair = Pair::start().await?;
    let out_of_range = pair.compress(81).await.expect_err("81 is over the range");
    assert_eq!(out_of_range.code(), Code::InvalidArgument);
    assert!(out_of_range.message().contains("8 to 80"), "{out_of_range}");

    let group = pair.compress(20).await?.remove(0).group.ok_or("no group")?;
    let foreign = pb::LatentGroup { compressor_fingerprint: vec![1; 32].into(), ..group.clone() };
    // Fewer latents than the tokens need, and a token that is no text.
    let short = pb::LatentGroup { tokens: 32 * 20, ..group.clone() };
    let special = pb::Corrections { positions: vec![0], tokens: vec![2] };
    let prompt = pb::DecodeRequest {
        window: 1,
        group: Some(group.clone()),
        task: Some(Task::Generate(pb::Generate { prompt: "Who?".into(), tokens_max: 5 })),
    };
    for (request, code) in [
        (to_decode(foreign, None), Code::FailedPrecondition),
        (to_decode(short, None), Code::InvalidArgument),
        (to_decode(group, Some(special)), Code::InvalidArgument),
        (prompt, Code::FailedPrecondition),
    ] {
        let answers = pair.decoder.decode(once(request)).await?.into_inner();
        let refused = answers.try_collect::<Vec<_>>().await.expect_err("must be refused");
        assert_eq!(refused.code(), code, "{refused}");
    }
    let huge = pb::CompressRequest { text: vec![b'a'; MESSAGE_BYTES_MAX + 1].into(), ..Default::default() };
    let answers = pair.compressor.compress(once(huge)).await?.into_inner();
    assert_eq!(answers.try_collect::<Vec<_>>().await.expect_err("too large").code(), Code::OutOfRange);
    pair.stop().await
}
