"""The guard in plain torch: reads two texts at once and says whether an answer to one answers the other.

Knows no files. What it is told besides the tokens is which of them stand in both texts, as part of the token's
kind, so that three layers need not find that out.

Invariant: `inputs` is all a caller must compute; a gateway does the same and gets the same logit.
"""

import torch
from torch import nn

import minilm

N_KINDS = 4
MAX_TOKENS_EACH = 64


def inputs(a, b):
    """Ids and kinds of a pair from the ids of its texts, without special tokens: 0 and 1 are the texts, 2 more where the other lacks the token."""
    a, b = a[:MAX_TOKENS_EACH], b[:MAX_TOKENS_EACH]
    in_a, in_b = set(a), set(b)
    ids = [minilm.CLS, *a, minilm.SEP, *b, minilm.SEP]
    kinds = [0, *(0 if t in in_b else 2 for t in a), 0, *(1 if t in in_a else 3 for t in b), 1]
    return ids, kinds


class Guard(nn.Module):
    def __init__(self, n_layers, dropout=0.1):
        super().__init__()
        self.body = minilm.MiniLM(n_layers, dropout)
        self.body.embeddings["token_type_embeddings"] = nn.Embedding(N_KINDS, minilm.HIDDEN)
        self.head = nn.Sequential(nn.Linear(2 * minilm.HIDDEN, 128), nn.GELU(), nn.Linear(128, 1))

    def start(self, weights):
        """From the lowest layers of published weights; the new kinds begin as the two that are known."""
        plain = minilm.MiniLM(len(self.body.encoder["layer"])).load(weights)
        self.body.encoder.load_state_dict(plain.encoder.state_dict())
        kinds = plain.embeddings["token_type_embeddings"].weight.data
        noise = 0.02 * torch.randn(N_KINDS, minilm.HIDDEN)
        own = self.body.embeddings
        own["token_type_embeddings"].weight.data = torch.cat([kinds, kinds]) + noise
        for name in ("word_embeddings", "position_embeddings", "LayerNorm"):
            own[name].load_state_dict(plain.embeddings[name].state_dict())
        return self

    def forward(self, ids, kinds):
        x, mask = self.body(ids, kinds)
        share = mask.unsqueeze(-1).to(x.dtype)
        mean = (x * share).sum(1) / share.sum(1)
        return self.head(torch.cat([x[:, 0], mean], -1))[:, 0]
