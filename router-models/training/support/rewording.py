"""Says a caller's message in other words: synonyms, fillers, words left out, bare keywords.

Keeps what is asked: a message means the same to a person before and after. Never touches a slot's value.

Invariant: wordings marked `~` in synonyms.txt appear only in held-out text.
"""

import re

from support import slots

WORD = re.compile(r"[a-z][a-z'-]*")
FILLERS = """just actually really maybe um basically kinda like again also somehow honestly apparently unfortunately well so
simply already still perhaps now then here ok please uh sort-of quickly obviously sadly anyway""".split()
MEANINGLESS = set("""a an the my your our i i'd i'm me we it to of for do does did is are am be been was were can could would
will may have has had at on in with that this there please want need like how you and""".split())
CAN_GO = set("a an the my to i do is of for it can on your this are".split())
SHARES = {"synonyms": 0.45, "filler": 0.1, "odd": 0.025, "drop": 0.07, "keywords": 0.06}
SHARE_OF_WORDS = 0.4


class Synonyms:
    def __init__(self):
        self.common, self.held = {}, {}

    def add(self, line):
        word, _, others = line.partition(": ")
        wordings = [other.strip() for other in others.split("|")]
        self.common[word] = [w for w in wordings if not w.startswith("~")]
        self.held[word] = [w[1:] for w in wordings if w.startswith("~")]

    def other(self, word, rng, held):
        if word not in self.common or rng.random() > SHARE_OF_WORDS:
            return word
        return rng.choice(self.common[word] + (self.held[word] * 3 if held else []))


def each_text(pieces, change):
    return [(text if slot else change(text), slot) for text, slot in pieces]


def insert(text, word, rng):
    places = [match.end() for match in re.finditer(r"[a-z](?= )", text)]
    if not places:
        return text
    at = rng.choice(places)
    return f"{text[:at]} {word}{text[at:]}"


def without_one(text, rng):
    places = [match.span() for match in re.finditer(r"(?<=\s)[a-z]+ ", text) if match.group().strip() in CAN_GO]
    if not places:
        return text
    start, end = rng.choice(places)
    return text[:start] + text[end:]


def keywords(text):
    kept = [word for word in re.findall(r"[^\s]+", text) if word.strip(".,!?") not in MEANINGLESS]
    lead, tail = (" " if text.startswith(" ") else ""), (" " if text.endswith(" ") else "")
    return lead + " ".join(kept) + tail if kept else text


def reword(pieces, synonyms, rng, held):
    if rng.random() < SHARES["synonyms"]:
        pieces = each_text(pieces, lambda t: WORD.sub(lambda m: synonyms.other(m.group(), rng, held), t))
    if rng.random() < SHARES["keywords"]:
        return each_text(pieces, keywords)
    if rng.random() < SHARES["drop"]:
        pieces = each_text(pieces, lambda t: without_one(t, rng))
    if rng.random() < SHARES["filler"]:
        pieces = each_text(pieces, lambda t: insert(t, rng.choice(FILLERS), rng))
    if rng.random() < SHARES["odd"]:
        pieces = each_text(pieces, lambda t: insert(t, slots.new_value("odd", rng, held), rng))
    return pieces
