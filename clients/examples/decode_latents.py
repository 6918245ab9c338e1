#!/usr/bin/env python3
"""Restores the text of a latents file with PyTorch and the model's files, without code of C3 Serve.

    c3 latents ID -o latents.safetensors
    python decode_latents.py latents.safetensors --model models/c3-mini -o text

A window is a part of the text. The decoder's prompt contains the latents of a window, followed by an instruction. Each
latent represents a block of text tokens. All blocks of a window decode in parallel, as rows of a batch: they attend to
the same prompt, not to each other. A correction names a token position and the token that replaces the decoder's token
there. The text of each window must match its hash in the file.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from blake3 import blake3
from gguf import GGUFReader, dequantize
from safetensors import safe_open
from tokenizers import Tokenizer

FORMAT = "c3.latents.2"
PREFIX = (
    "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in detail.<|im_end|>"
    "<|im_start|>user\n<img>"
)
SUFFIX = "</img>\nRepeat the text: <|im_end|><|im_start|>assistant\n"
BLOCK_START = "<imgpad>"


class Decoder:
    """Qwen2 decoder from a GGUF file, with the projector that maps latents to its input embeddings."""

    def __init__(self, folder):
        reader = GGUFReader(folder / "decoder.gguf")
        self.w = {t.name: torch.tensor(dequantize(t.data, t.tensor_type)) for t in reader.tensors}
        setting = lambda name: reader.get_field(name).contents()
        if setting("c3.position_layout") != "aligned" or setting("c3.block_len") != "ratio":
            sys.exit(f"{folder} is not supported: its positions must be aligned, with one block per latent")
        self.layers = setting("qwen2.block_count")
        self.heads = setting("qwen2.attention.head_count")
        self.kv_heads = setting("qwen2.attention.head_count_kv")
        self.eps = setting("qwen2.attention.layer_norm_rms_epsilon")
        self.head_dim = self.w["token_embd.weight"].shape[1] // self.heads
        theta = setting("qwen2.rope.freq_base")
        self.inv_freq = theta ** (-torch.arange(0, self.head_dim, 2).float() / self.head_dim)
        with safe_open(folder / "projector.safetensors", framework="pt") as projector:
            self.projector = projector.get_tensor("projector.weight"), projector.get_tensor("projector.bias")

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.prefix, self.suffix = (tokenizer.encode(text).ids for text in (PREFIX, SUFFIX))
        self.block_start = tokenizer.token_to_id(BLOCK_START)
        self.special = list(tokenizer.get_added_tokens_decoder())
        self.bytes_of = token_bytes(tokenizer)

    def embed(self, ids):
        return F.embedding(torch.as_tensor(ids), self.w["token_embd.weight"])

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.w[name]

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def rotate(self, x, positions):
        """Applies rotary embeddings to x: [batch, heads, seq, head_dim], at positions: [batch, seq]."""
        angles = positions.float()[:, None, :, None] * self.inv_freq
        cos, sin = (torch.cat((part, part), -1) for part in (angles.cos(), angles.sin()))
        half = self.head_dim // 2
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    def forward(self, x, positions, past, mask=None):
        """Runs the layers on x: [batch, seq, hidden]. x attends to itself and to `past`, the KV cache of each layer.

        Returns the hidden states and the extended KV cache.
        """
        batch, seq, _ = x.shape
        cache = []
        for layer in range(self.layers):
            name = f"blk.{layer}"
            y = self.norm(x, f"{name}.attn_norm.weight")
            split = lambda part, heads: self.linear(y, f"{name}.{part}").view(batch, seq, heads, -1).transpose(1, 2)
            q = self.rotate(split("attn_q", self.heads), positions)
            k = self.rotate(split("attn_k", self.kv_heads), positions)
            v = split("attn_v", self.kv_heads)
            if past:
                k, v = (torch.cat((old, new), 2) for old, new in zip(past[layer], (k, v)))
            cache.append((k, v))
            k, v = (part.repeat_interleave(self.heads // self.kv_heads, 1) for part in (k, v))
            scores = q @ k.transpose(2, 3) / self.head_dim**0.5
            if mask is not None:
                scores = scores + mask
            attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, seq, -1)
            x = x + self.linear(attended, f"{name}.attn_output")
            y = self.norm(x, f"{name}.ffn_norm.weight")
            gated = F.silu(self.linear(y, f"{name}.ffn_gate")) * self.linear(y, f"{name}.ffn_up")
            x = x + self.linear(gated, f"{name}.ffn_down")
        return x, cache

    @torch.no_grad()
    def window(self, latents, ratio, tokens, corrections):
        """Decodes a window to `tokens` token ids. latents: [n, width]; corrections: dict of position to token id."""
        count = len(latents)
        before, after = len(self.prefix), len(self.suffix)
        x = torch.cat((self.embed(self.prefix), F.linear(latents, *self.projector), self.embed(self.suffix)))
        # A latent gets the position of the first token of its block. The instruction gets the positions after the
        # prefix.
        positions = torch.cat((
            torch.arange(before),
            before + after + ratio * torch.arange(count),
            before + torch.arange(after),
        ))
        causal = torch.full((len(x), len(x)), float("-inf")).triu(1)
        _, prompt = self.forward(x[None], positions[None], None, causal)

        # One row per block. All rows start with the KV cache of the prompt.
        past = [tuple(part.expand(count, -1, -1, -1) for part in layer) for layer in prompt]
        starts = ratio * torch.arange(count)
        read = torch.full((count,), self.block_start)
        written = torch.zeros(tokens, dtype=torch.long)
        for step in range(min(ratio, tokens)):
            # The last block may be shorter than the others. Its row is dropped from the batch once it is complete.
            live = int((starts + step < tokens).sum())
            past = [tuple(part[:live] for part in layer) for layer in past]
            slots = starts[:live] + step
            x, past = self.forward(self.embed(read[:live])[:, None], before + after + slots[:, None] - 1, past)
            logits = F.linear(self.norm(x[:, 0], "output_norm.weight"), self.w["token_embd.weight"])
            logits[:, self.special] = float("-inf")
            read = logits.argmax(-1)
            for row, slot in enumerate(slots.tolist()):
                read[row] = corrections.get(slot, read[row])
            written[slots] = read
        return written.tolist()


def token_bytes(tokenizer):
    """Returns a dict of token id to bytes. The vocabulary writes each byte as a letter, as GPT-2's does."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    byte_of = {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    plain = {id: token for token, id in vocabulary.items() if set(token) <= set(byte_of)}
    return {id: bytes(byte_of[letter] for letter in token) for id, token in plain.items()}


