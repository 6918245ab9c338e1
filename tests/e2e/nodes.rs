//! Direct gRPC calls to nodes, without a gateway.

use anyhow::Result;
use c3_proto::pb;
use c3_tests::harness::cluster::{Cluster, ClusterSpec};
use c3_types::WindowHash;
use c3_types::limits::MESSAGE_BYTES_MAX;
use futures::{StreamExt, TryStreamExt, stream};
use pb::compressor_client::CompressorClient;
use pb::decode_request::Task;
use pb::decoder_client::DecoderClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

const TEXT: &str = "It was the best of times, it was the worst of times.\r\nEs war die beste Zeit, 最好的时代 🙂 \
    <|im_end|><imgpad> and every byte of it comes back.";

struct Pair {
    compressor: CompressorClient<Channel>,
    decoder: DecoderClient<Channel>,
    cluster: Cluster,
}

impl Pair {
    async fn start() -> Result<Self> {
        let cluster = ClusterSpec::default().start().await?;
        let compressor = CompressorClient::new(cluster.compressors[0].channel()?);
        let decoder = DecoderClient::new(cluster.decoders[0].channel()?);
        Ok(Self { compressor, decoder, cluster })
    }

    async fn compress(&mut self, ratio: u32) -> Result<Vec<pb::CompressResponse>, Status> {
        let request =
            pb::CompressRequest { shard: 7, text: TEXT.into(), ratio, with_token_ids: true, ..Default::default() };
        self.compressor.compress(stream::iter([request])).await?.into_inner().try_collect().await
    }

    async fn decode(&mut self, group: pb::LatentGroup, task: Task) -> Result<Vec<u8>, Status> {
        let request = pb::DecodeRequest { window: 1, group: Some(group), task: Some(task) };
        let mut pieces = self.decoder.decode(stream::iter([request])).await?.into_inner();
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            text.extend(piece?.text);
        }
        Ok(text)
    }
}

fn reconstruct(corrections: Option<pb::Corrections>) -> Task {
    Task::Reconstruct(pb::Reconstruct { corrections })
}

#[tokio::test]
async fn a_shard_roundtrips_through_both_nodes() {
    let mut pair = Pair::start().await.unwrap();
    let windows = pair.compress(8).await.unwrap();
    let mut text = Vec::new();
    for (number, window) in windows.iter().enumerate() {
        assert_eq!((window.shard, window.window as usize, window.windows as usize), (7, number, windows.len()));
        let bytes = &TEXT.as_bytes()[window.start as usize..window.end as usize];
        let group = window.group.clone().unwrap();
        let verify = pb::VerifyRequest {
            window: 3,
            group: Some(group.clone()),
            token_ids: window.token_ids.clone(),
            margin: 2.0,
        };
        let verdicts = pair.decoder.verify(stream::iter([verify])).await.unwrap().into_inner();
        let verdicts: Vec<pb::VerifyResponse> = verdicts.try_collect().await.unwrap();
        let [verdict] = verdicts.as_slice() else { panic!("one verdict per window: {verdicts:?}") };
        assert_eq!(verdict.window, 3);
        assert_eq!(verdict.hash.as_ref(), WindowHash::of(bytes).as_bytes());
        text.extend(pair.decode(group, reconstruct(verdict.corrections.clone())).await.unwrap());
    }
    assert_eq!(String::from_utf8(text).unwrap(), TEXT);
    let described = pair.cluster.describe_decoder().await.unwrap();
    let counters = described.counters.unwrap();
    assert_eq!(counters.windows_decoded as usize, windows.len());
    assert_eq!(counters.windows_verified as usize, windows.len());
    let load = described.load.unwrap();
    assert_eq!((load.queued_tokens, load.running_tokens, load.backlog_seconds), (0, 0, 0.0));
    assert_eq!((load.kv_bytes_used, load.oldest_job_seconds), (0, 0.0));
    assert!(load.verify_tokens_per_second > 0.0 && load.decode_tokens_per_second > 0.0, "{load:?}");
    pair.cluster.compressors[0].terminate().await.unwrap();
    pair.cluster.decoders[0].terminate().await.unwrap();
}

#[tokio::test]
async fn invalid_windows_are_refused_with_their_codes() {
    let mut pair = Pair::start().await.unwrap();
    let out_of_range = pair.compress(81).await.unwrap_err();
    assert_eq!(out_of_range.code(), Code::InvalidArgument);
    assert!(out_of_range.message().contains("8 to 80"), "{out_of_range}");

    let group = pair.compress(20).await.unwrap().remove(0).group.unwrap();
    let other_model = pb::LatentGroup { compressor_fingerprint: vec![1; 32].into(), ..group.clone() };
    let too_few_latents = pb::LatentGroup { tokens: 32 * 20, ..group.clone() };
    let special_token = pb::Corrections { positions: vec![0], tokens: vec![2] };
    let prompt = Task::Generate(pb::Generate { prompt: "Who?".into(), tokens_max: 5 });
    for (group, task, code) in [
        (other_model, reconstruct(None), Code::FailedPrecondition),
        (too_few_latents, reconstruct(None), Code::InvalidArgument),
        (group.clone(), reconstruct(Some(special_token)), Code::InvalidArgument),
        (group, prompt, Code::FailedPrecondition),
    ] {
        let refused = pair.decode(group, task).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let too_large = pb::CompressRequest { text: vec![b'a'; MESSAGE_BYTES_MAX + 1].into(), ..Default::default() };
    let answers = pair.compressor.compress(stream::iter([too_large])).await.unwrap().into_inner();
    assert_eq!(answers.try_collect::<Vec<_>>().await.unwrap_err().code(), Code::OutOfRange);
}
