"""What the complexity model sees of a text. `src/complexity/classifier.rs` computes the very same numbers.

Does not know any weight. `golden.json` beside the model holds texts with their features, and a test
in the gateway compares; whoever changes a line here changes it there.

Invariants: at most TOKENS_MAX ids, never none; len(NAMES) numbers; only ASCII classes of characters,
so that two languages' ideas of Unicode cannot differ.
"""

import math

import numpy as np

CHARS_MAX = 4096  # A longer text keeps its first and last halves: the task stands at one end or the other.
TOKENS_MAX = 512  # Likewise for tokens.
UNKNOWN_ID = 100  # Stands for a text without any token.
START_ID = 101  # Precedes the first token in the pairs.
N_PAIRS = 1 << 16
PAIR_FACTOR = 31337

NAMES = [
    "log_chars", "log_tokens", "log_digits", "digit_share", "log_numbers", "log_questions", "log_lines",
    "upper_share", "maths_share", "code_share", "log_tex", "log_commas", "log_stops", "foreign_share",
    "variety", "chars_per_token", "log_percents", "fenced", "log_items", "log_options",
]


def capped(text):
    if len(text) <= CHARS_MAX:
        return text
    half = CHARS_MAX // 2
    return text[:half] + "\n" + text[-half:]


def token_ids(tokenizer, text):
    """WordPiece ids of the capped text, without the special tokens."""
    ids = tokenizer.encode(capped(text), add_special_tokens=False).ids
    if len(ids) > TOKENS_MAX:
        ids = ids[: TOKENS_MAX // 2] + ids[-TOKENS_MAX // 2 :]
    return np.array(ids or [UNKNOWN_ID], dtype=np.int64)


def pair_ids(ids):
    before = np.concatenate([[START_ID], ids[:-1]])
    return (before * PAIR_FACTOR + ids) % N_PAIRS


def numbers(text, ids):
    text = capped(text)
    n = max(1, len(text))
    count = lambda wanted: sum(c in wanted for c in text)
    log = math.log1p
    is_digit = [c in "0123456789" for c in text]
    digits = sum(is_digit)
    runs = sum(now and not before for before, now in zip([False] + is_digit, is_digit))
    lines = [line.lstrip(" ") for line in text.split("\n")]
    items = sum(line[:1] in ("-", "*") and line[:1] != "" or line[:1].isascii() and line[:1].isdigit() for line in lines)
    options = sum(len(l) > 1 and l[0].isascii() and l[0].isalpha() and l[1] in ".)" for l in lines)
    return np.array([
        log(len(text)), log(len(ids)), log(digits), digits / n, log(runs), log(count("?")), log(count("\n")),
        count("ABCDEFGHIJKLMNOPQRSTUVWXYZ") / n, count("+-*/=^<>") / n, count("{}()[];_") / n, log(count("$\\")),
        log(count(",")), log(count(".")), sum(not c.isascii() for c in text) / n,
        len(set(ids.tolist())) / len(ids), len(text) / len(ids), log(count("%")), float("```" in text), log(items), log(options),
    ], dtype=np.float32)
