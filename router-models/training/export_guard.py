"""Writes the folder of the guard: 8-bit graph, tokenizer, calibration and golden file.

Does not train, and reads only the held-out half of the labelled pairs: one half of it to calibrate on, the other
to say how well that holds.

Invariants: inputs are int64 `input_ids`, `attention_mask`, `token_type_ids` of [batch, seq], made as
guard_model.inputs makes them; the one output is float `logit` of [batch]; the probability is
1 / (1 + exp(-(slope · logit + offset))) with slope and offset of config.json.
"""

import hashlib
import json
import math
import random

import numpy as np
import onnx
import torch
from onnx import TensorProto
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

import cache_texts
import export_embedder
import fast_graph
import guard_model
import minilm

N_SPREAD_PAIRS = 192
GOLDEN = [
    ("How do I reset my password?", "How can I reset my password?"),
    ("turn on dark mode", "turn off dark mode"),
    ("Flights from Oslo to Rome", "Flights from Rome to Oslo"),
    ("What is 17 times 23?", "What is 17 times 24?"),
    ("Which drugs may I take with ibuprofen?", "Which drugs may I not take with ibuprofen?"),
    ("Cancel my subscription", "I want to stop my subscription"),
    ("Where is my parcel?", "What is the capital of France?"),
    ("¿Dónde está mi pedido?", "Where is my order?"),
    ("", "ok"),
    ("word " * 80, "word " * 70),
]


def build(weights, spreads, n_layers):
    body = {name.removeprefix("body."): value for name, value in weights.items() if name.startswith("body.")}
    body["embeddings.position_embeddings.weight"] = body["embeddings.position_embeddings.weight"][: 2 * guard_model.MAX_TOKENS_EACH + 3]
    g = fast_graph.FastGraph(spreads)
    x = export_embedder.encoder(g, body, n_layers)
    mask = g.add("Unsqueeze", [g.add("Cast", ["attention_mask"], to=TensorProto.FLOAT), g.constant("last", np.array([-1]))])
    middle = g.constant("middle", np.array([1]))
    total = g.add("ReduceSum", [g.add("Mul", [x, mask]), middle], keepdims=0)
    mean = g.add("Div", [total, g.add("ReduceSum", [mask, middle], keepdims=0)])
    first = g.add("Squeeze", [g.add("Gather", [x, g.constant("first", np.array([0]))], axis=1), middle])
    wide = g.add("Concat", [first, mean], axis=-1)
    gemm = lambda name, x: g.add(
        "Gemm", [x, *(g.constant(f"head.{name}.{part}", weights[f"head.{name}.{part}"].astype(np.float32)) for part in ("weight", "bias"))], transB=1
    )
    logit = gemm("2", g.add("Gelu", [gemm("0", wide)], domain="com.microsoft"))
    g.add("Squeeze", [logit, g.constant("column", np.array([1]))], output="logit")
    return export_embedder.model_of(g, "cache-guard-8bit", "logit", ["batch"])


class Runner:
    """The exported guard, run on pairs of texts."""

    def __init__(self, folder):
        self.session = export_embedder.session(folder / "model.onnx")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        path = folder / "config.json"
        self.config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"slope": 1.0, "offset": 0.0}
        self.known = {}

    def ids(self, text):
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.known[text]

    def logits(self, pairs, batch=1):
        """In batches of equal length; a batch of one is what a gateway does."""
        seen = [guard_model.inputs(self.ids(a), self.ids(b)) for a, b in pairs]
        out, order = np.zeros(len(seen)), sorted(range(len(seen)), key=lambda i: len(seen[i][0]))
        at = 0
        while at < len(order):
            part = [i for i in order[at : at + batch] if len(seen[i][0]) == len(seen[order[at]][0])]
            ids, kinds = (np.array([seen[i][k] for i in part], dtype=np.int64) for k in (0, 1))
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": kinds}
            out[part] = self.session.run(None, feed)[0]
            at += len(part)
        return out

    def probabilities(self, pairs, batch=1):
        return 1 / (1 + np.exp(-(self.config["slope"] * self.logits(pairs, batch) + self.config["offset"])))


def halves(pairs):
    """Held-out pairs to calibrate on, and held-out pairs to measure on; a component is never in both."""
    held = [p for p in pairs if p.is_held]
    first = lambda p: int(p.group, 16) // cache_texts.ONE_IN_HELD % 2 == 0
    return [p for p in held if first(p)], [p for p in held if not first(p)]


def calibrate(logits, same):
    fitted = LogisticRegression(C=1e6).fit(np.asarray(logits)[:, None], same)
    return {"slope": float(fitted.coef_[0, 0]), "offset": float(fitted.intercept_[0])}


def calibration_error(probabilities, same, n_bins=10):
    """Mean distance of stated and seen share, over bins of equal size."""
    order = np.argsort(probabilities)
    bins = np.array_split(order, n_bins)
    return float(sum(len(b) * abs(probabilities[b].mean() - same[b].mean()) for b in bins) / len(order))


def write(model, pairs, model_dir, out_dir):
    out_dir.mkdir(parents=True, exist_ok=True)
    model.eval()
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(out_dir / "tokenizer.json"), pretty=False)
    rows = random.Random(1).sample([p for p in pairs if not p.is_held], N_SPREAD_PAIRS)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    seen = [guard_model.inputs(encode(p.a), encode(p.b)) for p in rows]
    batches = [tuple(minilm.padded([s[k] for s in seen[at : at + 24]]) for k in (0, 1)) for at in range(0, len(seen), 24)]
    n_layers = len(model.body.encoder["layer"])
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    onnx_model = build(weights, fast_graph.spreads(model.body, batches), n_layers)
    onnx.checker.check_model(onnx_model)
    path = out_dir / "model.onnx"
    onnx.save(onnx_model, path)
    (out_dir / "config.json").unlink(missing_ok=True)
    run = Runner(out_dir)
    to_fit, to_measure = halves(pairs)
    same = lambda part: np.array([p.same for p in part])
    config = calibrate(run.logits([(p.a, p.b) for p in to_fit], batch=16), same(to_fit))
    config |= {"n_layers": n_layers, "max_tokens_each": guard_model.MAX_TOKENS_EACH, "n_calibrated_on": len(to_fit)}
    (out_dir / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    run = Runner(out_dir)
    measured = run.probabilities([(p.a, p.b) for p in to_measure], batch=16)
    (out_dir / "golden.json").write_text(json.dumps(golden(model, run), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(config | {
        "calibration_error": round(calibration_error(measured, same(to_measure)), 4),
        "right": round(float(((measured > 0.5) == same(to_measure)).mean()), 4),
        "size_bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }, indent=1))


def golden(model, run):
    """Pairs with their inputs, the float model's logit and the exported model's, for the gateway's tests."""
    rows = []
    for a, b in GOLDEN:
        ids, kinds = guard_model.inputs(run.ids(a), run.ids(b))
        with torch.no_grad():
            exact = float(model(torch.tensor([ids]), torch.tensor([kinds]))[0])
        ours = float(run.logits([(a, b)])[0])
        probability = 1 / (1 + math.exp(-(run.config["slope"] * ours + run.config["offset"])))
        rows.append({"new": a, "cached": b, "ids": ids, "kinds": kinds, "float_logit": round(exact, 5), "logit": round(ours, 5), "probability": round(probability, 5)})
    return rows
