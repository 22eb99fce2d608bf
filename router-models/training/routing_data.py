"""Reads the public routing sets into rows: source, group, text and d = strong score - weak score.

Does not weigh or split anything. Each set stands in DATA_DIR/routing or DATA_DIR/cache as
gzipped JSON lines; its public origin is named beside its reader.

Invariants: d is in [-1, 1]; a row on which both models fail has d = 0, like one both get right.
"""

import ast
import dataclasses
import gzip
import json
import pathlib

import numpy as np


@dataclasses.dataclass
class Row:
    source: str
    group: str
    text: str
    d: float


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def mmlu(folder):
    """RouteLLM repository (Apache-2.0): MMLU answered by gpt-4-1106-preview and Mixtral-8x7B-Instruct."""
    return [Row("mmlu", r["group"], r["prompt"], r["strong"] - r["weak"]) for r in lines(folder / "mmlu.jsonl.gz")]


def gsm8k(folder):
    """RouteLLM repository (Apache-2.0): GSM8K test questions answered by the same two models."""
    return [Row("gsm8k", "gsm8k", r["prompt"], r["strong"] - r["weak"]) for r in lines(folder / "gsm8k.jsonl.gz")]


def routerbench(folder):
    """RouterBench (MIT): gpt-4-1106-preview against Mixtral-8x7B-chat. Few-shot examples before the question are cut."""
    rows = []
    for r in lines(folder / "routerbench_11models.jsonl.gz"):
        strong, weak = r["score"].get("gpt-4-1106-preview"), r["score"].get("mistralai/mixtral-8x7b-chat")
        if strong is None or weak is None or strong != strong or weak != weak:
            continue
        prompt = r["prompt"]
        prompt = ast.literal_eval(prompt)[0] if prompt.startswith("[") else prompt
        parts = [part for part in prompt.split("\n\n") if part.strip()]
        text = parts[-1] if len(parts) > 3 else prompt
        rows.append(Row("routerbench_" + r["task"], r["task"], text, float(strong) - float(weak)))
    return rows


LLMROUTER_STRONG = ("llama-3.3-nemotron-super-49b-v1", "llama-3.1-nemotron-51b-instruct")
LLMROUTER_WEAK = ("qwen2.5-7b-instruct", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3", "gemma-2-9b-it")


def llmrouter(folder):
    """LLMRouter (MIT): the mean of two models near 50B against the mean of four near 8B."""
    mean = lambda scores, names: float(np.mean([scores[name] for name in names]))
    return [
        Row("llmrouter", str(r["cluster_id"]), r["question"], mean(r["scores"], LLMROUTER_STRONG) - mean(r["scores"], LLMROUTER_WEAK))
        for r in lines(folder / "llmrouter_9models.jsonl.gz")
    ]


ALPACA_NOT_WEAK = ("NullModel", "gpt4_1106_preview", "gpt4_gamed", "gpt4_0613_concise")


def alpaca_eval(folder):
    """AlpacaEval (Apache-2.0 repository, data for research): 0.5 - mean probability of the weaker models to beat gpt-4-1106."""
    rows = []
    for r in lines(folder / "alpaca_eval.jsonl.gz"):
        chances = [p for model, p in r["p_beats_gpt4_1106"].items() if model not in ALPACA_NOT_WEAK and p is not None]
        rows.append(Row("alpaca_eval", r["group"], r["prompt"], 0.5 - float(np.mean(chances))))
    return rows


def measured(data_dir):
    folder = pathlib.Path(data_dir) / "routing"
    return [row for read in (mmlu, gsm8k, routerbench, llmrouter, alpaca_eval) for row in read(folder)]


def gsm8k_train(data_dir):
    """GSM8K training questions (MIT) with the number of calculations in the worked answer: a measure of difficulty, not of d."""
    rows = lines(pathlib.Path(data_dir) / "routing" / "gsm8k_train.jsonl.gz")
    return [r["question"] for r in rows], np.array([r["answer"].count("<<") for r in rows], dtype=float)


EVERYDAY = {
    "bitext": "Bitext customer support (CDLA-Sharing-1.0)",
    "banking77": "BANKING77 (CC-BY-4.0)",
    "clinc150": "CLINC150 (CC-BY-3.0)",
}


def everyday(data_dir, n_each):
    """What people ask assistants and support desks. Taken to be easy; no model's answer was measured."""
    texts = []
    for name in EVERYDAY:
        rows = lines(pathlib.Path(data_dir) / "cache" / f"stream_{name}.jsonl.gz")
        unique = list(dict.fromkeys(row["text"] for row in rows))
        texts += unique[:n_each]
    return texts
