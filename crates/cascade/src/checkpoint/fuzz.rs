//! Fuzz targets: the files of a checkpoint.

use std::io::Cursor;

use c3_fuzz::MemoryBound;

use super::config::Settings;
use super::files::{self, Files};
use super::manifest::Manifest;
use super::{Stage, gguf};
use crate::tokenizer::Tokenizer;

/// Returns a GGUF file with the metadata of a small checkpoint and one tensor of 64 f32 values.
pub(super) fn gguf_file(alignment: u32, dimensions: [u64; 2]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let entry = |key: &str, kind: u32, value: &[u8]| [&text(key), &kind.to_le_bytes()[..], value].concat();
    let number = |key: &str, value: u32| entry(key, 4, &value.to_le_bytes());
    let float = |key: &str, value: f32| entry(key, 6, &value.to_le_bytes());
    let ratios = [&4u32.to_le_bytes()[..], &2u64.to_le_bytes(), &10u32.to_le_bytes(), &20u32.to_le_bytes()].concat();
    let entries = [
        entry("general.architecture", 8, &text("qwen2")),
        number("general.alignment", alignment),
        number("qwen2.embedding_length", 64),
        number("qwen2.block_count", 2),
        number("qwen2.attention.head_count", 4),
        number("qwen2.attention.head_count_kv", 2),
        number("qwen2.vocab_size", 300),
        float("qwen2.rope.freq_base", 10_000.0),
        float("qwen2.attention.layer_norm_rms_epsilon", 1e-6),
        entry("c3.position_layout", 8, &text("aligned")),
        entry("c3.ratios", 9, &ratios),
        number("c3.min_ratio", 8),
        number("c3.max_ratio", 80),
        number("c3.latent_token_len", 128),
    ];
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend((entries.len() as u64).to_le_bytes());
    file.extend(entries.concat());
    file.extend(text("output_norm.weight"));
    file.extend(2u32.to_le_bytes());
    file.extend(dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
    file.extend([0; 4]);
    file.extend(0u64.to_le_bytes());
    let start = file.len().next_multiple_of(32);
    file.resize(start + 4 * 64, 1);
    file
}

/// Files of a checkpoint whose `cascade.json` and `config.json` have these bytes.
fn with_json(json: &[u8]) -> Files {
    // Embedded files live as long as the program; the fuzzer's are leaked on purpose.
    let json: &'static [u8] = Box::leak(json.to_vec().into());
    Files::Embedded(vec![("cascade.json", json), ("config.json", json), ("llm1/config.json", json)])
}

#[test]
fn gguf_header() {
    // An array has 1 byte per value in the file, and 32 in memory, with room to grow. With RUST_BACKTRACE, errors of
    // candle have backtraces; the first one loads symbols.
    drop(candle_core::Error::Msg(String::new()).bt().to_string());
    let bound = MemoryBound { factor: 128, constant: 1 << 20 };
    c3_fuzz::check!("gguf_header", bound, vec![gguf_file(32, [32, 2])], |file| {
        let mut reader = Cursor::new(file);
        let Ok(content) = gguf::read(&mut reader) else { return };
        let _ = Settings::from_gguf(&content);
        for name in content.tensor_infos.keys() {
            let _ = content.tensor(&mut reader, name, &candle_core::Device::Cpu);
        }
    });
}

#[test]
fn published_config() {
    let config = br#"{"latent_token_len": 32, "eos_token_id": 2, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6, "use_sliding_window": false}"#;
    let hash = "0".repeat(64);
    let stage = format!(r#"{{"fingerprint": "{hash}", "files": {{"tokenizer.json": "{hash}"}}}}"#);
    let manifest = format!(r#"{{"name": "c3-mini", "compressor": {stage}, "decoder": {stage}}}"#);
    let seeds = vec![config.to_vec(), manifest.into_bytes()];
    // The target itself divides a text of 16,384 tokens into windows, possibly of one token.
    let bound = MemoryBound { constant: 1 << 20, ..MemoryBound::default() };
    c3_fuzz::check!("published_config", bound, seeds, |json| {
        let files = with_json(json);
        for stage in [Stage::Compressor, Stage::Decoder] {
            if let Ok(settings) = Settings::from_published(&files, stage) {
                assert!(settings.network.head_dim() > 0 && settings.layout.latent_token_len > 0);
                settings.layout.windows(16_384, settings.ratios.min);
            }
            if let Ok(manifest) = Manifest::read_or_derive(&files) {
                let _ = manifest.check(&files, stage);
            }
        }
    });
}

#[test]
fn safetensors_file() {
    let header = br#"{"query.weight":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}}"#;
    let seed = [&(header.len() as u64).to_le_bytes(), &header[..], &[1; 32]].concat();
    c3_fuzz::check!("safetensors_file", MemoryBound::default(), vec![seed], |file| {
        let _ = files::tensor(file, "query.safetensors", "query.weight");
    });
}

#[test]
fn tokenizer() {
    let seed =
        br##"{"version": "1.0", "added_tokens": [{"id": 2, "content": "<img>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true}], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
        "use_regex": true}, "model": {"type": "BPE", "dropout": null, "unk_token": null,
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "vocab": {"a": 0, "b": 1, "ab": 3}, "merges": [["a", "b"]]}}"##;
    // The tokenizer's own tables; its vocabulary is held four times.
    let bound = MemoryBound { factor: 256, constant: 4 << 20 };
    c3_fuzz::check!("tokenizer", bound, vec![seed.to_vec()], |json| {
        if let Ok(tokenizer) = Tokenizer::read(json, 300) {
            let _ = tokenizer.document("ab a\u{1F980}b\r\n<img>");
            let _ = tokenizer.prompt("ab <img>");
            assert_eq!(tokenizer.vocabulary(), 300);
        }
    });
}
