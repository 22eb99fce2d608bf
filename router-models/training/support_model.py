"""The Llama decoder of the support assistant in plain torch, with weights that can pretend to have four bits.

Knows no files and no text. Parameter names are those of Hugging Face's LlamaForCausalLM.

Invariant: a faked weight is exactly `(q - z) * s` with integers 0 <= q, z <= 15 and s a float16, as AutoAWQ stores it.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

MAX_NIBBLE = 15
STD = 0.02  # Of weights before any training.
LEAST_SCALE = 2.0**-20  # Keeps an all-zero group from dividing by nothing; still a normal number once halved often.


@dataclasses.dataclass(frozen=True)
class Shape:
    n_vocabulary: int
    hidden: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    intermediate: int
    n_context: int = 1024
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    group_size: int = 128

    @property
    def head_dim(self):
        return self.hidden // self.n_heads


ASSISTANT = Shape(4096, hidden=384, n_layers=2, n_heads=6, n_kv_heads=2, intermediate=1536)
DRAFT = Shape(4096, hidden=128, n_layers=2, n_heads=2, n_kv_heads=1, intermediate=384)
SHAPES = {"assistant": ASSISTANT, "draft": DRAFT}


def quantise(weight, group_size):
    """q, z and s of a weight [out, in]: in groups along `in`, each with its own zero point and float16 scale."""
    groups = weight.detach().float().unflatten(1, (-1, group_size))
    low, high = groups.amin(2, keepdim=True).clamp(max=0), groups.amax(2, keepdim=True).clamp(min=0)
    scale = ((high - low) / MAX_NIBBLE).clamp(min=LEAST_SCALE).half().float()
    zero = torch.round(-low / scale).clamp(0, MAX_NIBBLE)
    q = (torch.round(groups / scale) + zero).clamp(0, MAX_NIBBLE)
    return q, zero, scale


def dequantise(q, zero, scale):
    return ((q - zero) * scale).flatten(1)


class Linear(nn.Module):
    """A weight without bias that shows its four-bit self while `fake` is set; gradients pass straight through."""

    def __init__(self, n_in, n_out, group_size):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.group_size, self.fake = group_size, False

    def forward(self, x):
        weight = self.weight
        if self.fake:
            weight = weight + (dequantise(*quantise(weight, self.group_size)) - weight).detach()
        return F.linear(x, weight)


class RMSNorm(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(shape.hidden)), shape.norm_eps

    def forward(self, x):
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, self.eps)


def rope_table(shape, n_positions):
    half = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
    angle = torch.outer(torch.arange(n_positions).float(), shape.rope_theta**-half)
    return torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        n_kv = shape.n_kv_heads * shape.head_dim
        self.q_proj = Linear(shape.hidden, shape.hidden, shape.group_size)
        self.k_proj = Linear(shape.hidden, n_kv, shape.group_size)
        self.v_proj = Linear(shape.hidden, n_kv, shape.group_size)
        self.o_proj = Linear(shape.hidden, shape.hidden, shape.group_size)

    def forward(self, x, cos, sin, past):
        """`past` is None, or a dictionary that keeps keys and values of the tokens before."""
        heads = lambda y: y.unflatten(-1, (-1, self.shape.head_dim)).transpose(1, 2)
        q, k, v = rotate(heads(self.q_proj(x)), cos, sin), rotate(heads(self.k_proj(x)), cos, sin), heads(self.v_proj(x))
        is_first = past is None or "k" not in past
        if past is not None:
            past["k"] = k = k if is_first else torch.cat([past["k"], k], 2)
            past["v"] = v = v if is_first else torch.cat([past["v"], v], 2)
        n_repeat = self.shape.n_heads // self.shape.n_kv_heads
        k, v = k.repeat_interleave(n_repeat, 1), v.repeat_interleave(n_repeat, 1)
        # In float32 even under autocast: on a CPU the backward pass of bfloat16 attention takes twice as long.
        with torch.autocast("cpu", enabled=False):
            mixed = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=is_first)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.gate_proj = Linear(shape.hidden, shape.intermediate, shape.group_size)
        self.up_proj = Linear(shape.hidden, shape.intermediate, shape.group_size)
        self.down_proj = Linear(shape.intermediate, shape.hidden, shape.group_size)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(shape), Attention(shape)
        self.post_attention_layernorm, self.mlp = RMSNorm(shape), Mlp(shape)

    def forward(self, x, cos, sin, past):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.n_vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.n_layers))
        self.norm = RMSNorm(shape)


class Llama(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape, self.model = shape, Decoder(shape)
        cos, sin = rope_table(shape, shape.n_context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.start_weights()

    def start_weights(self):
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                is_out = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=STD / (2 * self.shape.n_layers) ** (0.5 if is_out else 0.0))
        self.start_copying()

    @torch.no_grad()
    def start_copying(self):
        """Lets the first two layers begin with what copies: a head that hands each token the one before it, and a head
        that looks for where the token at hand was the one before, and says what came there. Left to itself, a model of
        this size has not found that after 650 steps of nothing else."""
        hidden, dim, half = self.shape.hidden, self.shape.head_dim, self.shape.head_dim // 2
        # Directions of the residual stream: what all tokens share, where the token before is noted, what a token is.
        bases = torch.linalg.qr(torch.randn(hidden, 1 + half + dim))[0].T
        shared, noted, token = bases[0], bases[1 : 1 + half], bases[1 + half :]
        embedding = self.model.embed_tokens.weight
        embedding += STD * hidden**0.5 * shared
        first, second = (layer.self_attn for layer in self.model.layers[:2])
        # Both turned so that, one position apart, they meet: rotation by the fast frequencies tells neighbours apart.
        angle = self.shape.rope_theta ** -(torch.arange(0, dim, 2).float() / dim)
        fast = (torch.arange(half) < half // 4).float()
        key = torch.cat([fast, torch.zeros(half)])
        query = torch.cat([fast * (angle).cos(), fast * -(angle).sin()])
        strength = 5.5 / (hidden / 2) ** 0.5
        first.q_proj.weight[:dim] += strength * torch.outer(query, shared)
        first.k_proj.weight[:dim] += strength * torch.outer(key, shared)
        first.v_proj.weight[:half] += 0.35 * token[:half]
        first.o_proj.weight[:, :half] += 0.2 * noted.T
        # The slow frequencies hardly turn, so that a token is known again from afar.
        slow = torch.cat([torch.arange(half // 2, half), torch.arange(half + half // 2, dim)])
        second.q_proj.weight[slow] += 1.6 * token[:half]
        second.k_proj.weight[slow] += 1.6 * noted
        second.v_proj.weight[:dim] += 0.55 * token
        second.o_proj.weight[:, :dim] += 0.55 * token.T

    def hidden_states(self, ids, pasts=None, n_past=0):
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[n_past : n_past + ids.shape[1]], self.sin[n_past : n_past + ids.shape[1]]
        for idx, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, pasts[idx] if pasts else None)
        return self.model.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.model.embed_tokens.weight)

    def linears(self):
        return {name: module for name, module in self.named_modules() if isinstance(module, Linear)}

    def fake_four_bits(self, on):
        for linear in self.linears().values():
            linear.fake = on

    @torch.no_grad()
    def become_four_bits(self):
        """Replaces the weights by their four-bit selves, for good: faster to use than faking them at each step."""
        for linear in self.linears().values():
            linear.weight.copy_(dequantise(*quantise(linear.weight, linear.group_size)))

    @torch.no_grad()
    def greedy_batch(self, prompts, stop_ids, n_most=160):
        """The ids of the likeliest answers, without the stop, to prompts of one length."""
        pasts, n_past, ids = [{} for _ in self.model.layers], 0, torch.tensor(prompts)
        answers, is_open = [[] for _ in prompts], [True for _ in prompts]
        while any(is_open) and len(max(answers, key=len)) < n_most and n_past + ids.shape[1] <= self.shape.n_context:
            hidden = self.hidden_states(ids, pasts, n_past)
            n_past += ids.shape[1]
            ids = self.logits(hidden[:, -1]).argmax(1, keepdim=True)
            for row, token in enumerate(ids[:, 0].tolist()):
                is_open[row] = is_open[row] and token not in stop_ids
                if is_open[row]:
                    answers[row].append(token)
        return answers

    def greedy(self, prompt, stop_ids, n_most=160):
        return self.greedy_batch([prompt], stop_ids, n_most)[0]
