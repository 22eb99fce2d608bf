"""Makes dialogues of cards: one to four questions with their answers, sometimes under a system prompt.

Reads no file and writes none; where a question is put together it does not look at the answer.

Invariants: an answer follows from what the caller has said so far and from the shop's name in the system
prompt, never from chance; a slot's value stands in an answer only if it was said.
"""

import dataclasses

from support import grammar, noise, rewording, slots

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful, respectful and honest assistant.",
    "You are a customer support assistant.",
    "You are a support agent of an online shop. Be brief and friendly.",
    "Answer the customer's question.",
    "You are a friendly assistant. Keep your answers short.",
    "Be concise.",
    "You are the assistant of an online shop.",
    "You help customers with their orders.",
    "You are an AI assistant.",
)
SHOP_SYSTEMS = (
    "You are the support assistant of $shop.",
    "You are $shop's customer support.",
    "You work for $shop, an online shop. Answer customers politely.",
    "You are a helpful assistant for the online shop $shop.",
    "You are the virtual assistant of $shop. Help the customers.",
    "Shop: $shop. You answer questions of customers.",
    "You answer questions for customers of $shop.",
    "This is the support chat of $shop.",
)
FRAMES = {
    "v": ("want", "how", "how", "may", "tellhow", "tellhow", "doit", "cannot", "bare"),
    "n": ("about", "about", "bare", "trouble"),
    "w": ("bare", "bare", "bare", "tellme"),
    "s": ("bare",),
}
ASKING = ("how", "may", "doit", "tellme")
KIND_WEIGHTS = {"v": 3.0, "n": 1.4, "w": 2.0, "s": 2.2}
STEP_TAILS = ("step by step", "give me the steps", "list the steps", "what are the steps", "in steps please")
ASIDE_QUESTIONS = {
    "long": "{and |}{how long does {that|it|this} take|how long will {that|it} take|how long is that going to take"
    "|how much time does {that|it} take|when will that be done|how quickly does that go|how many days is that"
    "|is that fast|until when|how long|how long do i have to wait|does that take long}",
    "cost": "{and |}{how much does {that|it|this} cost|what does {that|it} cost|is {that|it} free|how much is {that|it}"
    "|do i have to pay for {that|it}|does that cost {anything|extra|something}|is there a fee|how much|what's the price"
    "|is it expensive|will i be charged for that}",
    "where": "{and |}{where do i find {that|it|this}|where is {that|it}|where can i find {that|it}|i can't find {that|it}"
    "|where exactly|i don't see {that|it}|where do i have to click|where is that button|where|where do i see that}",
}
ASKS_NUMBER = "If you give me the order number"
SHARES = {"system": 0.25, "shop_system": 0.22, "greeting": 0.1, "stranger": 0.17, "talk": 0.14, "wrapped_talk": 0.1}
MORE_TURNS = 0.5  # The share of dialogues that go on after each answer.
MOST_QUESTIONS = 4


@dataclasses.dataclass
class Turn:
    intent: str
    user: str
    answer: str
    is_held: bool
    kind: str


@dataclasses.dataclass
class Dialogue:
    system: str | None
    turns: list

    def messages(self):
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.user})
            messages.append({"role": "assistant", "content": turn.answer})
        return messages


