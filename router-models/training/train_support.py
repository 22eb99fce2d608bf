"""Trains the support assistant, or its draft sibling, on dialogues written as it goes.

Exports nothing: `export_support.py` does that from a checkpoint. Needs no GPU and downloads nothing.

    python train_support.py assistant RUN_DIR --minutes 50
    python train_support.py draft RUN_DIR --minutes 10

RUN_DIR gets `tokenizer.json` (trained once, then kept) and `assistant.pt` or `draft.pt`. The course has four parts: rows of
noise and values that come back, so that copying is there before there is anything to say; single questions with only the
beginning of their answers; then whole dialogues in every other step; then the same with four-bit weights, so that the
checkpoint that ships is what the training saw. A share of the steps goes on copying. Beside the words, the state before an
answer has to tell the intent: a small layer that is thrown away afterwards, but spares each word of the answer to find it
out anew. With `--minutes` the course follows the clock, because cores may be shared; `--steps` with the number of steps
printed at the end follows the same course on another machine.

Invariants: fixed seeds; loss only on the assistant's words and the end of its turn; no dialogue is seen twice.
"""

import argparse
import collections
import dataclasses
import os
import pathlib
import random
import statistics
import time

# Threads that spin while they wait for each other take the core from the one they wait for, if cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import support_text
import support_tokenizer
from support import slots
from support_model import SHAPES, Llama

SEED = 11
TOKENS_A_BATCH = {True: 1024, False: 1536}  # Of single questions, of dialogues. Many small steps learn sooner than few large ones.
N_POOL = 2000  # Dialogues sorted by length together, so that a batch has little padding.
SHARE_SINGLE, SINGLE_CUT = 0.15, (3, 10)  # The first part: an answer's first words already tell what the question is about.
SHARE_CUT, CUT_AFTER = 0.6, (6, 30)  # Later most of the last answers are still cut, so that a batch holds more questions.
N_COPYING_STEPS, COPYING_EVERY = 200, 8  # The very first part, however short the course, and then one step in so many.
SHARE_REPEATING = 0.35  # Of dialogues that are taken only if the answer repeats a value.
N_COPYING_ROWS = 16
SHARE_FOUR_BITS = 0.25
SHARE_WARMUP = 0.02
SAVE_EVERY_S, SAY_EVERY = 240, 50
LEARNING_RATE = {"assistant": 1.2e-3, "draft": 2.5e-3}
SHARE_OF_INTENT = 0.5  # How much the loss of the intent counts beside the words' loss.
WEIGHT_DECAY, BETAS, MAX_NORM = 0.05, (0.9, 0.97), 1.0
FINAL_SHARE = 0.02  # Of the learning rate, at the end.


@dataclasses.dataclass
class Row:
    """A dialogue: its tokens, which of them are learned, and the intent of the answer that begins at a token, else -1."""

    ids: list
    learned: list
    intents: list

    def cut(self, n_kept):
        """The dialogue, its last answer cut short after `n_kept` tokens."""
        n_answer_and_rest = self.learned[::-1].index(False, self.learned[::-1].index(True))
        keep = len(self.ids) - n_answer_and_rest + n_kept
        return Row(self.ids[:keep], self.learned[:keep], self.intents[:keep])


def row_of(encoded, dialogue, intent_ids):
    ids, learned = encoded
    begins = [at for at in range(1, len(ids)) if learned[at] and not learned[at - 1]]
    intents = [-1] * len(ids)
    for at, turn in zip(begins, dialogue.turns, strict=True):
        intents[at] = intent_ids[turn.intent]
    return Row(ids, learned, intents)


def repeats_a_value(dialogue):
    """Whether the last answer says a number or a name that the caller gave: what takes longest to learn."""
    last = dialogue.turns[-1]
    words = [word.strip("#().,!?:") for word in last.user.split()]
    return last.answer.startswith("Hello ") or any(w in last.answer for w in words if any(c.isdigit() for c in w))


class Batches:
    """Endless batches of rows, each of dialogues of about one length."""

    def __init__(self, encoder, seed):
        self.encoder, self.seed, self.rng = encoder, seed, random.Random(seed)
        self.n_pools, self.ready = 0, {"single": [], "dialogues": []}
        self.intent_ids = {intent: idx for idx, intent in enumerate(support_text.language_of_cards()[0])}

    def next(self, part):
        if part == "repeating":
            return [self.repeated_row() for _ in range(N_COPYING_ROWS)]
        if part == "values":
            return [self.values_row() for _ in range(N_COPYING_ROWS)]
        if not self.ready[part]:
            self.ready[part] = self.pool(part == "single")
        return self.ready[part].pop()

    def pool(self, single):
        self.n_pools += 1
        dialogues = list(support_text.dialogues(N_POOL, f"{self.seed}/{self.n_pools}", n_questions=1 if single else None))
        if not single:
            dialogues = [d for d in dialogues if self.rng.random() >= SHARE_REPEATING or repeats_a_value(d)]
        share, kept = (1.0, SINGLE_CUT) if single else (SHARE_CUT, CUT_AFTER)
        rows = []
        for encoded, dialogue in zip(self.encoder.dialogues(dialogues), dialogues):
            row = row_of(encoded, dialogue, self.intent_ids)
            rows.append(row.cut(self.rng.randint(*kept)) if self.rng.random() < share else row)
        batches, batch = [], []
        for row in sorted(rows, key=lambda row: len(row.ids)):
            if batch and (len(batch) + 1) * len(row.ids) > TOKENS_A_BATCH[single]:
                batches.append(batch)
                batch = []
            batch.append(row)
        self.rng.shuffle(batches)
        return batches

    def noise(self, least, most):
        first = len(support_tokenizer.SPECIALS)
        return [self.rng.randrange(first, support_tokenizer.N_VOCABULARY) for _ in range(self.rng.randint(least, most))]

    def repeated_row(self):
        """Noise, twice; the second time it is learned. A row that nothing but copying can foretell."""
        noise = self.noise(20, 40)
        n = len(noise)
        return Row(noise + noise, [False] * (n + 1) + [True] * (n - 1), [-1] * (2 * n))

    def values_row(self):
        """Between noise, order numbers, names and the like behind their marks, three times; then they are learned."""
        kinds = self.rng.choices(["order", "order", "name", "email", "product", "city", "date", "amount"], k=self.rng.randint(1, 4))
        texts = [" " + slots.new_value(kind, self.rng, held=False) for kind in kinds]
        values = [(mark, self.encoder.tokenizer.encode(text).ids) for mark, text in zip(self.noise(4, 4), texts)]
        ids, learned = [], []
        for round_no in range(3):
            for mark, value in self.rng.sample(values, len(values)):
                before = [*self.noise(0, 6), mark]
                ids += before + value
                learned += [False] * len(before) + [round_no > 0] * len(value)
        return Row(ids, learned, [-1] * len(ids))


