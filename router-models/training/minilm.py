"""The MiniLM encoder in plain torch, with the parameter names of its published weights.

Knows no files and no text. The word table is frozen: the sets are too small to move 30,000 rows well.

Invariant: with all layers it computes what the published model computes, so that its weights can be
exported by the same graph as the published ones.
"""

import torch
import torch.nn.functional as F
from torch import nn

HIDDEN, HEADS, FEED_FORWARD = 384, 12, 1536
N_VOCABULARY, N_POSITIONS = 30522, 512
PAD, CLS, SEP = 0, 101, 102


class Attention(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.self = nn.ModuleDict({name: nn.Linear(HIDDEN, HIDDEN) for name in ("query", "key", "value")})
        self.output = nn.ModuleDict({"dense": nn.Linear(HIDDEN, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, eps=1e-12)})
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        heads = lambda name: self.self[name](x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads("query"), heads("key"), heads("value"), attn_mask=mask)
        mixed = mixed.transpose(1, 2).flatten(2)
        return self.output["LayerNorm"](x + self.dropout(self.output["dense"](mixed)))


class Layer(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.attention = Attention(dropout)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(HIDDEN, FEED_FORWARD)})
        self.output = nn.ModuleDict({"dense": nn.Linear(FEED_FORWARD, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, eps=1e-12)})
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        x = self.attention(x, mask)
        up = F.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](x + self.dropout(self.output["dense"](up)))


class MiniLM(nn.Module):
    def __init__(self, n_layers=6, dropout=0.0):
        super().__init__()
        self.embeddings = nn.ModuleDict({
            "word_embeddings": nn.Embedding(N_VOCABULARY, HIDDEN),
            "position_embeddings": nn.Embedding(N_POSITIONS, HIDDEN),
            "token_type_embeddings": nn.Embedding(2, HIDDEN),
            "LayerNorm": nn.LayerNorm(HIDDEN, eps=1e-12),
        })
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(dropout) for _ in range(n_layers))})
        self.embeddings["word_embeddings"].weight.requires_grad_(False)

    def load(self, weights, layers=None):
        """Published weights, tensors by name; `layers` says which of them become ours, in order."""
        layers = list(range(len(self.encoder["layer"]))) if layers is None else layers
        ours = {}
        for name in self.state_dict():
            parts = name.split(".")
            if parts[0] == "encoder":
                parts[2] = str(layers[int(parts[2])])
            ours[name] = torch.as_tensor(weights[".".join(parts)])
        self.load_state_dict(ours)
        return self

    def forward(self, ids, kinds=None):
        """ids [batch, seq], padded with PAD; the last hidden state and the mask."""
        mask = ids != PAD
        e = self.embeddings
        x = e["word_embeddings"](ids) + e["position_embeddings"].weight[: ids.shape[1]]
        x = e["LayerNorm"](x + e["token_type_embeddings"](torch.zeros_like(ids) if kinds is None else kinds))
        wide = None if bool(mask.all()) else mask[:, None, None, :]
        for layer in self.encoder["layer"]:
            x = layer(x, wide)
        return x, mask


def pooled(x, mask):
    """Mean under the mask, of length one."""
    share = mask.unsqueeze(-1).to(x.dtype)
    return F.normalize((x * share).sum(1) / share.sum(1), dim=-1)


def padded(rows, value=PAD):
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])
