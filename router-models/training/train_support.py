"""Trains the support assistant, or its draft sibling, on dialogues written as it goes.

Exports nothing: `export_support.py` does that from a checkpoint. Needs no GPU and downloads nothing.

    python train_support.py assistant RUN_DIR --minutes 50
    python train_support.py draft RUN_DIR --minutes 10

RUN_DIR gets `tokenizer.json` (trained once, then kept) and `assistant.pt` or `draft.pt`. With `--minutes`, the number of
steps is set after the first ones and printed; `--steps` with that number repeats the run. The last part of the steps
is trained with four-bit weights, so the checkpoint that ships is what the training saw.

Invariants: fixed seeds; loss only on the assistant's words and the end of its turn; no dialogue is seen twice.
"""

import argparse
import pathlib
import random
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import support_text
import support_tokenizer
from support_model import SHAPES, Llama

SEED = 11
TOKENS_A_BATCH = 4096
N_POOL = 6000  # Dialogues sorted by length together, so that a batch has little padding.
SHARE_CUT, CUT_AFTER = 0.65, (8, 28)  # A dialogue's last answer is mostly cut: its first words decide what it is about.
N_WARMUP, N_TIMED = 60, 25
SHARE_FOUR_BITS = 0.3
SAVE_EVERY_S, SAY_EVERY = 240, 20
LEARNING_RATE = {"assistant": 1.5e-3, "draft": 4e-3}
WEIGHT_DECAY, BETAS, MAX_NORM = 0.05, (0.9, 0.97), 1.0
FINAL_SHARE = 0.03  # Of the learning rate, at the last step.


def cut(ids, learned, rng):
    """The dialogue, its last answer mostly cut short, so that a batch holds more questions."""
    if rng.random() > SHARE_CUT:
        return ids, learned
    n_last = learned[::-1].index(False, learned[::-1].index(True)) - learned[::-1].index(True)
    begin = len(learned) - learned[::-1].index(True) - n_last
    keep = begin + rng.randint(*CUT_AFTER)
    return ids[:keep], learned[:keep]


def pools(encoder, seed):
    """Endless batches of (ids, is_learned), each of dialogues of about one length."""
    rng, n_pools = random.Random(seed), 0
    while True:
        dialogues = list(support_text.dialogues(N_POOL, f"{seed}/{n_pools}"))
        rows = sorted((cut(*row, rng) for row in encoder.dialogues(dialogues)), key=lambda row: len(row[0]))
        batches, batch = [], []
        for row in rows:
            if batch and (len(batch) + 1) * len(row[0]) > TOKENS_A_BATCH:
                batches.append(batch)
                batch = []
            batch.append(row)
        rng.shuffle(batches)
        yield from batches
        n_pools += 1


def tensors(batch, n_context):
    n_tokens = min(max(len(ids) for ids, _ in batch), n_context)
    ids = torch.zeros(len(batch), n_tokens, dtype=torch.long)
    learned = torch.zeros(len(batch), n_tokens, dtype=torch.bool)
    for row, (row_ids, row_learned) in enumerate(batch):
        n = min(len(row_ids), n_tokens)
        ids[row, :n] = torch.tensor(row_ids[:n])
        learned[row, :n] = torch.tensor(row_learned[:n])
    return ids, learned


def loss_of(model, ids, learned, in_bfloat16):
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        hidden = model.hidden_states(ids[:, :-1])
        logits = model.logits(hidden[learned[:, 1:]])
    return F.cross_entropy(logits.float(), ids[:, 1:][learned[:, 1:]])


def optimizer_of(model, rate):
    decayed = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=True)


def rate_at(step, n_steps, peak):
    """Linear warm-up, then a straight way down; the four-bit part begins at a third of the peak."""
    if step < N_WARMUP:
        return peak * (step + 1) / N_WARMUP
    left = (n_steps - step) / max(1, n_steps - N_WARMUP)
    return peak * max(FINAL_SHARE, left)


def tokenizer_in(run_dir):
    path = run_dir / "tokenizer.json"
    if not path.exists():
        support_tokenizer.train(SEED).save(str(path))
    return Tokenizer.from_file(str(path))


def say(step, n_steps, loss, begun, is_four_bits):
    elapsed = time.monotonic() - begun
    rest = f"{elapsed / (step + 1) * (n_steps - step - 1) / 60:.0f} min left" if n_steps else "timing"
    bits = ", four bits" if is_four_bits else ""
    print(f"step {step + 1}/{n_steps or '?'}, loss {loss:.4f}, {elapsed / (step + 1):.2f} s a step, {rest}{bits}", flush=True)


def train(model, batches, args, save):
    peak, n_steps, loss_mean = args.rate or LEARNING_RATE[args.which], args.steps, 0.0
    optimizer = optimizer_of(model, peak)
    begun = timed = saved = time.monotonic()
    step = 0
    while n_steps is None or step < n_steps:
        if n_steps is None and step == N_TIMED:
            n_steps = round(args.minutes * 60 / ((time.monotonic() - timed) / (N_TIMED - 5)))
            print(f"{n_steps} steps fit into {args.minutes} minutes", flush=True)
        timed = time.monotonic() if step == 5 else timed
        is_four_bits = args.four_bits_from_start or (n_steps is not None and step >= n_steps * (1 - SHARE_FOUR_BITS))
        model.fake_four_bits(is_four_bits)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, n_steps or 10**9, peak)
        ids, learned = tensors(next(batches), model.shape.n_context)
        loss = loss_of(model, ids, learned, args.bfloat16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss_mean = loss.item() if step == 0 else 0.95 * loss_mean + 0.05 * loss.item()
        if step % SAY_EVERY == SAY_EVERY - 1:
            say(step, n_steps, loss_mean, begun, is_four_bits)
        if time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            save(step + 1)
        step += 1
    save(step)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=sorted(SHAPES))
    parser.add_argument("run_dir", type=pathlib.Path)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has AVX512-BF16")
    parser.add_argument("--init", type=pathlib.Path, help="a checkpoint to go on from")
    parser.add_argument("--rate", type=float, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--four-bits-from-start", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.run_dir.mkdir(parents=True, exist_ok=True)
    model = Llama(SHAPES[args.which])
    if args.init:
        model.load_state_dict(torch.load(args.init)["model"])
    encoder = support_tokenizer.ChatEncoder(tokenizer_in(args.run_dir))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)

    def save(step):
        part = args.run_dir / f"{args.which}.pt.part"
        torch.save({"model": model.state_dict(), "which": args.which, "step": step}, part)
        part.rename(args.run_dir / f"{args.which}.pt")

    train(model, pools(encoder, args.seed), args, save)


if __name__ == "__main__":
    main()
