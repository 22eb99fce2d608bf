"""Four-bit matrices in the layout of AutoAWQ's `gemm` version: packing them, and reading them back.

Chooses no codes: `support_model.quantise` does. The layout is what `local-engine/src/weights/awq.rs` reads.

Invariant: the columns [0, 1, 2, 3, 4, 5, 6, 7] of a row pack to 0x75316420.
"""

import numpy as np
import torch

N_PACKED = 8
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # Nibble i of a word, from the lowest bits, is of column ORDER[i].


def pack(columns):
    """[rows, n] of integers 0 to 15 as int32 words [rows, n / 8]."""
    columns = np.asarray(columns)
    if columns.min() < 0 or columns.max() > 15 or columns.shape[1] % N_PACKED:
        raise ValueError(f"cannot pack {columns.shape} with values {columns.min()} to {columns.max()}")
    of_word = columns.astype(np.uint32).reshape(columns.shape[0], -1, N_PACKED)
    words = sum(of_word[:, :, column] << np.uint32(4 * nibble) for nibble, column in enumerate(ORDER))
    return words.astype(np.uint32).view(np.int32)


def unpack(words):
    words = np.asarray(words).view(np.uint32)
    columns = np.empty((*words.shape, N_PACKED), np.uint8)
    for nibble, column in enumerate(ORDER):
        columns[:, :, column] = (words >> np.uint32(4 * nibble)) & 15
    return columns.reshape(words.shape[0], -1)


def tensors_of(name, q, zero, scale):
    """The three tensors of a weight [out, in] given as q [out, groups, size], z and s [out, groups, 1]."""
    tensor = lambda array: torch.from_numpy(np.ascontiguousarray(array))
    return {
        f"{name}.qweight": tensor(pack(q.flatten(1).T.numpy())),
        f"{name}.qzeros": tensor(pack(zero.squeeze(2).T.numpy())),
        f"{name}.scales": scale.squeeze(2).T.half().contiguous(),
    }


def weight_of(name, tensors):
    """The weight [out, in] in float32, as an engine would use it."""
    q, zero = (unpack(tensors[f"{name}.{part}"].numpy()).astype(np.float32) for part in ("qweight", "qzeros"))
    scale = tensors[f"{name}.scales"].float().numpy()
    size = q.shape[0] // scale.shape[0]
    weight = (q - zero.repeat(size, 0)) * scale.repeat(size, 0)
    return torch.from_numpy(np.ascontiguousarray(weight.T))


def check_golden():
    word = int(pack([[0, 1, 2, 3, 4, 5, 6, 7]])[0, 0])
    if word != 0x75316420:
        raise AssertionError(f"[0..7] packs to {word:#x}")
    wide = np.random.default_rng(1).integers(0, 16, (5, 64))
    if not (unpack(pack(wide)) == wide).all():
        raise AssertionError("unpacking does not undo packing")
