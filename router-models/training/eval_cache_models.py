"""Measures the semantic cache's two models: on held-out pairs, on adversarial slices, and over whole streams.

Trains nothing and chooses nothing. Each part writes what it computed beside the others, so that a broken-off run goes on.

    python eval_cache_models.py embed DATA_DIR EMBEDDER_DIR RUN_DIR NAME              # RUN_DIR/NAME_{stream}.npz, NAME_pairs.npz
    python eval_cache_models.py guard DATA_DIR GUARD_DIR RUN_DIR NAME GUARD_NAME      # RUN_DIR/GUARD_NAME_{NAME}_{stream}.npz
    python eval_cache_models.py report DATA_DIR RUN_DIR NAME[,NAME+GUARD_NAME,...]    # tables

In a report `NAME` is cosine alone, `NAME+GUARD` the guard's probability alone, `NAME&GUARD` both, added as a
logistic regression on half of the held-out pairs weighs them, and `NAME!GUARD` cosine, with the guard's veto over
what it finds least likely: its bar costs VETO_SHARE of the held-out pairs that are the same.

A row's neighbours are rows before it: every request is inserted. A threshold "in hindsight" is the one that serves
most with at most FALSE_SHARE false hits a request; nobody could have known it, so it is a bar and not a method.

Invariants: pairs are of the held-out half; streams are cut at their first rows, in file order.
"""

import argparse
import json
import pathlib

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer

import cache_texts
import export_embedder
import export_guard

FALSE_SHARE = 0.01
N_FIRST = 6000
TOP = 3
LEAST_COSINE = 0.5  # The guard is not asked about neighbours further away: nobody would serve them.
BATCH = 32
SERVED_TARGET = 0.10
VETO_SHARE = 0.03


# --- Embedding -----------------------------------------------------------------------------------


