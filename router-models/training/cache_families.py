"""Makes families of messages to shops, banks and household assistants: messages of one family ask for the same thing, in many words.

Takes the support assistant's grammar (support/) and cache_everyday.txt, both written for this project; knows no stream.

Invariants: a message's key is its intent with the values it says; two messages may share an answer
exactly when their keys are equal.
"""

import pathlib

from support import cards, dialogue, noise, rewording

IGNORED = {"name", "odd", "shop"}  # Said in passing; the answer does not hang on them.
SHARE_WRAPPED = 0.3
BARE = {"talk", "home", "trip", "work", "self"}  # Said to a machine, without greeting.
SHARE_OTHER_VALUE = 0.7
SHARE_OWN_CARD = 0.3  # Of the rest: the same intent, which differs only where other values are said.


class Families:
    def __init__(self, rng):
        self.rng = rng
        by_intent, words = cards.load()
        self.language = (by_intent, words, cards.load_synonyms())
        self.cards = [c for c in by_intent.values() if c.group not in ("strangers",)]
        everyday = pathlib.Path(__file__).parent / "cache_everyday.txt"
        said, *lines = cards.lines_of(everyday)
        self.said = {word.strip() for word in said.removeprefix("said:").split("|")}
        for card in cards.read_cards(lines, "everyday"):
            card.group = card.intent.partition("_")[0]
            by_intent[card.intent] = card
            self.cards.append(card)
        self.by_group = {}
        for card in self.cards:
            self.by_group.setdefault(card.group, []).append(card)

    def message(self, card, slots=None):
        """A message of the card, its key, and the values it was given."""
        writer = dialogue.Writer(self.language, self.rng)
        writer.speaker.slots.update(slots or {})
        if card.group not in BARE and self.rng.random() < SHARE_WRAPPED:
            pieces, _ = writer.wrapped(card)
        else:
            pieces, is_asking, _ = writer.core(card)
            is_asking = is_asking and card.group not in BARE
            pieces = pieces + [("?" if is_asking else "", None)]
        said = sorted((slot, text.lower()) for text, slot in pieces if slot and slot not in IGNORED)
        if card.group in BARE or card.group == "bank":
            words = {word for text, slot in pieces if not slot for word in text.replace("?", "").split()}
            said += [("word", word) for word in sorted(words & self.said)]
        if card.group not in BARE:
            pieces = rewording.reword(pieces, writer.synonyms, self.rng, False)
        return noise.write(pieces, self.rng), (card.intent, *said), dict(writer.speaker.slots)

    def alike(self):
        """Two messages of one key, or None where chance gave them different ones."""
        card = self.rng.choice(self.cards)
        a, key, slots = self.message(card)
        for _ in range(4):
            b, other, _ = self.message(card, slots)
            if other == key and a.lower() != b.lower():
                return a, b, key
        return None

    def unlike(self):
        """Two messages of different keys that are hard to tell apart: another value, or a neighbouring intent."""
        card = self.rng.choice(self.cards)
        a, key, slots = self.message(card)
        said = {slot for slot, _ in key[1:]}
        if said and self.rng.random() < SHARE_OTHER_VALUE:
            b, other, _ = self.message(card, {k: v for k, v in slots.items() if k not in said})
        else:
            near = self.rng.random() < SHARE_OWN_CARD
            neighbour = card if near else self.rng.choice(self.by_group[card.group])
            b, other, _ = self.message(neighbour, None if near else slots)
        return (a, b, key, other) if other != key else None
