"""Writes a checkpoint of `train_support.py` as a Hugging Face directory, in float16 or with four-bit weights (AWQ).

Trains nothing. The float16 directory loads with transformers' AutoModelForCausalLM; `--check` compares its greedy answers
with this folder's own model. The AWQ directory is what ships.

    python export_support.py RUN_DIR/assistant.pt ../support-assistant
    python export_support.py RUN_DIR/assistant.pt /tmp/f16 --float16 --check

Invariant: what the AWQ directory says, unpacked, is bit for bit the weight that the four-bit training saw.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import awq_pack
import support_model
import support_tokenizer

N_MOST = 160
QUESTIONS = ("Where is my order 48213?", "hi, I'm Anna. how do i return a kettle", "What is the capital of Peru?")


def load(path):
    saved = torch.load(path)
    model = support_model.Llama(support_model.SHAPES[saved["which"]])
    model.load_state_dict(saved["model"])
    return model.eval()


def round_to_float16(model):
    """What float16 files keep. Weights with four bits are quantised before rounding, so they come from float32."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())


def quantised(model):
    """The tensors of the AWQ file."""
    tensors = {}
    for name, linear in model.linears().items():
        tensors |= awq_pack.tensors_of(name, *support_model.quantise(linear.weight, linear.group_size))
    for name, parameter in model.named_parameters():
        if name.removesuffix(".weight") not in model.linears():
            tensors[name] = parameter.detach().half().contiguous()
    return tensors


def config_of(shape, end_ids, is_awq):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.n_vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.n_context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": end_ids,
        "pad_token_id": 0,
        "torch_dtype": "float16",
    }
    if is_awq:
        bits = {"quant_method": "awq", "bits": 4, "group_size": shape.group_size, "version": "gemm", "zero_point": True}
        config["quantization_config"] = bits
    return config


def write(model, tokenizer, folder, is_awq):
    support_tokenizer.save(tokenizer, folder, model.shape.n_context)
    turn_end, end = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    dump = lambda name, what: (folder / name).write_text(json.dumps(what, indent=2) + "\n")
    dump("config.json", config_of(model.shape, [turn_end, end], is_awq))
    dump("generation_config.json", {"do_sample": False, "eos_token_id": [turn_end, end], "pad_token_id": end})
    plain = {name: parameter.detach().half().contiguous() for name, parameter in model.named_parameters()}
    save_file(quantised(model) if is_awq else plain, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def read_awq(folder, which):
    """An AWQ directory back as a model, its weights as an engine would see them."""
    tensors, model = load_file(folder / "model.safetensors"), support_model.Llama(support_model.SHAPES[which])
    linears = model.linears()
    state = {f"{name}.weight": awq_pack.weight_of(name, tensors) for name in linears}
    state |= {name: tensors[name].float() for name in model.state_dict() if name not in state}
    model.load_state_dict(state)
    return model.eval()


def check_awq(model, folder, which):
    read = read_awq(folder, which)
    for (name, ours), theirs in zip(model.linears().items(), read.linears().values()):
        seen = support_model.dequantise(*support_model.quantise(ours.weight, ours.group_size))
        if not torch.equal(seen, theirs.weight):
            raise AssertionError(f"{name} is not what the training saw")


def check_transformers(model, tokenizer, folder):
    """Greedy answers of transformers, from the directory alone, against this folder's model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs, chat = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    encoder = support_tokenizer.ChatEncoder(tokenizer)
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        ids = chat.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        prompt = encoder.prompt(messages)
        if ids["input_ids"][0].tolist() != prompt:
            raise AssertionError(f"the chat template renders otherwise: {question}")
        answer = theirs.generate(**ids, max_new_tokens=N_MOST)[0, len(prompt) :].tolist()
        ours = model.greedy(prompt, {encoder.turn_end, encoder.end}, N_MOST)
        stop = [encoder.turn_end] if len(ours) < N_MOST else []
        if answer != ours + stop:
            raise AssertionError(f"transformers answers otherwise: {question}")
        print(f"{question} -> {chat.decode(ours)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--float16", action="store_true")
    parser.add_argument("--check", action="store_true", help="needs transformers, and --float16")
    args = parser.parse_args()
    awq_pack.check_golden()
    model = load(args.checkpoint)
    tokenizer = Tokenizer.from_file(str(args.checkpoint.parent / "tokenizer.json"))
    write(model, tokenizer, args.folder, is_awq=not args.float16)
    if not args.float16:
        check_awq(model, args.folder, torch.load(args.checkpoint)["which"])
    elif args.check:
        round_to_float16(model)
        check_transformers(model, tokenizer, args.folder)
    n_bytes = sum(path.stat().st_size for path in args.folder.iterdir() if path.suffix != ".md")
    print(f"{args.folder}: {n_bytes:,} bytes")


if __name__ == "__main__":
    main()
