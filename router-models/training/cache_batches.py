"""Puts together what one step of training sees: texts that ask for the same, and texts that nearly do.

Draws from the training half of the labelled pairs, from made edits and from families of messages (cache_families.py);
never from a stream, never from the held-out half.

Invariants: the same seed and step give the same batch; two texts of a batch with one class have one
answer, and only such texts are alike.
"""

import random

import cache_edits
import cache_families

SEED = 11
SHARES = {"labelled": 0.45, "family": 0.35, "kept": 0.2}  # Of the triples of a batch.
SHARE_MADE_NEGATIVE = 0.55  # The rest take a labelled different partner, where there is one.
SHARE_REWORDED = 0.35  # Of positives that are edited once more, lest an edit give a negative away.
WEIGHTS = {"qqp": 1.0, "sick": 1.0, "mrpc": 0.4, "sts16qq": 1.0}


class Source:
    def __init__(self, pairs, class_of):
        held = [p for p in pairs if not p.is_held]
        self.class_of = class_of
        self.same = [p for p in held if p.same and not (p.source == "mrpc" and numbers(p.a) != numbers(p.b))]
        self.different = [p for p in held if not p.same]
        self.weights = {True: [WEIGHTS[p.source] for p in self.same], False: [WEIGHTS[p.source] for p in self.different]}
        self.partners = {}
        for p in self.different:
            self.partners.setdefault(p.a, []).append(p.b)
            self.partners.setdefault(p.b, []).append(p.a)
        self.texts = sorted({t for p in held for t in (p.a, p.b)})
        self.pool = [w for t in self.texts for w in cache_edits.WORD.findall(t) if len(w) > 3 and w.lower() not in cache_edits.STOPWORDS]
        self.families = cache_families.Families(random.Random(SEED))

    def step(self, number):
        """The random state of a step."""
        rng = random.Random(f"{SEED}/{number}")
        self.families.rng = rng
        return rng

    def labelled(self, same, rng):
        return rng.choices(self.same if same else self.different, self.weights[same])[0]

    def negative(self, texts, rng):
        """A text that asks for something else than these; labelled or made."""
        text = rng.choice(texts)
        partners = self.partners.get(text)
        if partners and rng.random() > SHARE_MADE_NEGATIVE:
            return rng.choice(partners)
        made = cache_edits.differ(text, rng, self.pool)
        if made is None:
            return rng.choice(self.texts)
        return cache_edits.keep(made[0], rng, 1) if rng.random() < SHARE_REWORDED else made[0]

    def triple(self, rng):
        """Two texts of one class, one of another, and the classes."""
        way = rng.choices(list(SHARES), list(SHARES.values()))[0]
        if way == "family":
            found = self.families.alike()
            while found is None:
                found = self.families.alike()
            a, b, key = found
            unlike = self.families.unlike() if rng.random() < 0.6 else None
            if unlike:
                return (unlike[0], self.reword(unlike[0], rng), unlike[1]), unlike[2], unlike[3]
            return (a, b, self.negative([a, b], rng)), key, None
        if way == "kept":
            a = rng.choice(self.texts)
            b = cache_edits.keep(a, rng)
        else:
            p = self.labelled(True, rng)
            a, b = (p.a, p.b) if rng.random() < 0.5 else (p.b, p.a)
            if rng.random() < SHARE_REWORDED:
                b = cache_edits.keep(b, rng, 1)
        n = self.negative([a, b], rng)
        return (a, b, n), self.class_of(a), self.class_of(n) if n in self.partners else None

    def reword(self, text, rng):
        return cache_edits.keep(text, rng)

    def triples(self, n, number):
        rng = self.step(number)
        return [self.triple(rng) for _ in range(n)]

    def judged(self, n, number):
        """Pairs with a label for the guard: (new, cached, alike)."""
        rng, rows = self.step(number), []
        while len(rows) < n:
            if rng.random() < 0.3:
                p = self.labelled(False, rng)
                texts, same = [p.a, p.b], False
            else:
                (a, b, other), _, _ = self.triple(rng)
                same = rng.random() < 0.5
                texts = [a, b] if same else [rng.choice([a, b]), other]
            rng.shuffle(texts)
            rows.append((*texts, same))
        return rows


def numbers(text):
    return sorted(cache_edits.NUMBER.findall(text))
