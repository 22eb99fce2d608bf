"""Trains, measures and writes the complexity model: how much a prompt needs the strong model, in [0, 1].

Does not read the weak model's answer, and downloads nothing.

    python train_complexity.py DATA_DIR [--out ../complexity] [--embedder ../embedder]

DATA_DIR holds `routing/` and `cache/`; `routing_data.py` names the public origin of every set.
The model is a sum of three readings of a text, all linear, so that it costs microseconds:

- presence of tokens and pairs of tokens, weighted by rarity (ridge regression on d);
- the mean of static token vectors, taken from the sentence embedder, with a few counts (ridge on d);
- the same inputs, telling everyday requests from benchmark questions from hard tasks (the level),
  with a dead zone around benchmark questions.

Invariants: fixed seeds; every reported figure comes from rows the fold did not train on; the level
never sees a benchmark row's d.
"""

import argparse
import hashlib
import json
import pathlib
import time

import numpy as np
import onnx
import onnxruntime
import scipy.sparse as sp
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold
from tokenizers import Tokenizer

import features
import routing_data

SEED = 7
N_VOCABULARY, N_STATIC = 30522, 128
N_SPARSE = N_VOCABULARY + features.N_PAIRS
SHARE_OWN_D = 0.4  # The rest of a target is its group's mean: d of one row is mostly noise.
GROUP_PRIOR_ROWS = 10
WEIGHTS = {"mmlu": 1.0, "gsm8k": 2.0, "gsm8k_train": 0.1, "alpaca_eval": 0.5}
WEIGHT_OTHER = 0.45
ALPHA_SPARSE, ALPHA_STATIC = 4.0, 1000.0
STEP_SLOPE = 0.05  # d per standard deviation of the number of calculations.
LEVELS = {"easy": -5.0, "bench": 0.0, "hard": 6.0}  # In logits, before the dead zone.
LEVEL_WEIGHTS = {"easy": 1.0, "bench": 2.0, "hard": 2.0}
DEAD_ZONE = 0.8  # Levels nearer to 0 than this count as 0, so that they cannot disturb the order of benchmark prompts.
CENTRE = -0.4  # The logit of a benchmark prompt of average need.
STRETCH = 2.5  # How much wider than calibrated the score is spread; the card's table maps it back.
N_EVERYDAY_EACH, N_HARD_COMBINED = 900, 400
N_BOOTSTRAP = 1000


# --- What the model sees -------------------------------------------------------------------------


class Seen:
    """The three inputs of the model for a list of texts."""

    def __init__(self, tokenizer, texts):
        self.ids = [features.token_ids(tokenizer, text) for text in texts]
        self.numbers = np.stack([features.numbers(text, ids) for text, ids in zip(texts, self.ids)])
        rows, columns = [], []
        for row, ids in enumerate(self.ids):
            present = np.concatenate([np.unique(ids), N_VOCABULARY + np.unique(features.pair_ids(ids))])
            rows.append(np.full(len(present), row))
            columns.append(present)
        rows, columns = np.concatenate(rows), np.concatenate(columns)
        self.present = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(texts), N_SPARSE))


