#!/usr/bin/env python3
"""Writes the small checkpoints under `tests/goldens`, with what transformers makes of each.

    python make_goldens.py [OUT_DIR] [NAME ...]

Needs torch, transformers 5, safetensors and compressed-tensors. Every checkpoint is random. Its logits are
those of transformers in f32; of a quantised one, those of the same model with the weights that its integers,
zeros and scales mean. The packers here are written apart from the engine's, and what they pack is read back
by compressed-tensors before anything is kept.

`golden.safetensors` beside a checkpoint holds `prompt`, `positions` (of the prompt), `logits` (a row for each
of the positions) and `greedy` (the likeliest continuation).
"""

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.entrypoints.convert import AutoAWQConverter
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

N_PROMPT, N_GREEDY, N_VOCAB = 45, 12, 96
# Around the edges of pages of 16 and of the windows below.
POSITIONS = [0, 1, 11, 12, 15, 16, 33, 44]
# The likeliest token has to be further from the next than any f32 arithmetic could bring them together.
MIN_GAP = 0.05

SHAPE = dict(
    vocab_size=N_VOCAB,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
)
MORE_HEADS = dict(num_attention_heads=4, num_key_value_heads=2)
WIDER = SHAPE | MORE_HEADS | dict(hidden_size=64)


@dataclass
class Fixture:
    name: str
    config: object
    dtype: torch.dtype
    # None, "awq", "symmetric" or "asymmetric".
    quantised: str | None = None
    # Inputs that share a scale; None for all.
    group_size: int | None = None
    # As checkpoints of older versions of transformers spell positions.
    old_spelling: bool = False
    sharded: bool = False
    generation_eos: list[int] = field(default_factory=list)


def fixtures():
    rope = lambda kind, theta=10_000.0, **rest: dict(rope_type=kind, rope_theta=theta, **rest)
    llama3 = rope(
        "llama3", 500_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32,
    )
    bf16, f16, f32 = torch.bfloat16, torch.float16, torch.float32
    return [
        Fixture("llama-plain", LlamaConfig(**WIDER, rms_norm_eps=1e-5), f16, sharded=True),
        Fixture(
            "llama-llama3-tied",
            LlamaConfig(**SHAPE, rope_parameters=llama3, tie_word_embeddings=True),
            bf16,
            old_spelling=True,
            generation_eos=[2, 7],
        ),
        Fixture(
            "llama-linear-biased",
            LlamaConfig(**SHAPE, rope_parameters=rope("linear", factor=4.0), attention_bias=True, mlp_bias=True),
            f32,
        ),
        Fixture("mistral-window", MistralConfig(**SHAPE, sliding_window=12), f16, old_spelling=True),
        Fixture(
            "qwen2-yarn-tied",
            Qwen2Config(
                **(SHAPE | dict(max_position_embeddings=64)),
                tie_word_embeddings=True,
                rope_parameters=rope("yarn", 1_000_000.0, factor=4.0, original_max_position_embeddings=16),
            ),
            bf16,
        ),
        Fixture(
            "qwen3-half-window",
            Qwen3Config(
                **(SHAPE | MORE_HEADS), head_dim=16, use_sliding_window=True, sliding_window=9, max_window_layers=1
            ),
            bf16,
            old_spelling=True,
        ),
        Fixture(
            "llama-awq-128",
            LlamaConfig(**(WIDER | dict(hidden_size=128, intermediate_size=128))),
            f16,
            quantised="awq",
            group_size=128,
        ),
        Fixture(
            "qwen2-awq-32",
            Qwen2Config(**WIDER, tie_word_embeddings=True),
            f16,
            quantised="awq",
            group_size=32,
            old_spelling=True,
        ),
        Fixture("llama-packed-channel", LlamaConfig(**WIDER), bf16, quantised="symmetric"),
        Fixture("llama-packed-asymmetric", LlamaConfig(**WIDER), f16, quantised="asymmetric", group_size=64),
        Fixture(
            "qwen3-packed-symmetric",
            Qwen3Config(**WIDER, head_dim=32),
            bf16,
            quantised="symmetric",
            group_size=32,
        ),
        Fixture(
            "qwen3-packed-asymmetric",
            Qwen3Config(**WIDER, head_dim=32),
            bf16,
            quantised="asymmetric",
            group_size=32,
        ),
    ]


