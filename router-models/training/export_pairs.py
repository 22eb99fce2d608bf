"""Writes the held-out pairs as `stiver eval guard` reads them, each with what it is an example of.

    python export_pairs.py DATA_DIR pairs.jsonl.gz

A pair's kind is its set, or, where it is different and belongs to adversarial slices (`cache_texts.slices`), their
names. A pair of several slices stands in the file once for each, so that figures by kind are those of the cards.

Invariant: no pair of the training half is written.
"""

import gzip
import json
import pathlib
import sys

import cache_texts


def rows(pairs):
    for p in pairs:
        if p.is_held:
            for kind in cache_texts.slices(p) or [p.source]:
                yield {"a": p.a, "b": p.b, "same": p.same, "kind": kind}


def main(data_dir, path):
    written = list(rows(cache_texts.pairs(data_dir)[0]))
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
    print(f"{len(written)} pairs")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python export_pairs.py DATA_DIR pairs.jsonl.gz")
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