def main():
    arguments = argparse.ArgumentParser(description="Restore the text of a latents file with PyTorch")
    arguments.add_argument("file", type=Path, help="file that `c3 latents ID -o FILE` wrote")
    arguments.add_argument("--model", type=Path, required=True, help="folder of the model's files, such as models/c3-mini")
    arguments.add_argument("-o", "--output", type=Path, help="file to write the text to [default: standard output]")
    arguments = arguments.parse_args()

    decoder, text = Decoder(arguments.model), b""
    with safe_open(arguments.file, framework="pt") as file:
        metadata = file.metadata() or {}
        if FORMAT not in metadata:
            sys.exit(f"{arguments.file} has no metadata entry {FORMAT}: write it with `c3 latents ID -o FILE`")
        for number, window in enumerate(json.loads(metadata[FORMAT])["windows"]):
            corrections = dict(window.get("corrections") or [])
            ids = decoder.window(file.get_tensor(f"window.{number}"), window["ratio"], window["tokens"], corrections)
            piece = b"".join(decoder.bytes_of[id] for id in ids)
            if blake3(piece).hexdigest() != window["hash"]:
                sys.exit(f"window {number} does not match its hash: wrong model, or the window was not verified")
            text += piece
    with open(arguments.output, "wb") if arguments.output else sys.stdout.buffer as output:
        output.write(text)


if __name__ == "__main__":
    main()
