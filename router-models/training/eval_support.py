"""Measures a support model: held-out text, free questions, strangers' questions, and another's questions by intent.

Trains nothing, and changes no text. An answer is right if it is, word for word, an answer of the intended intent.

    python eval_support.py RUN_DIR/assistant.pt [--bits 16] [--show] [--bitext stream_bitext.jsonl.gz]

The file of `--bitext` holds `text` and `answer` ("intent|..."): questions of Bitext's customer support set
(CDLA-Sharing-1.0, huggingface.co/datasets/bitext). They are only ever asked, never learned from.

Invariants: greedy answers; fixed seeds; the same checkpoint gives the same figures.
"""

import argparse
import collections
import gzip
import json
import pathlib
import random
import sys

import torch
from tokenizers import Tokenizer

import export_support
import support_text
import support_tokenizer
from support import slots
from support.dialogue import Writer
from support_judge import Judge

SEED = 5
N_HELD_EACH, N_HELD_STRANGERS, N_HELD_DIALOGUES, N_ORDERS = 2, 60, 60, 200
BATCH = 64
BITEXT = {
    "switch_account": "switch_account",
    "edit_account": "edit_account",
    "create_account": "create_account",
    "recover_password": "recover_password",
    "delete_account": "delete_account",
    "change_shipping_address": "change_shipping_address",
    "payment_issue": "payment_problem charged_twice",
    "newsletter_subscription": "newsletter_subscribe newsletter_unsubscribe",
    "delivery_options": "delivery_options",
    "track_order": "track_order",
    "cancel_order": "cancel_order",
    "review": "leave_review",
    "get_invoice": "get_invoice",
    "contact_customer_service": "contact opening_hours",
    "check_invoice": "check_invoice get_invoice",
    "delivery_period": "delivery_time track_order",
    "complaint": "complaint",
    "set_up_shipping_address": "set_up_shipping_address",
    "get_refund": "get_refund",
    "check_payment_methods": "payment_methods",
    "place_order": "place_order",
    "change_order": "change_order",
    "registration_problems": "registration_problem",
    "check_cancellation_fee": "cancellation_fee",
    "check_refund_policy": "refund_policy return_policy",
    "track_refund": "track_refund",
    "contact_human_agent": "human_agent",
}


class Answerer:
    def __init__(self, checkpoint, bits):
        self.model = export_support.load(checkpoint)
        self.tokenizer = Tokenizer.from_file(str(checkpoint.parent / "tokenizer.json"))
        self.encoder = support_tokenizer.ChatEncoder(self.tokenizer)
        if bits == 4:
            self.model.become_four_bits()
        else:
            export_support.round_to_float16(self.model)

    def answers(self, conversations):
        """Greedy answers; prompts of one length go together, so that none is padded."""
        prompts = [self.encoder.prompt(messages) for messages in conversations]
        by_length = collections.defaultdict(list)
        for idx, prompt in enumerate(prompts):
            by_length[len(prompt)].append(idx)
        answers = [None] * len(prompts)
        for same in by_length.values():
            for start in range(0, len(same), BATCH):
                part = same[start : start + BATCH]
                found = self.model.greedy_batch([prompts[i] for i in part], {self.encoder.turn_end, self.encoder.end})
                for idx, ids in zip(part, found):
                    answers[idx] = self.tokenizer.decode(ids)
        return answers


def share(right):
    right = list(right)
    return f"{sum(right)}/{len(right)} = {sum(right) / len(right):.3f}" if right else "none"


def ask(text):
    return [{"role": "user", "content": text}]


def show_wrong(rows, limit):
    for question, wanted, got in rows[:limit]:
        print(f"    {question!r} wanted {wanted}, got {got!r}")


# --- The four measurements ------------------------------------------------------------------------