def embed_all(folder, texts, batch):
    """One vector a text. Batches hold texts of equal length, so that only rounding differs from one at a time."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    run = export_embedder.session(folder / "model.onnx")
    unique = list(dict.fromkeys(texts))
    ids = [tokenizer.encode(text).ids[:256] for text in unique]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    rows, at = np.zeros((len(ids), export_embedder.HIDDEN), dtype=np.float32), 0
    while at < len(order):
        part = [i for i in order[at : at + batch] if len(ids[i]) == len(ids[order[at]])]
        rows[part] = export_embedder.embed(run, [ids[i] for i in part])
        at += len(part)
    place = {text: i for i, text in enumerate(unique)}
    return rows[[place[text] for text in texts]]


def held_pairs(data_dir):
    return [p for p in cache_texts.pairs(data_dir)[0] if p.is_held]


def embed(options):
    pairs = held_pairs(options.data_dir)
    texts = [t for p in pairs for t in (p.a, p.b)]
    jobs = [("pairs", texts)] if not options.streams_only else []
    for name in options.streams.split(","):
        jobs.append((name, cache_texts.stream(options.data_dir, name)[0][: options.rows]))
    for name, texts in jobs:
        path = options.run_dir / f"{options.name}_{name}.npz"
        if path.exists() and len(np.load(path)["ids"]) >= len(texts):
            continue
        vectors = embed_all(options.embedder_dir, texts, options.batch)
        save(path, ids=np.arange(len(texts)), embeddings=vectors)
        print(path.name, vectors.shape, flush=True)


def save(path, **arrays):
    beside = path.with_suffix(".new.npz")
    np.savez(beside, **arrays)
    beside.replace(path)


# --- Neighbours and the guard --------------------------------------------------------------------


def neighbours(vectors, top=TOP, block=512):
    """Of each row the nearest rows before it: indices and cosines; -1 where there are too few."""
    n = len(vectors)
    idx, cos = np.full((n, top), -1), np.full((n, top), -1.0, dtype=np.float32)
    for start in range(0, n, block):
        stop = min(n, start + block)
        near = vectors[start:stop] @ vectors[:stop].T
        near[np.arange(stop)[None, :] >= np.arange(start, stop)[:, None]] = -2
        best = np.argsort(-near, axis=1, kind="stable")[:, :top] if stop <= top else np.argpartition(-near, top - 1, axis=1)[:, :top]
        value = np.take_along_axis(near, best, 1)
        order = np.argsort(-value, axis=1, kind="stable")
        best, value = np.take_along_axis(best, order, 1), np.take_along_axis(value, order, 1)
        width = best.shape[1]
        idx[start:stop, :width] = np.where(value > -2, best, -1)
        cos[start:stop, :width] = np.maximum(value, -1)
    return idx, cos


def guard(options):
    run = export_guard.Runner(options.guard_dir)
    pairs = held_pairs(options.data_dir)
    path = options.run_dir / f"{options.guard_name}_pairs.npz"
    if not path.exists():
        save(path, ids=np.arange(len(pairs)), probability=run.probabilities([(p.a, p.b) for p in pairs], BATCH))
        print(path.name, flush=True)
    for name in options.streams.split(","):
        path = options.run_dir / f"{options.guard_name}_{options.name}_{name}.npz"
        if path.exists():
            continue
        texts = cache_texts.stream(options.data_dir, name)[0]
        vectors = np.load(options.run_dir / f"{options.name}_{name}.npz")["embeddings"][: options.rows]
        idx, cos = neighbours(vectors)
        asked = np.argwhere((idx >= 0) & (cos >= LEAST_COSINE) & (np.arange(TOP) < options.top)[None, :])
        probability = np.full(idx.shape, np.nan, dtype=np.float32)
        found = run.probabilities([(texts[i], texts[idx[i, k]]) for i, k in asked], BATCH)
        probability[asked[:, 0], asked[:, 1]] = found
        save(path, ids=np.arange(len(idx)), neighbour=idx, cosine=cos, probability=probability)
        print(path.name, len(asked), flush=True)


# --- Tables --------------------------------------------------------------------------------------


def parts_of(model):
    """The embedder, how the guard counts, and the guard, or nothing."""
    sign = next((c for c in "&+!" if c in model), "+")
    name, _, guard_name = model.partition(sign)
    return name, guard_name, sign


def veto_bar(run_dir, model, pairs):
    """The probability below which the guard forbids."""
    found = np.load(run_dir / f"{parts_of(model)[1]}_pairs.npz")["probability"]
    return float(np.quantile(found[np.array([p.same for p in pairs])], VETO_SHARE))


def logit(probability):
    probability = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(probability / (1 - probability))


def both_of(cosine, probability):
    return np.stack([cosine, logit(probability)], axis=1)


def weigher(run_dir, model, pairs):
    """How cosine and guard are weighed: fitted on the first half of the held-out pairs."""
    name, guard_name, _ = parts_of(model)
    seen = both_of(pair_scores(run_dir, name, pairs), pair_scores(run_dir, f"{name}+{guard_name}", pairs))
    first = {id(p) for p in export_guard.halves(pairs)[0]}
    fit = np.array([id(p) in first for p in pairs])
    return LogisticRegression(C=100.0).fit(seen[fit], np.array([p.same for p in pairs])[fit])


def pair_scores(run_dir, model, pairs):
    """Cosine of the held-out pairs, or the guard's probability, or both."""
    name, guard_name, sign = parts_of(model)
    if sign == "!":
        allowed = pair_scores(run_dir, f"{name}+{guard_name}", pairs) >= veto_bar(run_dir, model, pairs)
        return np.where(allowed, pair_scores(run_dir, name, pairs), -1.0)
    if sign == "&":
        seen = both_of(pair_scores(run_dir, name, pairs), pair_scores(run_dir, f"{name}+{guard_name}", pairs))
        return weigher(run_dir, model, pairs).decision_function(seen)
    if guard_name:
        return np.load(run_dir / f"{guard_name}_pairs.npz")["probability"]
    vectors = np.load(run_dir / f"{name}_pairs.npz")["embeddings"]
    return (vectors[0::2] * vectors[1::2]).sum(1)


def pair_table(pairs, scores):
    """Natural pairs: all of one set. Adversarial: the different pairs of a slice at the threshold that serves a share of natural ones."""
    same = np.array([p.same for p in pairs])
    qqp = np.array([p.source == "qqp" for p in pairs])
    report = {}
    for source in sorted({p.source for p in pairs}):
        of = np.array([p.source == source for p in pairs])
        if same[of].any() and (~same[of]).any():
            report[f"auc {source}"] = [int(of.sum()), round(float(roc_auc_score(same[of], scores[of])), 4)]
    kept = np.sort(scores[qqp & same])[::-1]
    falsely = np.quantile(scores[qqp & ~same], 0.95)
    report["same served at 5 % of different (qqp)"] = round(float((scores[qqp & same] > falsely).mean()), 4)
    members = {}
    for i, p in enumerate(pairs):
        for name in cache_texts.slices(p):
            members.setdefault(name, []).append(i)
    for share in (0.5, 0.7, 0.9):
        threshold = kept[int(share * len(kept))]
        row = {name: round(float((scores[of] >= threshold).mean()), 3) for name, of in sorted(members.items())}
        report[f"different served when {share:.0%} of the same are"] = row
    union = sorted({i for of in members.values() for i in of})
    threshold = np.quantile(scores[union], 1 - SERVED_TARGET)
    report[f"same served at {SERVED_TARGET:.0%} of all slices"] = round(float((kept > threshold).mean()), 4)
    report["slices"] = {name: len(of) for name, of in sorted(members.items())}
    return report


