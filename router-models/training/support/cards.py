"""Reads the cards: for each intent its wordings, its answers and what may be asked next.

Makes no dialogue. The files say themselves what their lines mean (cards_orders.txt).

Invariants: an entry is for training or held out, by its checksum; every card has an answer without
a slot that the caller must give.
"""

import dataclasses
import pathlib
import zlib

from support import grammar, rewording

FOLDER = pathlib.Path(__file__).parent
FILES = ("orders", "delivery", "returns", "payment", "account", "shop", "talk")
KINDS = "vnwsi"
ASIDE = ("long", "cost", "where")
ONE_IN_HELD = 8
LEAST_TO_HOLD = 4  # A kind with fewer entries keeps them all for training.


@dataclasses.dataclass
class Card:
    intent: str
    group: str
    entries: dict = dataclasses.field(default_factory=lambda: {kind: [] for kind in KINDS})
    held: dict = dataclasses.field(default_factory=lambda: {kind: [] for kind in KINDS})
    answers: list = dataclasses.field(default_factory=list)
    follow_ups: list = dataclasses.field(default_factory=list)
    aside: dict = dataclasses.field(default_factory=dict)
    is_sorry: bool = False

    def side(self, held):
        return self.held if held else self.entries

    def answer(self, known, steps):
        """The answer that repeats most of the known slots; numbered steps if asked for and there."""
        fitting = [a for a in self.answers if grammar.slots_in(a) <= known]
        most = max(len(grammar.slots_in(a)) for a in fitting)
        best = [a for a in fitting if len(grammar.slots_in(a)) == most]
        of_form = [a for a in best if ("\\n1." in a) == steps]
        return (of_form or best)[0]


def sort_entry(card, kind, entry, may_hold):
    if entry.startswith("~"):
        card.held[kind].append(entry[1:])
    elif may_hold and zlib.crc32(f"{card.intent} {entry}".encode()) % ONE_IN_HELD == 0:
        card.held[kind].append(entry)
    else:
        card.entries[kind].append(entry)


def read_line(card, line):
    kind, _, rest = line.partition(" ")
    if line == "!sorry":
        card.is_sorry = True
    elif kind in KINDS:
        entries = grammar.split_top(rest)
        for entry in entries:
            sort_entry(card, kind, entry, len(entries) >= LEAST_TO_HOLD)
    elif kind == "a":
        card.answers.append(rest)
    elif kind == "f":
        question, arrow, answer = rest.partition(" => ")
        if not arrow:
            raise ValueError(f"{card.intent}: a follow-up needs ` => `: {line}")
        card.follow_ups.append((question, answer))
    elif kind in ASIDE:
        card.aside[kind] = rest
    else:
        raise ValueError(f"{card.intent}: no line begins with `{kind}`: {line}")


def lines_of(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()


def read_words(words, lines):
    """Adds the lists, and gives back the lines that are none."""
    rest = []
    for line in lines:
        name, colon, wordings = line.partition(": ")
        if colon and name.replace("_", "").isalpha() and name.islower() and " " not in name and not rest:
            words.add(name, wordings)
        else:
            rest.append(line)
    return rest


def read_cards(lines, group):
    cards = []
    for line in lines:
        if line.startswith("= "):
            cards.append(Card(line[2:], group))
        else:
            read_line(cards[-1], line)
    return cards


def load():
    """All cards by intent, and the lists they use."""
    words, cards = grammar.Words(), []
    for name in ("words.txt", "world.txt"):
        read_words(words, lines_of(FOLDER / name))
    for name in FILES:
        cards += read_cards(lines_of(FOLDER / f"cards_{name}.txt"), name)
    cards += read_cards(read_words(words, lines_of(FOLDER / "strangers.txt")), "strangers")
    for card in cards:
        if not any(grammar.slots_in(a) <= {"order"} for a in card.answers):
            raise ValueError(f"{card.intent}: no answer without a slot")
    return {card.intent: card for card in cards}, words


def load_synonyms():
    synonyms = rewording.Synonyms()
    for line in lines_of(FOLDER / "synonyms.txt"):
        synonyms.add(line)
    return synonyms
