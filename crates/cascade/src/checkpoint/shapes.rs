//! Shapes of the network's tensors. They are checked before tensors are read, because kernels rely on them.

use super::config::NetworkConfig;
use super::weights::Weights;
use crate::Error;

/// Compares the shapes of all tensors of the network with its dimensions. Fails with [`Error::Checkpoint`] if one is
/// missing or has another shape.
pub(super) fn check(weights: &Weights, config: &NetworkConfig) -> Result<(), Error> {
    let shape = |name: &str| {
        weights.shape(name).ok_or_else(|| Error::checkpoint(format!("the checkpoint has no tensor {name}")))
    };
    let expect = |name: &str, expected: &[usize]| {
        let found = shape(name)?;
        match found == expected {
            true => Ok(()),
            false => {
                Err(Error::checkpoint(format!("tensor {name} has shape {found:?}, the network needs {expected:?}")))
            }
        }
    };
    let &NetworkConfig { hidden, heads, kv_heads, vocabulary, .. } = config;
    let kv_width = kv_heads * config.head_dim();
    debug_assert_eq!(heads * config.head_dim(), hidden);
    for name in ["model.embed_tokens.weight", "lm_head.weight"].into_iter().filter(|name| weights.has(name)) {
        // The rows may be padded to a multiple of a block.
        let found = shape(name)?;
        if !matches!(found[..], [rows, width] if rows >= vocabulary && width == hidden) {
            let problem = format!("tensor {name} has shape {found:?}, the network needs [{vocabulary}, {hidden}]");
            return Err(Error::checkpoint(problem));
        }
    }
    shape("model.embed_tokens.weight")?;
    expect("model.norm.weight", &[hidden])?;
    for layer in 0..config.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let inner = shape(&name("mlp.gate_proj.weight"))?.first().copied().unwrap_or_default();
        for (part, outputs, inputs) in [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", kv_width, hidden),
            ("self_attn.v_proj", kv_width, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ] {
            expect(&name(&format!("{part}.weight")), &[outputs, inputs])?;
            let bias = name(&format!("{part}.bias"));
            if weights.has(&bias) {
                expect(&bias, &[outputs])?;
            }
        }
        for norm in ["input_layernorm.weight", "post_attention_layernorm.weight"] {
            expect(&name(norm), &[hidden])?;
        }
    }
    Ok(())
}
