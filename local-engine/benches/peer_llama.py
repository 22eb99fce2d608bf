"""The peer: llama.cpp on the same machine, with random Q4_0 weights of the shapes that `examples/bench` makes.

Measures speed alone: the weights are noise, so what it says means nothing. Reads no network; needs
`pip install llama-cpp-python gguf numpy` (builds llama.cpp for this machine's instructions).

    python peer_llama.py [--shape 0.5b|1.5b|7b] [--threads 2] [--dir /tmp/llama-peer]

Prints one JSON object: decode tokens a second at batch 1 and 8, prefill tokens a second; medians of several runs.
"""

import argparse
import ctypes
import json
import pathlib
import statistics
import time

import gguf
import llama_cpp
import numpy as np

N_VOCAB = 151_936
SHAPES = {
    "0.5b": dict(layers=24, hidden=896, heads=14, kv_heads=2, inter=4864, tied=True),
    "1.5b": dict(layers=28, hidden=1536, heads=12, kv_heads=2, inter=8960, tied=True),
    "7b": dict(layers=28, hidden=3584, heads=28, kv_heads=4, inter=18944, tied=False),
}
RUNS = 5


def random_blocks(rng, kind, rows, cols):
    """Blocks of noise with small finite scales: numbers that a matrix of this kind could hold."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, size=(rows, cols // elements * size), dtype=np.uint8)
    view = data.reshape(rows, cols // elements, size)
    at = size - 2 if kind == gguf.GGMLQuantizationType.Q6_K else 0
    view[:, :, at : at + 2] = np.array([0.001], dtype=np.float16).view(np.uint8)
    return data


def write_model(path, shape):
    rng = np.random.default_rng(7)
    q4, q6, q8 = (getattr(gguf.GGMLQuantizationType, name) for name in ("Q4_0", "Q6_K", "Q8_0"))
    hidden, head_dim = shape["hidden"], shape["hidden"] // shape["heads"]
    kv = shape["kv_heads"] * head_dim
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(shape["layers"])
    writer.add_context_length(4096)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(shape["inter"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(N_VOCAB)
    writer.add_tokenizer_model("no_vocab")

    def quantised(name, rows, cols, kind=q4):
        writer.add_tensor(name, random_blocks(rng, kind, rows, cols), raw_dtype=kind)

    # What llama-quantize does: the head is finer than the rest, and Q8_0 where 256 does not divide it.
    head_kind = q6 if hidden % 256 == 0 else q8
    quantised("token_embd.weight", N_VOCAB, hidden, head_kind if shape["tied"] else q4)
    if not shape["tied"]:
        quantised("output.weight", N_VOCAB, hidden, head_kind)
    writer.add_tensor("output_norm.weight", np.ones(hidden, dtype=np.float32))
    for layer in range(shape["layers"]):
        at = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{at}{name}.weight", np.ones(hidden, dtype=np.float32))
        for name, rows in (("attn_q", hidden), ("attn_k", kv), ("attn_v", kv)):
            quantised(f"{at}{name}.weight", rows, hidden)
            writer.add_tensor(f"{at}{name}.bias", np.zeros(rows, dtype=np.float32))
        quantised(f"{at}attn_output.weight", hidden, hidden)
        quantised(f"{at}ffn_gate.weight", shape["inter"], hidden)
        quantised(f"{at}ffn_up.weight", shape["inter"], hidden)
        quantised(f"{at}ffn_down.weight", hidden, shape["inter"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Peer:
    def __init__(self, path, threads):
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, "llama.cpp did not load the model"
        context = llama_cpp.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch, context.n_seq_max = 8192, 2048, 512, 8
        context.n_threads = context.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, context)
        assert self.context, "llama.cpp made no context"
        self.batch = llama_cpp.llama_batch_init(2048, 0, 8)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def step(self, rows):
        """rows: (token, position, sequence, wants logits)"""
        self.batch.n_tokens = len(rows)
        for i, (token, position, sequence, wants) in enumerate(rows):
            self.batch.token[i], self.batch.pos[i] = token, position
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
            self.batch.logits[i] = wants
        assert llama_cpp.llama_decode(self.context, self.batch) == 0
        llama_cpp.llama_synchronize(self.context)

    def prefill(self, n):
        self.clear()
        began = time.perf_counter()
        self.step([(i % 1000 + 10, i, 0, i == n - 1) for i in range(n)])
        return n / (time.perf_counter() - began)

    def decode(self, n_sequences, n_steps):
        self.clear()
        for sequence in range(n_sequences):
            self.step([(i % 1000 + 10, i, sequence, i == 15) for i in range(16)])
        began = time.perf_counter()
        for step in range(n_steps):
            self.step([(step + 10, 16 + step, sequence, True) for sequence in range(n_sequences)])
        return n_sequences * n_steps / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path("/tmp/llama-peer"))
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    path = args.dir / f"{args.shape}.gguf"
    if not path.exists():
        write_model(path, SHAPES[args.shape])
    llama_cpp.llama_log_set(ctypes.cast(None, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
    peer = Peer(path, args.threads)
    n_steps, n_prompt = (16, 128) if args.shape == "7b" else (64, 512)
    peer.decode(1, 4)
    report = {
        "peer": f"llama-cpp-python {llama_cpp.__version__}, Q4_0",
        "shape": args.shape,
        "threads": args.threads,
        "decode_1": statistics.median(peer.decode(1, n_steps) for _ in range(RUNS)),
        "decode_8": statistics.median(peer.decode(8, n_steps) for _ in range(RUNS)),
        "prefill": statistics.median(peer.prefill(n_prompt) for _ in range(RUNS)),
        "n_prompt": n_prompt,
    }
    print(json.dumps({key: round(value, 1) if isinstance(value, float) else value for key, value in report.items()}))


if __name__ == "__main__":
    main()