def held_out(answerer, judge, show):
    """Held-out wordings of every intent, alone and within dialogues; the answer has to be the written one."""
    language = support_text.language_of_cards()
    asked, turns = [], []
    for intent in language[0]:
        for idx in range(N_HELD_STRANGERS if intent == "strangers" else N_HELD_EACH):
            dialogue = Writer(language, random.Random(f"{SEED}/{intent}/{idx}"), True).single(intent)
            asked.append(dialogue.messages()[:-1])
            turns.append(dialogue.turns[0])
    n_single = len(asked)
    for idx in range(N_HELD_DIALOGUES):
        dialogue = Writer(language, random.Random(f"{SEED}/dialogue/{idx}"), True).dialogue()
        messages = dialogue.messages()
        asked.append(messages[:-1])
        turns.append(dialogue.turns[-1])
    answers = answerer.answers(asked)
    rows = list(zip(asked, turns, answers))
    is_right = lambda turn, answer: turn.intent in judge.intents(answer)
    shop, odd = ([r for r in rows[:n_single] if (r[1].intent == "strangers") == odd] for odd in (False, True))
    later = [r for r in rows[n_single:] if r[1].kind != "main"]
    digits = [r for r in shop + later if any(char.isdigit() for word in r[1].user.split() for char in word)]
    with_order = [r for r in digits if any(word in r[2] or word in r[1].answer for word in slots_of(r[1]))]
    print("held-out questions of the shop, right intent:", share(is_right(t, a) for _, t, a in shop))
    print("  the very answer, values included:", share(t.answer == a for _, t, a in shop))
    print("  where the answer repeats a value:", share(t.answer == a for _, t, a in with_order))
    print("  wrongly refused:", share("strangers" in judge.intents(a) for _, _, a in shop))
    print("held-out questions of strangers, refused:", share(is_right(t, a) for _, t, a in odd))
    print("later turns of held-out dialogues, the very answer:", share(t.answer == a for _, t, a in later))
    if show:
        show_wrong([(q[-1]["content"], t.intent, a) for q, t, a in rows if not is_right(t, a)], 60)


def slots_of(turn):
    """Words with a digit that the caller wrote and the written answer repeats."""
    words = [word.strip("#().,!?") for word in turn.user.split()]
    return [word for word in words if any(char.isdigit() for char in word) and word in turn.answer]


def free_questions(answerer, judge, path, show):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    answers = answerer.answers([ask(row["question"]) for row in rows])
    got = [(row, answer, judge.intents(answer)) for row, answer in zip(rows, answers)]
    is_right = lambda row, intents: bool(intents & set(row["intents"]))
    shop, odd = ([g for g in got if (g[0]["intents"] == ["strangers"]) == odd] for odd in (False, True))
    print(f"free questions of {path.name}, right intent:", share(is_right(row, i) for row, _, i in shop))
    print("  wrongly refused:", share("strangers" in i for _, _, i in shop))
    print("  no known answer:", share(not i for _, _, i in got))
    print("free questions of strangers, refused:", share("strangers" in i for _, _, i in odd))
    if show:
        show_wrong([(r["question"], r["intents"], a) for r, a, i in got if not is_right(r, i)], 200)


ORDER_QUESTIONS = [
    "Where is my order {}?",
    "I want to cancel order #{}, please",
    "track order {}",
    "Can I still change the address of order {}?",
]


def orders(answerer, show):
    """Whether an answer that speaks of an order speaks of the caller's; numbers from the held-out side."""
    rng = random.Random(f"{SEED}/orders")
    numbers = [slots.new_value("order", rng, held=True) for _ in range(N_ORDERS)]
    questions = [ORDER_QUESTIONS[idx % len(ORDER_QUESTIONS)].format(number) for idx, number in enumerate(numbers)]
    rows = list(zip(questions, numbers, answerer.answers([ask(question) for question in questions])))
    speaks = [row for row in rows if any(char.isdigit() for char in row[2].split("\n")[0][:80])]
    print("order numbers never seen, repeated where the answer begins with one:", share(n in a for _, n, a in speaks))
    if show:
        show_wrong([(q, n, a) for q, n, a in speaks if n not in a], 40)


def bitext(answerer, judge, path, show):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    wanted = [row["answer"].split("|")[0] for row in rows]
    found = [judge.intents(answer) for answer in answerer.answers([ask(row["text"]) for row in rows])]
    right = [bool(intents & set(BITEXT[name].split())) for name, intents in zip(wanted, found)]
    print("Bitext's questions, right intent:", share(right))
    print("  wrongly refused:", share("strangers" in intents for intents in found))
    if show:
        for name in BITEXT:
            of_name = [idx for idx, w in enumerate(wanted) if w == name]
            missed = collections.Counter(str(sorted(found[idx])) for idx in of_name if not right[idx])
            print(f"    {name}: {share(right[idx] for idx in of_name)}, else {missed.most_common(3)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--bits", type=int, choices=(4, 16), default=4)
    parser.add_argument("--questions", type=pathlib.Path, default=pathlib.Path(__file__).parent / "support_questions.jsonl")
    parser.add_argument("--bitext", type=pathlib.Path)
    parser.add_argument("--show", action="store_true", help="print what went wrong")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    answerer, judge = Answerer(args.checkpoint, args.bits), Judge()
    sys.stdout.reconfigure(line_buffering=True)
    print(f"{args.checkpoint.name}, weights of {args.bits} bits")
    with torch.no_grad():
        free_questions(answerer, judge, args.questions, args.show)
        held_out(answerer, judge, args.show)
        orders(answerer, args.show)
        if args.bitext:
            bitext(answerer, judge, args.bitext, args.show)


if __name__ == "__main__":
    main()