def random_model(fixture, seed):
    """A model whose matrices keep the variance of their inputs, and whose logits tell tokens apart."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(fixture.config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.uniform_(-0.5, 0.5)
            elif weight.ndim == 1:
                weight.uniform_(0.7, 1.3)
            else:
                # A tied head of larger numbers would only repeat what it reads.
                weight.normal_(std=(3.0 if "lm_head" in name else 1.0) / weight.shape[1] ** 0.5)
            weight.copy_(weight.to(fixture.dtype))
    return model.eval()


def grouped(weight, group_size):
    n_out, n_in = weight.shape
    return weight.reshape(n_out, n_in // group_size, group_size)


def quantise(weight, fixture):
    """Integers from 0 to 15, zeros of the same kind, scales, and the weights that these mean."""
    n_out, n_in = weight.shape
    groups = grouped(weight, fixture.group_size or n_in)
    low, high = groups.amin(-1), groups.amax(-1)
    if fixture.quantised == "symmetric":
        scales = torch.maximum(low.abs(), high.abs()) / 7.5
        zeros = torch.full_like(scales, 8)
    else:
        scales = (high - low) / 15
        zeros = (-low / scales).round().clamp(0, 15)
    scales = scales.to(fixture.dtype)
    steps = (groups / scales.float()[..., None]).round() + zeros[..., None]
    integers = steps.clamp(0, 15)
    meant = (integers - zeros[..., None]) * scales.float()[..., None]
    return integers.reshape(n_out, n_in).int(), zeros.int(), scales, meant.reshape(n_out, n_in)


def words_of(nibbles):
    """Eight nibbles in the last dimension, the first lowest, become one word."""
    wide = nibbles.to(torch.int64) << (4 * torch.arange(8))
    return wide.sum(-1).to(torch.uint32).view(torch.int32)


def pack_awq(integers, zeros, scales):
    # Nibble i of a word is that of column order[i].
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    by_columns = lambda rows: words_of(rows.reshape(rows.shape[0], -1, 8)[..., order])
    return dict(
        qweight=by_columns(integers.T.contiguous()),
        qzeros=by_columns(zeros.T.contiguous()),
        scales=scales.T.contiguous(),
    )


def pack_compressed(integers, zeros, scales, symmetric):
    n_out, n_in = integers.shape
    tensors = dict(
        weight_packed=words_of(integers.reshape(n_out, -1, 8)),
        weight_scale=scales.contiguous(),
        weight_shape=torch.tensor([n_out, n_in]),
    )
    if not symmetric:
        rows = zeros.T.reshape(zeros.shape[1], -1, 8)
        tensors["weight_zero_point"] = words_of(rows).T.contiguous()
    return tensors


def quantisation_config(fixture):
    if fixture.quantised == "awq":
        return dict(quant_method="awq", bits=4, group_size=fixture.group_size, version="gemm", zero_point=True)
    weights = dict(
        num_bits=4,
        type="int",
        symmetric=fixture.quantised == "symmetric",
        strategy="group" if fixture.group_size else "channel",
        group_size=fixture.group_size,
    )
    return dict(
        quant_method="compressed-tensors",
        format="pack-quantized",
        quantization_status="compressed",
        ignore=["lm_head"],
        config_groups=dict(group_0=dict(targets=["Linear"], weights=weights)),
    )


def quantised_tensors(model, fixture):
    """All tensors of the checkpoint; leaves in the model what they mean."""
    tensors = {}
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        integers, zeros, scales, meant = quantise(module.weight.data, fixture)
        module.weight.data.copy_(meant)
        if fixture.quantised == "awq":
            packed = pack_awq(integers, zeros, scales)
        else:
            packed = pack_compressed(integers, zeros, scales, fixture.quantised == "symmetric")
        tensors |= {f"{name}.{part}": tensor for part, tensor in packed.items()}
        check_packing(fixture, packed, meant)
    return tensors | plain_tensors(model, fixture, skip=set(tensors))


def check_packing(fixture, packed, meant):
    """compressed-tensors has to read the same weights, AutoAWQ's through its own conversion."""
    section = quantisation_config(fixture)
    if fixture.quantised == "awq":
        converter = AutoAWQConverter.from_autoawq_config(section)
        config = json.loads(converter.update_config(None).model_dump_json())
        (scheme,) = config["config_groups"].values()
        packed = converter.process({f"x.{part}": tensor for part, tensor in packed.items()})
        packed = {name.removeprefix("x."): tensor for name, tensor in packed.items()}
    else:
        scheme = section["config_groups"]["group_0"]
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    theirs = compressor.decompress(packed, QuantizationScheme.model_validate(scheme))["weight"]
    # They compute in the type of the scales.
    error = (theirs.float() - meant).abs().max() / meant.abs().max()
    assert error < 2.0**-8, f"{fixture.name}: packed weights are off by {error}"


