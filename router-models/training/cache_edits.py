"""Makes texts that ask for something else by a small change, and texts that ask for the same in other words.

Reads only its own word lists (cache_words.txt) and the texts it is handed; never a stream.

Invariants: the same random state gives the same edit; `differ` never gives back a text that `keep`
could have made; an edit that finds no place to work gives None.
"""

import pathlib
import re

from support import noise

WORD = re.compile(r"[A-Za-z][A-Za-z'+#-]*")
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])")
AUXILIARY = re.compile(r"\b(is|are|was|were|do|does|did|can|could|should|would|will|may|must|has|have)\b", re.I)
DENIAL = re.compile(r"\b(not|never)\s+|n't\b", re.I)
STOPWORDS = set("""a an the of to in on at for and or but is are was were be been being do does did have has had can could
should would will may might must i you he she it we they me my your his her its our their this that these those what which who
whom whose when where why how if then than as with from by about into over after before there here not no nor so too very just
some any all more most other such only own same am get one us them also out up down off s t re ve ll d m don""".split())


def sections():
    groups, name = {}, None
    path = pathlib.Path(__file__).parent / "cache_words.txt"
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            name = line[2:]
            groups[name] = []
        elif line.strip() and not line.startswith("#"):
            groups[name].append([member.strip() for member in line.split("|")])
    return groups


LISTS = sections()
LEADS, TAILS, BETWEEN = LISTS["lead"][0], LISTS["tail"][0], LISTS["between"][0]


def table(groups):
    others = {}
    for group in groups:
        for member in group:
            others.setdefault(member, set()).update(set(group) - {member})
    return {word: sorted(rest) for word, rest in others.items()}


def pattern(words):
    alternatives = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    return re.compile(rf"(?<![\w'])(?:{alternatives})(?![\w'])", re.I)


OPPOSITES, KINDS, SAME = table(LISTS["opposites"]), table(LISTS["kinds"]), table(LISTS["same"])
OPPOSITE_AT, KIND_AT, SAME_AT = pattern(OPPOSITES), pattern(KINDS), pattern(SAME)
BETWEEN_AT = pattern(BETWEEN)


def like(model, word):
    """The word in the model's case."""
    return word.capitalize() if model[:1].isupper() and model[1:].islower() else word.upper() if model.isupper() and len(model) > 1 else word


def replace_one(text, at, others, rng):
    places = list(at.finditer(text))
    if not places:
        return None
    found = rng.choice(places)
    other = like(found.group(), rng.choice(others[found.group().lower()]))
    return text[: found.start()] + other + text[found.end() :]


def opposite(text, rng, _):
    return replace_one(text, OPPOSITE_AT, OPPOSITES, rng)


def kind(text, rng, _):
    return replace_one(text, KIND_AT, KINDS, rng)


def number(text, rng, _):
    places = list(NUMBER.finditer(text))
    if not places:
        return None
    found = rng.choice(places)
    digits = found.group()
    ways = [str(int(float(digits.replace(",", ""))) + rng.choice([1, -1, 2, 5, 10])), digits + "0"]
    at = rng.randrange(len(digits))
    if digits[at].isdigit():
        ways.append(digits[:at] + rng.choice("123456789") + digits[at + 1 :])
    if len(digits) > 1:
        ways += [digits[:-1].rstrip(",."), digits[1] + digits[0] + digits[2:] if digits[1].isdigit() else digits + "5"]
    other = rng.choice(ways)
    return None if other == digits else text[: found.start()] + other + text[found.end() :]


def negate(text, rng, _):
    if DENIAL.search(text):
        without = DENIAL.sub("", text, count=1)
        return re.sub(r"\bca\b", "can", re.sub(r"\bwo\b", "will", without))
    places = list(AUXILIARY.finditer(text))
    if not places:
        return None
    found = rng.choice(places)
    rest = text[found.end() :]
    subject = re.match(r"\s+(i|you|we|they|he|she|it|there|people|one)\b", rest, re.I)
    if subject and found.group().lower() != "am" and rng.random() < 0.6:
        cut = subject.end()
        return text[: found.end()] + rest[:cut] + " " + rng.choice(["not", "not", "never"]) + rest[cut:]
    denied = {"can": "can't", "will": "won't", "may": "may not", "must": "must not"}.get(found.group().lower(), found.group().lower() + rng.choice(["n't", " not"]))
    return text[: found.start()] + like(found.group(), denied) + rest