def static_vectors(embedder_dir):
    """Each token alone through the sentence embedder, on its leading principal axes."""
    run = onnxruntime.InferenceSession(str(embedder_dir / "model.onnx"), providers=["CPUExecutionProvider"])
    rows = []
    for start in range(0, N_VOCABULARY, 512):
        tokens = np.arange(start, min(start + 512, N_VOCABULARY))
        ids = np.stack([np.full_like(tokens, 101), tokens, np.full_like(tokens, 102)], axis=1)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        rows.append(run.run(None, feed)[0].mean(1))
    vectors = np.concatenate(rows)
    vectors -= vectors.mean(0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    return vectors @ axes[:N_STATIC].T


# --- The model -----------------------------------------------------------------------------------


class Inputs:
    """Turns what is seen into matrices, with the rarity of tokens fixed by one set of texts."""

    def __init__(self, seen, vectors):
        n_rows = len(seen.ids)
        self.idf = np.log((n_rows + 1) / (np.asarray(seen.present.sum(0)).ravel() + 1)) + 1
        counts = np.bincount(np.concatenate(seen.ids), minlength=N_VOCABULARY) + 1
        self.vectors = vectors * (1e-3 / (1e-3 + counts / counts.sum()))[:, None]
        dense = self.dense(seen)
        self.centre, self.spread = dense.mean(0), dense.std(0) + 1e-6

    def sparse(self, seen):
        weighted = seen.present @ sp.diags(self.idf)
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
        return (sp.diags(1 / norms) @ weighted).tocsr()

    def dense(self, seen):
        means = np.stack([self.vectors[ids].mean(0) for ids in seen.ids])
        return np.hstack([means, seen.numbers])

    def scaled(self, seen):
        return (self.dense(seen) - self.centre) / self.spread


def targets(rows):
    """d less its source's mean, drawn towards the mean of its group."""
    d = np.array([row.d for row in rows])
    source = np.array([row.source for row in rows])
    group = np.array([f"{row.source}/{row.group}" for row in rows])
    for name in set(source):
        d[source == name] -= d[source == name].mean()
    smooth = np.zeros(len(rows))
    for name in set(group):
        of = group == name
        smooth[of] = SHARE_OWN_D * d[of] + (1 - SHARE_OWN_D) * d[of].sum() / (of.sum() + GROUP_PRIOR_ROWS)
    return smooth


def fit_need(inputs, sparse, dense, rows, extra):
    """Weights of the two readings of d, each scaled to unit spread on its own training rows."""
    y, w = targets(rows), np.array([WEIGHTS.get(row.source, WEIGHT_OTHER) for row in rows])
    if extra is not None:
        extra_sparse, extra_dense, steps = extra
        sparse, dense = sp.vstack([sparse, extra_sparse]).tocsr(), np.vstack([dense, extra_dense])
        y = np.concatenate([y, STEP_SLOPE * (steps - steps.mean()) / steps.std()])
        w = np.concatenate([w, np.full(len(steps), WEIGHTS["gsm8k_train"])])
    a = Ridge(ALPHA_SPARSE, solver="sparse_cg", random_state=SEED).fit(sparse, y, sample_weight=w)
    b = Ridge(ALPHA_STATIC).fit(dense, y, sample_weight=w)
    n = len(rows)
    spread_a, spread_b = a.predict(sparse[:n]).std(), b.predict(dense[:n]).std()
    weights = (a.coef_ / spread_a, b.coef_ / spread_b)
    return weights, sparse[:n] @ weights[0] + dense[:n] @ weights[1]


def fit_level(sparse, dense, kinds, need):
    """Weights that tell easy, bench and hard apart. Anchors aim at what their need leaves over, benchmark rows at 0."""
    kinds = np.array(kinds)
    y = np.array([LEVELS[kind] for kind in kinds]) - np.where(kinds == "bench", 0.0, need)
    w = np.array([LEVEL_WEIGHTS[kind] * 1000.0 / (kinds == kind).sum() for kind in kinds])
    both = sp.hstack([sparse, sp.csr_matrix(dense * 0.1)]).tocsr()
    fitted = Ridge(1.0, solver="sparse_cg", random_state=SEED).fit(both, y, sample_weight=w)
    return fitted.coef_[:N_SPARSE], fitted.coef_[N_SPARSE:] * 0.1, fitted.intercept_


def logit(need, level):
    return CENTRE + need + np.sign(level) * np.maximum(np.abs(level) - DEAD_ZONE, 0)


# --- Measuring -----------------------------------------------------------------------------------


def curve(score, d):
    """Share of the gap recovered when the k prompts of highest score go to the strong model, k = 0..n."""
    order = np.argsort(-score, kind="stable")
    return np.concatenate([[0.0], np.cumsum(d[order])]) / d.sum()


def figures(score, d):
    recovered = curve(score, d)
    n = len(d)
    first = lambda x: float(np.argmax(recovered >= x) / n)
    return {"apgr": float(np.trapezoid(recovered, dx=1 / n)), "cpt50": first(0.5), "cpt80": first(0.8)}


def with_intervals(score, d):
    rng = np.random.default_rng(SEED)
    draws = []
    while len(draws) < N_BOOTSTRAP:
        pick = rng.integers(0, len(d), len(d))
        if d[pick].sum() > 0:
            draws.append(figures(score[pick], d[pick]))
    report = {"n": len(d)}
    for name, value in figures(score, d).items():
        low, high = np.percentile([draw[name] for draw in draws], [2.5, 97.5])
        report[name] = [round(value, 3), round(float(low), 3), round(float(high), 3)]
    if 0 < (d > 0).mean() < 1:
        report["auc"] = round(float(roc_auc_score(d > 0, score)), 3)
    return report


class Bench:
    """Everything folds share: rows, what is seen of them, and how to fit on some and score others."""

    def __init__(self, rows, seen, inputs, extra, anchors):
        self.rows, self.extra, self.inputs = rows, extra, inputs
        self.sparse, self.dense = inputs.sparse(seen), inputs.scaled(seen)
        self.anchors = anchors
        self.d = np.array([row.d for row in rows])
        self.source = np.array([row.source for row in rows])

    def need(self, train, test):
        rows = [self.rows[i] for i in train]
        # The worked answers are of GSM8K, so they leave together with it.
        extra = self.extra if any(row.source == "gsm8k" for row in rows) else None
        weights, fitted = fit_need(self.inputs, self.sparse[train], self.dense[train], rows, extra)
        return (self.sparse[test] @ weights[0] + self.dense[test] @ weights[1] - fitted.mean()) / fitted.std()

    def out_of_fold(self, folds):
        score = np.full(len(self.rows), np.nan)
        for train, test in folds:
            score[test] = self.need(train, test)
        return score


def folds_of(bench):
    everyone = np.arange(len(bench.rows))
    group = np.array([row.group for row in bench.rows])
    inside = list(KFold(5, shuffle=True, random_state=SEED).split(everyone))
    mmlu, rest = everyone[bench.source == "mmlu"], everyone[bench.source != "mmlu"]
    subjects = [
        (np.concatenate([mmlu[train], rest]), mmlu[test])
        for train, test in GroupKFold(5).split(mmlu, groups=group[mmlu])
    ]
    family = np.array([name.split("_")[0] for name in bench.source])
    sources = [(everyone[family != name], everyone[family == name]) for name in sorted(set(family)) if name != "mmlu"]
    return inside, subjects + sources


# --- Writing -------------------------------------------------------------------------------------


def collapse(inputs, reading):
    """A reading as one number a token, a pair and a count: means and sums are linear, so they fold."""
    sparse, dense, bias = reading
    dense = dense / inputs.spread
    return {
        "push": (sparse * inputs.idf).astype(np.float32),
        "mean": (inputs.vectors @ dense[:N_STATIC]).astype(np.float32),
        "numbers": dense[N_STATIC:].astype(np.float32),
        "bias": np.array([bias - inputs.centre @ dense], np.float32),
    }


class Graph:
    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def total(self, table, of, output):
        """The sum of a table's entries at the given places."""
        return self.add("ReduceSum", [self.add("Gather", [table, of], output + ".each")], output, keepdims=0)

    def reading(self, name, parts):
        token = self.constant(f"{name}.token", parts["push"][:N_VOCABULARY])
        pair = self.constant(f"{name}.pair", parts["push"][N_VOCABULARY:])
        tokens, pairs = self.total(token, "tokens", f"{name}.tokens"), self.total(pair, "pairs", f"{name}.pairs")
        presence = self.add("Div", [self.add("Add", [tokens, pairs], f"{name}.push"), "norm"], f"{name}.presence")
        each = self.add("Gather", [self.constant(f"{name}.mean", parts["mean"]), "input_ids"], f"{name}.means")
        mean = self.add("ReduceMean", [each], f"{name}.average", keepdims=0)
        weighed = self.add("Mul", ["numbers", self.constant(f"{name}.numbers", parts["numbers"])], f"{name}.weighed")
        counted = self.add("ReduceSum", [weighed], f"{name}.counted", keepdims=0)
        return self.add("Sum", [presence, mean, counted, self.constant(f"{name}.bias", parts["bias"])], name)


def build(inputs, need, level):
    """The model as ONNX: ids and counts in, one score out."""
    g = Graph()
    for name, value in (("factor", features.PAIR_FACTOR), ("n_pairs", features.N_PAIRS)):
        g.constant(name, np.array(value, np.int64))
    for name, value in (("start", features.START_ID), ("first", 0), ("last", -1)):
        g.constant(name, np.array([value], np.int64))
    g.add("Unique", ["input_ids"], "tokens", sorted=1)
    but_last = g.add("Slice", ["input_ids", "first", "last"], "but_last")
    before = g.add("Concat", ["start", but_last], "before", axis=0)
    summed = g.add("Add", [g.add("Mul", [before, "factor"], "multiplied"), "input_ids"], "summed")
    g.add("Unique", [g.add("Mod", [summed, "n_pairs"], "hashed")], "pairs", sorted=1)

    rarity = (inputs.idf**2).astype(np.float32)
    token = g.total(g.constant("token.rarity", rarity[:N_VOCABULARY]), "tokens", "token.rarities")
    pair = g.total(g.constant("pair.rarity", rarity[N_VOCABULARY:]), "pairs", "pair.rarities")
    g.add("Sqrt", [g.add("Add", [token, pair], "rarities")], "norm")

    g.reading("need", collapse(inputs, need))
    g.reading("level", collapse(inputs, level))
    zone = g.constant("dead_zone", np.array([DEAD_ZONE], np.float32))
    above = g.add("Relu", [g.add("Sub", ["level", zone], "over")], "above")
    below = g.add("Relu", [g.add("Sub", [g.add("Neg", ["level"], "negated"), zone], "under")], "below")
    outside = g.add("Sub", [above, below], "outside")
    centre = g.constant("centre", np.array([CENTRE], np.float32))
    g.add("Sigmoid", [g.add("Sum", ["need", outside, centre], "logit")], "score")

    info = helper.make_tensor_value_info
    inputs = [info("input_ids", TensorProto.INT64, ["n_tokens"]), info("numbers", TensorProto.FLOAT, [len(features.NAMES)])]
    made = helper.make_graph(g.nodes, "complexity", inputs, [info("score", TensorProto.FLOAT, [1])], g.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="train_complexity")


class Scorer:
    """The written file, run as the gateway runs it."""

    def __init__(self, path, tokenizer):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizer

    def __call__(self, text):
        ids = features.token_ids(self.tokenizer, text)
        return float(self.run.run(None, {"input_ids": ids, "numbers": features.numbers(text, ids)})[0][0])


def golden(score, prompts):
    """Texts the gateway's own reading is compared on."""
    chosen = prompts["held_out"]["easy"][:6] + prompts["held_out"]["hard"][:6] + [
        "", " ", "a", "Was kostet das? 12,50 € – oder 100 %?", "今天天气怎么样？", "🙂🙂 ok!!",
        "```python\ndef add(a, b):\n    return a + b\n```\nWhy does add('1', 2) fail?",
        "1. First\n2. Second\n- third\n* fourth\nA. one\nB) two", "x = $\\frac{a+b}{c}$ < 10^-3; solve for [a, b]_{i}.",
        "word " * 700, "Line of text number 1234.\n" * 300, "é" * 5000,
    ]
    rows = []
    for text in chosen:
        ids = features.token_ids(score.tokenizer, text)
        values = [round(float(v), 6) for v in features.numbers(text, ids)]
        rows.append({"text": text, "n_ids": len(ids), "ids_sum": int(ids.sum()), "numbers": values, "score": round(score(text), 6)})
    return rows


# --- The story -----------------------------------------------------------------------------------


def anchors_of(data_dir, prompts):
    rng = np.random.default_rng(SEED)
    parts, combined = prompts["hard_parts"], []
    for task in parts["tasks"]:
        slot = task[task.index("{") + 1]
        combined += [task.replace("{%s}" % slot, filler) for filler in parts[slot]]
    easy = prompts["easy"] * 8 + routing_data.everyday(data_dir, N_EVERYDAY_EACH)
    hard = prompts["hard"] * 4 + [combined[i] for i in rng.permutation(len(combined))[:N_HARD_COMBINED]]
    return easy, hard


def calibrated_slope(score, d, source):
    """One unit of need in logits: the slope of P(strong right and weak wrong) were both outcomes equally frequent."""
    keep = np.isin(source, ["mmlu", "gsm8k"]) | np.char.startswith(source.astype(str), "routerbench")
    fit = LogisticRegression(class_weight="balanced").fit(score[keep, None], d[keep] > 0)
    return float(fit.coef_[0, 0])


def buckets(score, d, source):
    """Measured outcomes by score, for the card."""
    table = []
    for name in ("mmlu", "gsm8k", "llmrouter"):
        of = source == name
        for low, high in ((0, 0.2), (0.2, 0.35), (0.35, 0.5), (0.5, 0.65), (0.65, 0.8), (0.8, 1.01)):
            inside = of & (score >= low) & (score < high)
            if inside.sum():
                table.append([name, low, min(high, 1.0), int(inside.sum()), round(float((d[inside] > 0).mean()), 3), round(float(d[inside].mean()), 3)])
    return table


def at_cut(score, d, source, cut):
    """Per source: share of prompts at or above the cut, and share of the gap they recover."""
    report = {}
    for name in sorted(set(source)):
        of = source == name
        above = of & (score >= cut)
        report[name] = [round(float(above.sum() / of.sum()), 3), round(float(d[above].sum() / d[of].sum()), 3)]
    return report


def latency(score):
    text = "How many of the following statements about sorting are true and why? " * 60
    report = {}
    for n_tokens in (16, 128, 512):
        ids = features.token_ids(score.tokenizer, text)[:n_tokens]
        values, times = features.numbers(text, ids), []
        for _ in range(500):
            began = time.perf_counter()
            score.run.run(None, {"input_ids": ids, "numbers": values})
            times.append((time.perf_counter() - began) * 1e3)
        report[n_tokens] = [round(float(np.percentile(times, q)), 3) for q in (50, 99)]
    return report


def main():
    parser = argparse.ArgumentParser()
    here = pathlib.Path(__file__).parent
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=here / "../complexity")
    parser.add_argument("--embedder", type=pathlib.Path, default=here / "../embedder")
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.embedder / "tokenizer.json"))
    prompts = json.loads((here / "prompts.json").read_text(encoding="utf-8"))

    rows = routing_data.measured(options.data_dir)
    questions, steps = routing_data.gsm8k_train(options.data_dir)
    easy, hard = anchors_of(options.data_dir, prompts)
    seen = Seen(tokenizer, [row.text for row in rows])
    inputs = Inputs(Seen(tokenizer, [row.text for row in rows] + easy), static_vectors(options.embedder))
    worked, anchored = Seen(tokenizer, questions), Seen(tokenizer, easy + hard)
    extra = (inputs.sparse(worked), inputs.scaled(worked), steps)
    bench = Bench(rows, seen, inputs, extra, anchored)

    inside, outside = folds_of(bench)
    need_inside, need_outside = bench.out_of_fold(inside), bench.out_of_fold(outside)
    slope = calibrated_slope(need_inside, bench.d, bench.source)
    scale = slope * STRETCH

    weights, fitted = fit_need(inputs, bench.sparse, bench.dense, rows, extra)
    unit = scale / fitted.std()
    need = (weights[0] * unit, weights[1] * unit, -fitted.mean() * unit)
    anchor_sparse, anchor_dense = inputs.sparse(anchored), inputs.scaled(anchored)
    level = fit_level(
        sp.vstack([bench.sparse, anchor_sparse]).tocsr(), np.vstack([bench.dense, anchor_dense]),
        ["bench"] * len(rows) + ["easy"] * len(easy) + ["hard"] * len(hard),
        np.concatenate([np.zeros(len(rows)), anchor_sparse @ need[0] + anchor_dense @ need[1] + need[2]]),
    )
    level_of_rows = bench.sparse @ level[0] + bench.dense @ level[1] + level[2]

    report = {"calibrated_slope": round(slope, 3), "inside": {}, "outside": {}, "need_alone": {}}
    for name in sorted(set(bench.source)):
        of = bench.source == name
        report["need_alone"][name] = [round(figures(n[of], bench.d[of])["apgr"], 3) for n in (need_inside, need_outside)]
        for where, kept_out in (("inside", need_inside), ("outside", need_outside)):
            report[where][name] = with_intervals(logit(scale * kept_out, level_of_rows)[of], bench.d[of])
    score_rows = 1 / (1 + np.exp(-logit(scale * need_inside, level_of_rows)))
    report["buckets"] = buckets(score_rows, bench.d, bench.source)
    report["quantiles"] = {
        name: [round(float(q), 3) for q in np.percentile(score_rows[bench.source == name], [5, 25, 50, 75, 95])]
        for name in sorted(set(bench.source))
    }
    report["at_0.35"] = at_cut(score_rows, bench.d, bench.source, 0.35)

    options.out.mkdir(parents=True, exist_ok=True)
    model = build(inputs, need, level)
    onnx.checker.check_model(model)
    path = options.out / "model.onnx"
    onnx.save(model, path)
    (options.out / "tokenizer.json").write_bytes((options.embedder / "tokenizer.json").read_bytes())

    score = Scorer(path, tokenizer)
    report["held_out"] = {kind: {text[:60]: round(score(text), 3) for text in texts} for kind, texts in prompts["held_out"].items()}
    report["latency_ms"] = latency(score)
    report["size_bytes"] = path.stat().st_size
    report["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (options.out / "golden.json").write_text(json.dumps(golden(score, prompts), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
