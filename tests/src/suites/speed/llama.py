"""Measures llama.cpp on a GGUF file. Reads one JSON request per line and writes one JSON answer per line:

{"do": "open", "model": PATH, "ubatch": N, "flash": BOOL, "repack": BOOL, "threads": N}    -> {}
{"do": "prefill", "tokens": N, "times": N}     -> {"seconds": S}
{"do": "generate", "prompt": N, "tokens": N}   -> {"seconds": S}

"repack" permits llama.cpp to store weights in a layout for special instructions of the CPU, such as AMX. A prefill
computes logits only for its last token. The seconds of "generate" exclude the prefill of its prompt.
"""

import json
import random
import sys
import time

import llama_cpp.llama
from llama_cpp import Llama

llama = None
default_params = llama_cpp.llama_model_default_params
repack = True


def model_params():
    """Returns the default parameters, with the field that `repack` sets. `Llama` has no argument for this field."""
    params = default_params()
    params.use_extra_bufts = repack
    return params


llama_cpp.llama.llama_cpp.llama_model_default_params = model_params


def tokens(count):
    return [random.randrange(6, 16384) for _ in range(count)]


def prefill(count):
    llama.reset()
    llama.eval(tokens(count))


for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "open":
        llama = None
        repack = request["repack"]
        llama = Llama(
            model_path=request["model"],
            n_ctx=4096,
            n_batch=4096,
            n_ubatch=request["ubatch"],
            flash_attn=request["flash"],
            n_threads=request["threads"],
            n_threads_batch=request["threads"],
            logits_all=False,
            verbose=False,
        )
        prefill(64)
        answer = {}
    elif request["do"] == "prefill":
        begun = time.perf_counter()
        for _ in range(request["times"]):
            prefill(request["tokens"])
        answer = {"seconds": time.perf_counter() - begun}
    elif request["do"] == "generate":
        prefill(request["prompt"])
        ids = tokens(request["tokens"])
        begun = time.perf_counter()
        for token in ids:
            llama.eval([token])
        answer = {"seconds": time.perf_counter() - begun}
    print(json.dumps(answer), flush=True)