def reverse(text, rng, _):
    """Swaps what stands on both sides of a word of direction."""
    places = list(BETWEEN_AT.finditer(text))
    rng.shuffle(places)
    for found in places:
        before, after = list(WORD.finditer(text[: found.start()])), list(WORD.finditer(text[found.end() :]))
        before = [m for m in before[-4:] if m.group().lower() not in STOPWORDS]
        after = [m for m in after[:4] if m.group().lower() not in STOPWORDS]
        if before and after and before[-1].group().lower() != after[0].group().lower():
            a, b, shift = before[-1], after[0], found.end()
            between = text[a.end() : shift + b.start()]
            return text[: a.start()] + like(a.group(), b.group()) + between + like(b.group(), a.group()) + text[shift + b.end() :]
    return None


def swap_word(text, rng, pool):
    """One word of substance for another of the pool."""
    places = [m for m in WORD.finditer(text) if m.group().lower() not in STOPWORDS and len(m.group()) > 3]
    if not places:
        return None
    found = rng.choice(places)
    word = found.group()
    for trial in range(24):
        other = rng.choice(pool)
        if trial < 16 and other[-2:] != word[-2:]:
            continue  # Of the same ending where one is found, so that a verb mostly stays a verb.
        if other[0].isupper() == word[0].isupper() and other.lower()[:4] != word.lower()[:4] and other.lower() not in SAME.get(word.lower(), ()):
            return text[: found.start()] + other + text[found.end() :]
    return None


DIFFERENCES = {"opposite": (opposite, 3.0), "kind": (kind, 2.0), "number": (number, 3.0), "negation": (negate, 2.0), "order": (reverse, 3.0), "word": (swap_word, 2.0)}


def differ(text, rng, pool):
    """A text that asks for something else, and what kind of difference was made."""
    names = list(DIFFERENCES)
    while names:
        name = rng.choices(names, [DIFFERENCES[n][1] for n in names])[0]
        other = DIFFERENCES[name][0](text, rng, pool)
        if other is not None and other.lower() != text.lower():
            return other, name
        names.remove(name)
    return None


# --- What keeps the meaning ----------------------------------------------------------------------


def lead(text, rng):
    opening = rng.choice(LEADS)
    rest = text[0].lower() + text[1:] if text[:2] != text[:2].upper() and rng.random() < 0.8 else text
    return f"{opening.capitalize() if rng.random() < 0.5 else opening} {rest}"


def tail(text, rng):
    ending = rng.choice(TAILS)
    bare = text.rstrip("?.! ")
    return bare + ending if ending[0] in "?.!" else f"{bare}{rng.choice([' ', ', '])}{ending}"


def casing(text, rng):
    way = rng.random()
    return text.lower() if way < 0.7 else text.rstrip("?.!") if way < 0.95 else text.upper()


def synonym(text, rng):
    return replace_one(text, SAME_AT, SAME, rng) or text


def typo(text, rng):
    places = [m for m in re.finditer(r"[a-z]{5,}", text)]
    if not places:
        return text
    found = rng.choice(places)
    return text[: found.start()] + noise.slip(found.group(), rng) + text[found.end() :]


def filler(text, rng):
    places = [m.end() for m in re.finditer(r"[a-z](?= [a-z])", text)]
    at = rng.choice(places) if places else len(text)
    return text[:at] + " " + rng.choice(["actually", "really", "just", "exactly", "please", "again", "basically", "the", "kindly"]) + text[at:]


def grouped(text, rng):
    """1000 and 1,000 are one number."""
    found = re.search(r"(?<![\d.,])\d{4,6}(?![\d.,])", text)
    if found and not 1900 <= int(found.group()) <= 2100:
        return text[: found.start()] + f"{int(found.group()):,}" + text[found.end() :]
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)


KEEPING = [(lead, 2), (tail, 2), (casing, 3), (synonym, 3), (typo, 1.5), (filler, 1), (grouped, 0.5)]


def keep(text, rng, n_edits=None):
    """The same request in other words; at least one edit was tried."""
    for edit in rng.choices([e for e, _ in KEEPING], [w for _, w in KEEPING], k=n_edits or rng.choice([1, 1, 2, 3])):
        text = edit(text, rng)
    return text