def tensors(batch, n_context):
    """ids, learned and intents, padded to the longest."""
    n_tokens = min(max(len(row.ids) for row in batch), n_context)
    padded = lambda values, rest: torch.tensor([(v + [rest] * n_tokens)[:n_tokens] for v in values])
    return padded([r.ids for r in batch], 0), padded([r.learned for r in batch], False), padded([r.intents for r in batch], -1)


def loss_of(model, intent_head, batch, in_bfloat16):
    ids, learned, intents = tensors(batch, model.shape.n_context)
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        hidden = model.hidden_states(ids[:, :-1])
        logits = model.logits(hidden[learned[:, 1:]])
    is_begin = intents[:, 1:] >= 0
    of_intent = torch.zeros(())
    if is_begin.any():
        of_intent = F.cross_entropy(intent_head(hidden[is_begin].float()), intents[:, 1:][is_begin])
    of_words = F.cross_entropy(logits.float(), ids[:, 1:][learned[:, 1:]])
    return of_words, of_intent


def optimizer_of(model, intent_head, rate):
    decayed = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    others += list(intent_head.parameters())
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True)


def rate_at(progress, peak):
    """A short way up, then a straight way down."""
    return peak * min(progress / SHARE_WARMUP + 0.02, max(FINAL_SHARE, (1 - progress) / (1 - SHARE_WARMUP)), 1.0)


def tokenizer_in(run_dir):
    path = run_dir / "tokenizer.json"
    if not path.exists():
        support_tokenizer.train(SEED).save(str(path))
    return Tokenizer.from_file(str(path))


class Course:
    """How far the training is, in [0, 1]: by the clock or by steps."""

    def __init__(self, minutes, n_steps):
        self.minutes, self.n_steps, self.step, self.begun = minutes, n_steps, 0, time.monotonic()

    def elapsed_s(self):
        return time.monotonic() - self.begun

    def progress(self):
        return self.elapsed_s() / 60 / self.minutes if self.minutes else self.step / self.n_steps

    def say(self, losses):
        progress, elapsed = self.progress(), self.elapsed_s() / 60
        left = elapsed / max(progress, 1e-6) - elapsed
        said = ", ".join(f"{part} {loss:.3f}" for part, loss in losses.items())
        print(f"step {self.step}, {progress:.0%}, {elapsed:.1f} min, {left:.0f} left; {said}", flush=True)


def part_at(progress, step):
    if step < N_COPYING_STEPS:
        return "repeating" if step % 2 == 0 else "values"
    if step % COPYING_EVERY == 0:
        return "values"
    return "single" if progress < SHARE_SINGLE or step % 2 == 0 else "dialogues"


def train(model, batches, args, save):
    losses = collections.defaultdict(lambda: collections.deque(maxlen=SAY_EVERY))
    intent_head = torch.nn.Linear(model.shape.hidden, len(batches.intent_ids))
    optimizer, course = optimizer_of(model, intent_head, LEARNING_RATE[args.which]), Course(args.minutes, args.steps)
    saved = time.monotonic()
    while (progress := course.progress()) < 1:
        model.fake_four_bits(progress >= 1 - SHARE_FOUR_BITS)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(progress, LEARNING_RATE[args.which])
        part = part_at(progress, course.step)
        of_words, of_intent = loss_of(model, intent_head, batches.next(part), args.bfloat16)
        (of_words + SHARE_OF_INTENT * of_intent).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses[part].append(of_words.item())
        if part in ("single", "dialogues"):
            losses["intent"].append(of_intent.item())
        course.step += 1
        if course.step % SAY_EVERY == 0:
            course.say({part: statistics.fmean(of_part) for part, of_part in losses.items()})
        if time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            save(course.step)
    course.say({part: statistics.fmean(of_part) for part, of_part in losses.items()})
    save(course.step)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=sorted(SHAPES))
    parser.add_argument("run_dir", type=pathlib.Path)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has AVX512-BF16")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.run_dir.mkdir(parents=True, exist_ok=True)
    model = Llama(SHAPES[args.which])
    encoder = support_tokenizer.ChatEncoder(tokenizer_in(args.run_dir))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)

    def save(step):
        part = args.run_dir / f"{args.which}.pt.part"
        torch.save({"model": model.state_dict(), "which": args.which, "step": step}, part)
        part.rename(args.run_dir / f"{args.which}.pt")

    train(model, Batches(encoder, args.seed), args, save)


if __name__ == "__main__":
    main()
