"""Expands templates: `{a|b}` picks one, `[a]` may be left out, `<name>` is a list of words.txt, `$name` a slot.

Knows nothing of customers or shops, and never invents a slot's value: it is told how.

Invariants: the same random state gives the same text; a wording marked with `~` appears only when
held-out text is asked for.
"""

import functools
import re

TOKEN = re.compile(r"[{}\[\]|]|<[a-z_]+>|\$[a-z]+")
SHARE_HELD = 0.5  # How often held-out text takes a held-out wording where a list has one.


def split_top(text):
    """The alternatives of a line: parts between bars that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
        elif char == "|" and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    if depth != 0:
        raise ValueError(f"unbalanced brackets in template: {text}")
    return [part.strip() for part in [*parts, text[start:]]]


@functools.lru_cache(maxsize=None)
def parse(text):
    """A template as nested tuples: ("text", s), ("list", name), ("slot", name), ("pick", (sequence, ...))."""
    tokens, at = [], 0
    for match in TOKEN.finditer(text):
        if match.start() > at:
            tokens.append(text[at : match.start()])
        tokens.append(match.group())
        at = match.end()
    if at < len(text):
        tokens.append(text[at:])
    sequence, rest = _sequence(tokens, 0)
    if rest != len(tokens):
        raise ValueError(f"a bar or closing bracket too many in template: {text}")
    return sequence


def _sequence(tokens, at):
    nodes = []
    while at < len(tokens) and tokens[at] not in ("|", "}", "]"):
        token = tokens[at]
        if token in ("{", "["):
            options, at = _options(tokens, at + 1)
            nodes.append(("pick", ((), *options) if token == "[" else options))
        elif token[0] == "<" and token.endswith(">"):
            nodes.append(("list", token[1:-1]))
        elif token[0] == "$" and token[1:].isalpha():
            nodes.append(("slot", token[1:]))
        else:
            nodes.append(("text", token))
        at += 1
    return tuple(nodes), at


def _options(tokens, at):
    options = []
    while True:
        sequence, at = _sequence(tokens, at)
        options.append(sequence)
        if tokens[at] in ("}", "]"):
            return tuple(options), at
        at += 1


class Words:
    """Lists of wordings, the common ones apart from those kept for held-out text."""

    def __init__(self):
        self.common, self.held = {}, {}

    def add(self, name, line):
        wordings = split_top(line)
        self.common[name] = [parse(w) for w in wordings if not w.startswith("~")]
        self.held[name] = [parse(w[1:]) for w in wordings if w.startswith("~")]

    def pick(self, name, rng, held):
        if held and self.held[name] and rng.random() < SHARE_HELD:
            return rng.choice(self.held[name])
        return rng.choice(self.common[name])


class Speaker:
    """Expands templates for one dialogue: holds its random state and the values its slots have got."""

    def __init__(self, words, rng, held, new_value):
        self.words, self.rng, self.held, self.new_value = words, rng, held, new_value
        self.slots = {}

    def value(self, name):
        if name not in self.slots:
            self.slots[name] = self.new_value(name, self.rng, self.held)
        return self.slots[name]

    def say(self, template):
        """A list of (text, slot name or None)."""
        pieces = []
        self._walk(parse(template), pieces)
        return tidy(pieces)

    def text(self, template):
        return "".join(text for text, _ in self.say(template))

    def _walk(self, sequence, pieces):
        for kind, what in sequence:
            if kind == "text":
                pieces.append((what, None))
            elif kind == "slot":
                pieces.append((self.value(what), what))
            elif kind == "list":
                self._walk(self.words.pick(what, self.rng, self.held), pieces)
            else:
                self._walk(self.rng.choice(what), pieces)


def slots_in(template):
    return set(re.findall(r"\$([a-z]+)", template))


def tidy(pieces):
    """Joins neighbours that are no slots, and drops double spaces left by what was left out."""
    joined = []
    for text, slot in pieces:
        if joined and slot is None and joined[-1][1] is None:
            joined[-1] = (joined[-1][0] + text, None)
        else:
            joined.append((text, slot))
    tidied = []
    for idx, (text, slot) in enumerate(joined):
        if slot is None:
            text = re.sub(r" +", " ", text)
            text = re.sub(r" ([?.,!])", r"\1", text)
            text = text.lstrip(" ") if idx == 0 else text
            text = text.rstrip(" ") if idx == len(joined) - 1 else text
        tidied.append((text, slot))
    return [(text, slot) for text, slot in tidied if text]
