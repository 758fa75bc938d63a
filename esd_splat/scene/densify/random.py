"""Random numbers that depend only on what they are used for, not on earlier draws.

The counter-based generator Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011) maps a counter and a key to 128 bits. The key is the seed of the run and the
counter is ``(step, row, copy, axis)``. There is no state to pass around or to save, and every
device, number of threads and language with integer multiplication draws the same bits.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORD = 0xFFFFFFFF
"""Largest 32-bit word, used as a mask to reduce modulo 2^32."""
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
"""Round multipliers of Philox4x32 (Salmon et al., section 3.3)."""
WEYL = (0x9E3779B9, 0xBB67AE85)
"""Increments of the key between rounds: the golden ratio and sqrt(3) - 1 as fractions of 2^32."""
ROUNDS = 10

NORMAL_MEAN = 262140
"""Mean of the sum of eight uniform 16-bit integers, 8 * 65535 / 2."""
NORMAL_SCALE = float.fromhex("0x1.3988e2p-16")
"""Inverse of the standard deviation of this sum, sqrt(8 * (2^32 - 1) / 12), as float32."""


def normals(seed: int, step: int, rows: Int[Tensor, " n"], copy: int) -> Float[Tensor, "n 3"]:
    """Return three approximately normal float32 numbers for each of ``rows``.

    Each number is the sum of the eight 16-bit halves of one Philox block, centred and scaled. It
    has an Irwin-Hall distribution with mean 0, variance 1, kurtosis 2.85 and an absolute value of
    at most 4.9. The sum is an exact integer and is rounded by a single multiplication, so the bits
    are the same on every device. The logarithm and cosine of the Box-Muller method are not.

    Only counters whose fourth word is 0, 1 or 2 are used. The others are free for other purposes.

    Args:
        seed: seed of the run. Its low 64 bits are the key.
        step: the optimizer step, below 2^32.
        rows: rows of the scene that the numbers belong to, each below 2^32.
        copy: distinguishes several draws for the same row and step.
    """
    low, high = seed & WORD, (seed >> 32) & WORD
    counter = torch.full((3, len(rows), 4), step, dtype=torch.int64, device=rows.device)
    counter[..., 1], counter[..., 2] = rows, copy
    counter[..., 3] = torch.arange(3, device=rows.device)[:, None]
    words = philox4x32(counter, (low, high))
    total = ((words & 0xFFFF) + (words >> 16)).sum(-1)
    return ((total - NORMAL_MEAN).to(torch.float32) * NORMAL_SCALE).mT


def philox4x32(counter: Int[Tensor, "*batch 4"], key: tuple[int, int]) -> Int[Tensor, "*batch 4"]:
    """Return four random 32-bit words for each ``counter`` of four words, all stored as int64."""
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(MULTIPLIERS[0], c0)
        high1, low1 = _multiply(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return torch.stack([c0, c1, c2, c3], dim=-1)


def _multiply(
    factor: int, word: Int[Tensor, "*batch"]
) -> tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"]]:
    """Return the high and the low word of the 64-bit product of two 32-bit words."""
    # Multiplying 16-bit halves keeps all values below 2^49. The full product would overflow int64,
    # and torch does not guarantee that it wraps around.
    upper, lower = factor * (word >> 16), factor * (word & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, (lower + ((upper & 0xFFFF) << 16)) & WORD