def best_hit_rate(score, right, n_requests):
    """The most hits a request of any threshold with at most FALSE_SHARE false hits a request, and the threshold."""
    order = np.argsort(-score, kind="stable")
    score, right = score[order], right[order]
    false = np.cumsum(~right)
    last = np.append(score[1:] != score[:-1], True)
    fine = last & (false <= FALSE_SHARE * n_requests)
    if not fine.any():
        return 0.0, float("inf"), 0.0
    at = int(np.flatnonzero(fine)[-1])
    return (at + 1 - int(false[at])) / n_requests, float(score[at]), false[at] / n_requests


def nearest(run_dir, name, stream, rows):
    """The nearest row before each row; computed once and kept."""
    path = run_dir / f"near_{name}_{stream}.npz"
    vectors = np.load(run_dir / f"{name}_{stream}.npz")["embeddings"][:rows]
    if not path.exists() or len(np.load(path)["neighbour"]) < len(vectors):
        idx, cos = neighbours(vectors, 1)
        save(path, neighbour=idx[:, 0], cosine=cos[:, 0])
    found = np.load(path)
    return found["neighbour"][:rows], found["cosine"][:rows]


def stream_rows(run_dir, model, stream, rows, fitted=None):
    """Score and neighbour of each row under a model; `fitted` is its weigher or its bar, if it has one."""
    name, guard_name, sign = parts_of(model)
    if not guard_name:
        idx, cos = nearest(run_dir, name, stream, rows)
        return cos.astype(float), idx
    found = np.load(run_dir / f"{guard_name}_{name}_{stream}.npz")
    idx, cos, probability = found["neighbour"][:rows, 0], found["cosine"][:rows, 0], found["probability"][:rows, 0].astype(float)
    asked = ~np.isnan(probability)
    if sign == "!":
        return np.where(asked & (probability >= fitted), cos, -1e3), idx
    score = fitted.decision_function(both_of(cos, np.nan_to_num(probability, nan=0.5))) if sign == "&" else probability
    return np.where(asked, score, -1e3), idx


def fit(run_dir, model, pairs):
    """What a model needs from the held-out pairs before it can score a stream."""
    way = {"&": weigher, "!": veto_bar}.get(parts_of(model)[2])
    return way(run_dir, model, pairs) if way and parts_of(model)[1] else None


def stream_table(data_dir, run_dir, models):
    rows = cache_texts.pairs(data_dir)[0]
    trained, held = cache_texts.trained_texts(rows), [p for p in rows if p.is_held]
    fitted = {model: fit(run_dir, model, held) for model in models}
    for name in cache_texts.STREAMS:
        texts, answers = cache_texts.stream(data_dir, name)
        for rows in sorted({min(N_FIRST, len(texts)), len(texts)}):
            for model in models:
                try:
                    score, idx = stream_rows(run_dir, model, name, rows, fitted[model])
                except FileNotFoundError:
                    continue
                if len(score) < rows:
                    continue
                right = np.array([i >= 0 and answers[r] == answers[i] for r, i in enumerate(idx)])
                hits, threshold, false = best_hit_rate(score, right, rows)
                row = {"stream": name, "rows": rows, "model": model, "hits": round(hits, 4), "false": round(float(false), 4), "threshold": round(threshold, 4), "top right": round(float(right.mean()), 4)}
                if name == "qqp":
                    fresh = np.array([t not in trained for t in texts[:rows]])
                    row["hits of unseen texts"] = round(float((right & (score >= threshold))[fresh].sum() / max(1, fresh.sum())), 4)
                print(json.dumps(row), flush=True)


def report(options):
    models = options.models.split(",")
    pairs = held_pairs(options.data_dir)
    for model in models:
        print(json.dumps({"model": model} | pair_table(pairs, pair_scores(options.run_dir, model, pairs)), indent=1), flush=True)
    stream_table(options.data_dir, options.run_dir, models)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ways = parser.add_subparsers(required=True)
    shapes = {
        "embed": (embed, ["data_dir", "embedder_dir", "run_dir", "name"]),
        "guard": (guard, ["data_dir", "guard_dir", "run_dir", "name", "guard_name"]),
        "report": (report, ["data_dir", "run_dir", "models"]),
    }
    for way, (run, names) in shapes.items():
        one = ways.add_parser(way)
        for name in names:
            one.add_argument(name, type=pathlib.Path if name.endswith("_dir") else str)
        one.add_argument("--rows", type=int, default=None, help="first rows of each stream; all by default")
        one.add_argument("--streams", default=",".join(cache_texts.STREAMS))
        one.add_argument("--streams-only", action="store_true")
        one.add_argument("--batch", type=int, default=BATCH)
        one.add_argument("--top", type=int, default=TOP, help="neighbours the guard is asked about")
        one.set_defaults(run=run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