class Writer:
    """Writes one dialogue. `language` is the cards, the lists of words, and the synonyms."""

    def __init__(self, language, rng, held=False):
        self.cards, words, self.synonyms = language
        self.rng, self.held = rng, held
        self.speaker = grammar.Speaker(words, rng, held, slots.new_value)
        self.known, self.turns, self.last = set(), [], None

    def chance(self, share):
        return self.rng.random() < share

    # --- A question -----------------------------------------------------------------------------

    def entry_of(self, card, kind):
        entries = card.side(self.held)[kind] or card.entries[kind]
        return self.rng.choice(entries)

    def core(self, card):
        """The question without wrapping: its pieces, whether it asks, and its frame."""
        side = card.side(self.held)
        kinds = [k for k in KIND_WEIGHTS if side[k]] or [k for k in KIND_WEIGHTS if card.entries[k]]
        kind = self.rng.choices(kinds, [KIND_WEIGHTS[k] for k in kinds])[0]
        frame = self.rng.choice(FRAMES[kind])
        is_asking = kind == "w" or frame in ASKING
        line = self.entry_of(card, kind)
        line = line if frame == "bare" else f"<{frame}> {line}"
        return self.speaker.say(line), is_asking, kind

    def wrapped(self, card):
        """A whole message, and what its wrapping asks of the answer: a name, an apology, steps."""
        pieces, is_asking, kind = self.core(card)
        mark = "?" if is_asking or (kind == "n" and self.chance(0.2)) else self.rng.choice([".", ".", ".", "!", ""])
        parts, wants = [pieces + [(mark, None)]], {}
        if card.group == "talk" and not self.chance(SHARES["wrapped_talk"]):
            return join(parts), wants
        if kind == "s" and self.chance(0.3):
            parts.append(self.speaker.say("<what_now>") + [("?", None)])
        if self.chance(0.14):
            at = self.rng.choice([0, len(parts)])
            parts.insert(at, self.speaker.say("<ramble>") + [(".", None)])
            if self.chance(0.25):
                parts.insert(at, self.speaker.say("<ramble>") + [(".", None)])
        if card.group not in ("strangers", "talk") and self.chance(0.08):
            parts.insert(self.rng.choice([0, len(parts)]), self.speaker.say("<anger>") + [("!", None)])
            wants["sorry"] = True
        if self.chance(0.14):
            parts.append(self.speaker.say("<please>") + [(self.rng.choice([".", "!", ""]), None)])
        if any("\\n1." in a for a in card.answers) and self.chance(0.12):
            parts.append([(self.rng.choice(STEP_TAILS) + ".", None)])
            wants["steps"] = True
        self.open_message(parts, wants)
        return join(parts), wants

    def open_message(self, parts, wants):
        if self.chance(0.07) and "name" not in self.known:
            self.speaker.slots.pop("name", None)
            parts.insert(0, self.speaker.say(
                "{<hello>, i am $name.|<hello>, i'm $name.|<hello>, my name is $name.|my name is $name.|this is $name."
                "|i am $name.|hi $name here.|<hello> this is $name.}"
            ))
            wants["name"] = True
        elif self.chance(0.16):
            parts.insert(0, self.speaker.say("<hello>") + [(self.rng.choice([",", ",", "!", "."]), None)])

    # --- An answer ------------------------------------------------------------------------------

    def note_slots(self, pieces):
        self.known |= {slot for _, slot in pieces if slot}

    def full_answer(self, card, wants, template=None):
        template = template or card.answer(self.known, wants.get("steps", False))
        answer = self.speaker.text(template).replace("\\n", "\n")
        if wants.get("sorry") and not card.is_sorry and not answer.startswith("I am sorry"):
            answer = "I am sorry for the trouble. " + answer
        if wants.get("name"):
            answer = f"Hello {self.speaker.value('name')}! " + answer
        return answer

    def add(self, card, pieces, answer, kind):
        self.turns.append(Turn(card.intent, noise.write(pieces, self.rng), answer, self.held, kind))
        self.last = card

    def ask(self, card):
        pieces, wants = self.wrapped(card)
        self.note_slots(pieces)
        if card.group not in ("strangers", "talk"):
            pieces = rewording.reword(pieces, self.synonyms, self.rng, self.held)
        self.add(card, pieces, self.full_answer(card, wants), "main")

    # --- What may come next ---------------------------------------------------------------------

    def give_number(self):
        """The caller gives the number asked for; the same card answers again, now with it."""
        self.speaker.slots.pop("order", None)
        entry = self.entry_of(self.cards["number_only"], "s")
        pieces = self.speaker.say(entry)
        self.note_slots(pieces)
        self.add(self.last, pieces, self.full_answer(self.last, {}), "number")

    def ask_aside(self):
        what = self.rng.choice(sorted(self.last.aside))
        pieces = self.speaker.say(ASIDE_QUESTIONS[what]) + [(self.rng.choice(["?", "?", "?", ""]), None)]
        self.add(self.last, pieces, self.full_answer(self.last, {}, self.last.aside[what]), "aside")

    def follow_up(self):
        question, answer = self.rng.choice(self.last.follow_ups)
        for slot in grammar.slots_in(question):
            self.speaker.slots.pop(slot, None)
        pieces = self.speaker.say(question) + [(self.rng.choice(["?", ".", ""]), None)]
        self.note_slots(pieces)
        self.add(self.last, pieces, self.full_answer(self.last, {}, answer), "follow")

    def ask_about_it(self):
        card = self.rng.choice([c for c in self.cards.values() if c.entries["i"]])
        line = self.entry_of(card, "i")
        lead = self.rng.choice(["", "", "", "and ", "ok, ", "hm, ", "then ", "ok then ", "sorry, ", "actually, ", "no, "])
        pieces = self.speaker.say(lead + line) + [(self.rng.choice(["?", ".", ""]), None)]
        self.note_slots(pieces)
        self.add(card, pieces, self.full_answer(card, {}), "it")

    def go_on(self):
        ways = ["other", "talk"]
        if ASKS_NUMBER in self.turns[-1].answer:
            ways += ["number"] * 6
        if self.last.entries["i"] or self.last.intent in ("number_only", "vague_problem", "place_order"):
            ways += ["it"] * 3
        if self.last.aside and self.turns[-1].kind == "main":
            ways += ["aside"] * 3
        if self.last.follow_ups and self.turns[-1].kind in ("main", "number"):
            ways += ["follow"] * 4
        way = self.rng.choice(ways)
        if way == "number":
            self.give_number()
        elif way == "it":
            self.ask_about_it()
        elif way == "aside":
            self.ask_aside()
        elif way == "follow":
            self.follow_up()
        elif way == "talk":
            self.ask(self.cards[self.rng.choice(["thanks", "thanks", "acknowledged", "bye", "compliment"])])
        else:
            self.ask(self.any_card())

    def any_card(self):
        share = self.rng.random()
        if share < SHARES["stranger"]:
            return self.cards["strangers"]
        talk = share < SHARES["stranger"] + SHARES["talk"]
        return self.rng.choice([c for c in self.cards.values() if c.group != "strangers" and (c.group == "talk") == talk])

    # --- The whole ------------------------------------------------------------------------------

    def system(self):
        share = self.rng.random()
        if share < SHARES["shop_system"]:
            self.known.add("shop")
            return self.speaker.text(self.rng.choice(SHOP_SYSTEMS))
        return self.rng.choice(SYSTEMS) if share < SHARES["shop_system"] + SHARES["system"] else None

    def dialogue(self, n_questions=None):
        """A dialogue of that many questions, or of one to four."""
        system = self.system()
        if n_questions is None and self.chance(SHARES["greeting"]):
            self.ask(self.cards["greeting"])
        self.ask(self.any_card())
        while len(self.turns) < (n_questions or MOST_QUESTIONS) and (n_questions or self.chance(MORE_TURNS)):
            self.go_on()
        return Dialogue(system, self.turns)

    def single(self, intent):
        """One question of an intent, for measuring."""
        system = self.system()
        self.ask(self.cards[intent])
        return Dialogue(system, self.turns)


def join(parts):
    """Sentences into one message."""
    pieces = []
    for idx, part in enumerate(parts):
        pieces += ([(" ", None)] if idx else []) + part
    return grammar.tidy(pieces)
