"""Writes support dialogues as JSON lines: what the support assistant learns from, or its held-out text.

Does not tokenize or train. Everything is made from the cards in `support/`, which were written for this project.

    python support_text.py N [--held] [--seed 1] > dialogues.jsonl

Invariant: the same seed and number give the same text.
"""

import argparse
import functools
import json
import random
import sys

from support import cards as card_files
from support.dialogue import Writer


@functools.cache
def language_of_cards():
    """What a Writer speaks: cards by intent, lists of words, synonyms."""
    return (*card_files.load(), card_files.load_synonyms())


def dialogues(n, seed, held=False, n_questions=None):
    """`n` dialogues; of exactly `n_questions` each, if that is given."""
    language = language_of_cards()
    for idx in range(n):
        yield Writer(language, random.Random(f"{seed}/{idx}/{held}"), held).dialogue(n_questions)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held", action="store_true")
    args = parser.parse_args()
    for dialogue in dialogues(args.n, args.seed, args.held):
        row = {"messages": dialogue.messages(), "intents": [turn.intent for turn in dialogue.turns]}
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
