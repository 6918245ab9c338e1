"""The compressor of the published checkpoint's shape in transformers, bf16, random weights: text tokens per second.

Prints one JSON object: the rate of each attention implementation for 32 windows, the time of one window, and the
card's copy bandwidth in bytes per second, counting bytes read and bytes written. Only speed is measured here.
"""

import json
import sys
import time

import torch
from transformers import Qwen2Config, Qwen2Model

WINDOWS, TOKENS, LATENTS, ROUNDS = 32, 640, 32, 5
shape = json.loads(sys.argv[1])


def median_seconds(work):
    work()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[ROUNDS // 2]


def copy_bandwidth():
    source = torch.empty(4 << 30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / median_seconds(lambda: target.copy_(source))


@torch.no_grad()
def compress(model, queries, ids):
    text = model.embed_tokens(ids)
    rows = torch.cat([text, queries.expand(len(ids), -1, -1)], 1)
    return model(inputs_embeds=rows, use_cache=False).last_hidden_state[:, -LATENTS:].float().cpu()


result = {"copy_bytes_per_second": copy_bandwidth(), "tokens_per_second": {}, "errors": {}}
for attention in ("sdpa", "eager", "flash_attention_2", "flash_attention_3"):
    try:
        config = Qwen2Config(**shape, attn_implementation=attention)
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            model = Qwen2Model(config).eval()
            queries = torch.randn(1, LATENTS, config.hidden_size)
            ids = torch.randint(0, config.vocab_size, (WINDOWS, TOKENS + 1))
        seconds = median_seconds(lambda: compress(model, queries, ids))
        result["tokens_per_second"][attention] = WINDOWS * TOKENS / seconds
        if attention == "sdpa":
            result["one_window_seconds"] = median_seconds(lambda: compress(model, queries, ids[:1]))
    except (ImportError, ValueError, RuntimeError) as error:
        result["errors"][attention] = str(error).splitlines()[0]
    model = None
print(json.dumps(result))
