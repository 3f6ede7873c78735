"""Random numbers that depend on a seed and a place, never on an order of calls.

Every number is a hash of (64-bit seed of one picture, number of the draw). A picture is therefore augmented
alike in whatever batch it comes, a resumed run repeats what the interrupted one would have done, and
switching one augmentation on leaves the draws of the others as they were.

The hash is the output function of SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014) in torch's wrapping 64-bit arithmetic, so it runs on any device.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

__all__ = ["mix64", "normals", "picture_seeds", "stream_keys", "uniforms"]


def _signed(value: int) -> int:
    """Return the 64 bits of ``value`` as the signed number that torch's int64 holds."""
    return value - (1 << 64) if value >= 1 << 63 else value


_INCREMENT: Final = _signed(0x9E3779B97F4A7C15)
_FIRST: Final = _signed(0xBF58476D1CE4E5B9)
_SECOND: Final = _signed(0x94D049BB133111EB)


def mix64(x: Tensor) -> Tensor:
    """Return a well mixed 64-bit hash of every element; a one-to-one map.

    Args:
        x: int64, any shape; read as 64 bits without sign.

    Returns:
        int64 of the same shape.
    """
    mixed = x + _INCREMENT
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, 1)):
        # torch shifts the sign in from the left; the mask makes the shift a logical one.
        mixed ^= (mixed >> shift).bitwise_and_((1 << (64 - shift)) - 1)
        if factor != 1:
            mixed *= factor
    return mixed


def picture_seeds(seed: int, epoch: int, rows: Tensor) -> Tensor:
    """Return the seed of every picture of a batch in one epoch of a run.

    Args:
        seed: Seed of the run, any integer; its lowest 64 bits count.
        epoch: Number of the epoch, from 0.
        rows: Places of the pictures in the epoch or rows in the table, int64 [B].

    Returns:
        int64 [B].
    """
    run = mix64(torch.tensor(_signed(seed & (2**64 - 1)), dtype=torch.int64, device=rows.device))
    return mix64(mix64(run + epoch) + rows)


def stream_keys(seeds: Tensor, stream: int) -> Tensor:
    """Return keys [B] of a further, independent stream of numbers for each seed [B]."""
    return mix64(mix64(seeds) + stream)


def uniforms(seeds: Tensor, count: int) -> Tensor:
    """Return ``count`` numbers in [0, 1) for each seed; number i never depends on ``count``.

    Args:
        seeds: int64 [B].
        count: How many numbers a seed gives.

    Returns:
        float64 [B, count] with all 53 bits random.
    """
    places = torch.arange(count, dtype=torch.int64, device=seeds.device)
    bits = mix64(mix64(seeds)[:, None] + places * _INCREMENT)
    return ((bits >> 11) & ((1 << 53) - 1)).to(torch.float64) * 2.0**-53


def normals(keys: Tensor, count: int) -> Tensor:
    """Return ``count`` standard normal numbers for each key.

    The Box–Muller transform of 16-bit fractions: four numbers from one hash, none beyond ±4.9, which is
    ample for the noise of pixels and several times as fast as full precision.

    Args:
        keys: int64 [B].
        count: How many numbers a key gives.

    Returns:
        float32 [B, count].
    """
    words = -(-count // 4)
    places = torch.arange(words, dtype=torch.int64, device=keys.device)
    bits = mix64(keys[:, None] + places * _INCREMENT)
    quarters = [((bits >> shift) & 0xFFFF).to(torch.float32).add_(0.5) for shift in (0, 16, 32, 48)]
    radius = torch.cat(quarters[:2], 1).mul_(1 / 65536).log_().mul_(-2).sqrt_()
    angle = torch.cat(quarters[2:], 1).mul_(2 * math.pi / 65536)
    return torch.cat((angle.cos().mul_(radius), angle.sin_().mul_(radius)), 1)[:, :count]
