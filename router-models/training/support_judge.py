"""Judges an answer: which intent's answer it is, word for word, and whether it repeats the right values.

Reads no model. An answer that is no card's, word for word, is of no intent: it counts as wrong everywhere.

Invariant: an intent's own answer, expanded with any values, is judged to be of that intent.
"""

import re

from support import cards as card_files

LEAD = r"(?:Hello [^!]{1,60}! )?(?:I am sorry for the trouble\. )?"


def pattern_of(template):
    """A regular expression of an answer with its slots open."""
    parts = re.split(r"(\$[a-z]+)", template.replace("\\n", "\n"))
    return "".join(".{1,60}?" if re.fullmatch(r"\$[a-z]+", part) else re.escape(part) for part in parts)


class Judge:
    def __init__(self):
        cards, _ = card_files.load()
        self.patterns = []
        for card in cards.values():
            templates = card.answers + list(card.aside.values()) + [answer for _, answer in card.follow_ups]
            self.patterns += [(re.compile(LEAD + pattern_of(t), re.DOTALL), card.intent) for t in templates]

    def intents(self, answer):
        """All intents whose answers this may be: some cards share an answer."""
        return {intent for pattern, intent in self.patterns if pattern.fullmatch(answer)}