def plain_tensors(model, fixture, skip=frozenset()):
    quantised = {name.rsplit(".", 1)[0] for name in skip}
    tied = fixture.config.tie_word_embeddings
    return {
        name: tensor.to(fixture.dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
        and not (name.endswith(".weight") and name.removesuffix(".weight") in quantised)
    }


def write_config(path, fixture):
    config = fixture.config.to_dict()
    config["architectures"] = [{"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[
        config["model_type"]
    ] + "ForCausalLM"]
    if fixture.quantised:
        config["quantization_config"] = quantisation_config(fixture)
    if fixture.old_spelling:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
        config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_shards(directory, tensors):
    """Two files, the tensors alternating between them, and the index."""
    names = [f"model-{shard_idx:05}-of-00002.safetensors" for shard_idx in (1, 2)]
    places = {name: names[idx % 2] for idx, name in enumerate(sorted(tensors))}
    for shard in names:
        of_shard = {name: tensor for name, tensor in tensors.items() if places[name] == shard}
        save_file(of_shard, directory / shard, metadata={"format": "pt"})
    n_bytes = sum(tensor.nbytes for tensor in tensors.values())
    index = dict(metadata=dict(total_size=n_bytes), weight_map=places)
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


@torch.no_grad()
def golden(model):
    """What the model makes of a prompt; None when its choices are not clear enough."""
    prompt = torch.randint(3, N_VOCAB, (N_PROMPT,))
    logits = model(prompt[None], use_cache=False).logits[0]
    tokens = prompt.tolist()
    for _ in range(N_GREEDY):
        last = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        best = last.topk(2)
        if best.values[0] - best.values[1] < MIN_GAP:
            return None
        tokens.append(best.indices[0].item())
    greedy = torch.tensor(tokens[N_PROMPT:])
    if len(set(greedy.tolist())) < N_GREEDY // 2:
        return None
    positions = torch.tensor(POSITIONS)
    return dict(prompt=prompt, positions=positions, logits=logits[positions].contiguous(), greedy=greedy)


def make(fixture, out):
    for seed in range(1_000):
        model = random_model(fixture, seed)
        tensors = quantised_tensors(model, fixture) if fixture.quantised else plain_tensors(model, fixture)
        made = golden(model)
        if made:
            break
    else:
        raise SystemExit(f"{fixture.name}: no seed gives clear choices")
    directory = out / fixture.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    write_config(directory / "config.json", fixture)
    if fixture.generation_eos:
        GenerationConfig(eos_token_id=fixture.generation_eos).save_pretrained(directory)
    if fixture.sharded:
        write_shards(directory, tensors)
    else:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    save_file(made, directory / "golden.safetensors")
    check_written(fixture, directory, made)
    n_bytes = sum(path.stat().st_size for path in directory.iterdir())
    print(f"{fixture.name}: seed {seed}, {n_bytes:,} bytes")


@torch.no_grad()
def check_written(fixture, directory, made):
    """Transformers has to read from the directory what was meant.

    AWQ it reads on a GPU only, and packed zeros (5.23 with compressed-tensors 0.20) it takes for plain ones:
    for these `check_packing` has to do.
    """
    if fixture.quantised in ("awq", "asymmetric"):
        return
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    logits = model(load_file(directory / "golden.safetensors")["prompt"][None]).logits[0, POSITIONS]
    error = (logits - made["logits"]).abs().max()
    # A quantised one is widened in the type of its scales, which rounds.
    limit = 0.2 if fixture.quantised else 1e-4
    assert error < limit, f"{fixture.name}: what was written gives logits off by {error}"


def main():
    torch.set_num_threads(1)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests" / "goldens"
    wanted = sys.argv[2:]
    for fixture in fixtures():
        if not wanted or fixture.name in wanted:
            make(fixture, out)


if __name__ == "__main__":
    main()
