"""Writes a message the way people do: casing, missing marks, short forms and slips of the finger.

Never touches a slot's value, so that an answer can still repeat it.
"""

import re

SHORT = {
    "you": "u", "your": "ur", "please": "pls", "are": "r", "thanks": "thx", "because": "cuz", "tomorrow": "tmrw",
    "message": "msg", "really": "rly", "want to": "wanna", "going to": "gonna", "i don't know": "idk", "about": "abt",
    "to": "2", "for": "4", "what": "wat", "with": "w/", "and": "&", "okay": "k", "information": "info", "people": "ppl",
}
MISSPELT = {
    "receive": "recieve", "received": "recieved", "address": "adress", "delivery": "delivary", "account": "acount",
    "cancel": "cancle", "refund": "refound", "password": "pasword", "website": "webiste", "damaged": "dammaged",
    "parcel": "parcle", "package": "packege", "payment": "paiment", "invoice": "invoce", "warranty": "waranty",
    "exchange": "exchage", "which": "wich", "their": "there", "haven't": "havent", "tomorrow": "tommorow",
    "purchase": "purchace", "definitely": "definately", "until": "untill", "discount": "discont", "arrive": "arive",
    "arrived": "arived", "shipping": "shiping", "order": "oder", "return": "retrun", "broken": "brocken",
    "subscribe": "suscribe", "newsletter": "newletter", "complaint": "complain", "human": "humam", "change": "chage",
    "delete": "delet", "options": "optoins", "question": "qestion", "working": "woking", "charged": "chraged",
}
NEAR = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi",
    "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}


def slip(word, rng):
    """One slip of the finger in a word of four letters or more."""
    at = rng.randint(1, len(word) - 2)
    kind = rng.random()
    if kind < 0.3:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind < 0.6:
        return word[:at] + word[at + 1 :]
    if kind < 0.8:
        return word[:at] + word[at] + word[at:]
    return word[:at] + rng.choice(NEAR.get(word[at], word[at])) + word[at + 1 :]


def replace_words(text, table, rng, share):
    def one(match):
        word = match.group()
        return table[word] if word in table and rng.random() < share else word

    return re.sub(r"[a-z][a-z']*", one, text)


def slips(pieces, rng, n_slips):
    places = [
        (idx, match.span())
        for idx, (text, slot) in enumerate(pieces)
        if slot is None
        for match in re.finditer(r"[a-z]{4,}", text)
    ]
    for idx, (start, end) in sorted(rng.sample(places, min(n_slips, len(places))), reverse=True):
        text = pieces[idx][0]
        pieces[idx] = (text[:start] + slip(text[start:end], rng) + text[end:], None)
    return pieces


def capitalised(pieces):
    """Sentences with a capital, and I for i."""
    written, start = [], True
    for text, slot in pieces:
        if slot is None:
            text = re.sub(r"\bi\b(?!\.)", "I", text)
            text = re.sub(r"([.!?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)
            text = text[:1].upper() + text[1:] if start else text
            start = text.endswith((". ", "! ", "? "))
        else:
            start = False
        written.append((text, slot))
    return written


def plain(pieces, rng):
    """Lower case as it came, marks mostly gone."""
    drop_apostrophes, drop_marks, drop_commas = rng.random() < 0.5, rng.random() < 0.6, rng.random() < 0.5
    written = []
    for idx, (text, slot) in enumerate(pieces):
        if slot is None:
            text = text.replace("'", "") if drop_apostrophes else text
            text = text.replace(",", "") if drop_commas else text
            if drop_marks:
                text = re.sub(r"[.?!]+$", "", text) if idx == len(pieces) - 1 else text
                text = re.sub(r"[.?!] ", rng.choice([" ", " ", ", "]), text)
        written.append((text, slot))
    return written


def write(pieces, rng):
    """The message as text."""
    pieces = list(pieces)
    if rng.random() < 0.6:
        pieces = [(t if s else t.replace("e-mail", "email"), s) for t, s in pieces]
    if rng.random() < 0.06:
        pieces = [(t if s else replace_words(t, SHORT, rng, 0.7), s) for t, s in pieces]
    if rng.random() < 0.06:
        pieces = [(t if s else replace_words(t, MISSPELT, rng, 0.8), s) for t, s in pieces]
    if rng.random() < 0.14:
        pieces = slips(pieces, rng, rng.choice([1, 1, 1, 2, 3]))
    style = rng.random()
    if style < 0.5:
        pieces = capitalised(pieces)
    elif style < 0.97:
        pieces = plain(pieces, rng)
    else:
        pieces = [(t if s else t.upper(), s) for t, s in pieces]
    return "".join(text for text, _ in pieces)
