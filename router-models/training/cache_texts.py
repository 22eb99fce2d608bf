"""Reads the public sets the semantic cache's models are trained and measured on.

Does not train, and draws no conclusion. Every set stands in DATA_DIR/cache as gzipped JSON lines;
its public origin is named beside its reader.

Invariants: a pair's half is fixed by the hash of its component (all texts tied by any pair, alike or not),
so that no text stands in both halves; streams are only ever measured on, never trained on.
"""

import collections
import dataclasses
import gzip
import hashlib
import json
import pathlib

ONE_IN_HELD = 7
SAME_FROM, DIFFERENT_TO = 4.5, 3.0  # Of the 0..5 relatedness scale of SICK and STS; what lies between is left out.

STREAMS = {
    "bitext": "Bitext customer support, intent and entity value (CDLA-Sharing-1.0)",
    "banking77": "BANKING77, intent (CC-BY-4.0)",
    "clinc150": "CLINC150, intent; every out-of-scope text stands alone (CC-BY-3.0)",
    "qqp": "Quora Question Pairs through the GPTCache repository, class of duplicates (Quora terms)",
}


@dataclasses.dataclass
class Pair:
    source: str
    a: str
    b: str
    same: bool
    diff: tuple = ()
    jaccard: float = 0.0
    entail: str = ""
    group: str = ""  # Hash of the component.
    cls: str = ""  # Texts of one class have the same answer.

    @property
    def is_held(self):
        return int(self.group, 16) % ONE_IN_HELD == 0


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def stream(data_dir, name):
    """Texts of a stream with their answers, in file order."""
    rows = lines(pathlib.Path(data_dir) / "cache" / f"stream_{name}.jsonl.gz")
    return [row["text"] for row in rows], [row["answer"] for row in rows]


def qqp(folder):
    """Quora Question Pairs through the GPTCache repository (Quora terms)."""
    rows = lines(folder / "pairs_qqp.jsonl.gz")
    return [Pair("qqp", r["a"], r["b"], r["same"], tuple(r["diff"]), r["jaccard"]) for r in rows]


def misc(folder):
    """MRPC, SICK 2014 and the question pairs of STS 2016 (research licences)."""
    pairs = []
    for r in lines(folder / "pairs_misc.jsonl.gz"):
        label, entail = r["label"], r.get("entail") or ""
        if r["set"] == "mrpc":
            same = bool(label)
        elif entail == "CONTRADICTION":
            same = False
        elif float(label) >= SAME_FROM and entail != "NEUTRAL":
            same = True
        elif float(label) <= DIFFERENT_TO or entail == "NEUTRAL":
            same = False
        else:
            continue
        pairs.append(Pair(r["set"].replace("-", ""), r["a"], r["b"], same, jaccard=overlap(r["a"], r["b"]), entail=entail))
    return pairs


def overlap(a, b):
    words = [set("".join(c if c.isalnum() else " " for c in text.lower()).split()) for text in (a, b)]
    return len(words[0] & words[1]) / max(1, len(words[0] | words[1]))


def roots(edges):
    """Each node's representative: the least node of its component."""
    parent = {}

    def find(x):
        parent.setdefault(x, x)
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for a, b in edges:
        low, high = sorted((find(a), find(b)))
        parent[high] = low
    return {node: find(node) for node in list(parent)}


def pairs(data_dir):
    """All labelled pairs, with their groups and classes."""
    folder = pathlib.Path(data_dir) / "cache"
    rows = qqp(folder) + misc(folder)
    group = roots((p.a, p.b) for p in rows)
    cls = roots((p.a, p.b) for p in rows if p.same)
    for p in rows:
        p.group = hashlib.sha256(group[p.a].encode()).hexdigest()
        p.cls = cls.get(p.a, p.a)
    return rows, lambda text: cls.get(text, text)


def trained_texts(rows):
    """Texts of the training half: a stream is measured without them as well."""
    return {text for p in rows if not p.is_held for text in (p.a, p.b)}


def slices(p):
    """The adversarial slices a different pair belongs to."""
    if p.same:
        return []
    names = []
    if p.source == "qqp":
        names += [name for flag, name in (("num", "qqp number"), ("neg", "qqp negation"), ("swap1", "qqp one word")) if flag in p.diff]
        names += ["qqp jaccard >= .8"] if p.jaccard >= 0.8 else []
    if p.entail == "CONTRADICTION":
        names.append("sick contradiction")
    return names


def counts(rows):
    return collections.Counter((p.source, "same" if p.same else "different", "held out" if p.is_held else "train") for p in rows)
