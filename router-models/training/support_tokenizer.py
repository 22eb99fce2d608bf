"""Trains the support assistant's tokenizer, and writes the files that Hugging Face's tools and the engine read.

Byte-level BPE: any UTF-8 text encodes. Digits stand alone, so that an order number is copied digit by digit.

Invariant: text between two special tokens encodes the same wherever it stands, so a dialogue may be encoded in parts.
"""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import support_text

N_VOCABULARY = 4096
N_DIALOGUES = 40_000
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] | trim) + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def train(seed):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=3,
        show_progress=False,
    )
    texts = (m["content"] for d in support_text.dialogues(N_DIALOGUES, f"tokenizer {seed}") for m in d.messages())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer, folder, n_context):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    end, _, turn_end = SPECIALS
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": n_context,
        "bos_token": None,
        "eos_token": turn_end,
        "pad_token": end,
        "additional_special_tokens": SPECIALS,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    special = {"eos_token": turn_end, "pad_token": end, "additional_special_tokens": SPECIALS}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


class ChatEncoder:
    """Dialogues as token ids, as the chat template would render them, with a mask of what is learned."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.end, self.start, self.turn_end = (tokenizer.token_to_id(token) for token in SPECIALS)
        self.newline = tokenizer.encode("\n").ids

    def dialogues(self, dialogues):
        """(ids, is_learned) of each dialogue; encoded together, which is several times faster."""
        messages = [dialogue.messages() for dialogue in dialogues]
        flat = [m["role"] + "\n" + m["content"].strip() for each in messages for m in each]
        encoded = iter(self.tokenizer.encode_batch(flat))
        n_heads = {role: len(self.tokenizer.encode(role + "\n").ids) for role in ("system", "user", "assistant")}
        rows = []
        for each in messages:
            ids, learned = [], []
            for message in each:
                body = next(encoded).ids + [self.turn_end]
                n_head = n_heads[message["role"]] if message["role"] == "assistant" else len(body)
                ids += [self.start, *body, *self.newline]
                learned += [False, *[idx >= n_head for idx in range(len(body))], *[False for _ in self.newline]]
            rows.append((ids, learned))
        return rows

    def prompt(self, messages):
        ids = []
        for message in messages:
            body = self.tokenizer.encode(message["role"] + "\n" + message["content"].strip()).ids
            ids += [self.start, *body, self.turn_end, *self.newline]
        return [*ids, self.start, *self.tokenizer.encode("assistant\n").ids]
