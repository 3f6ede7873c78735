"""Which sites fire at a step: a counter-based hash instead of a stream of random numbers.

A stream of random numbers makes the result of one picture depend on the pictures before it. Here
whether a site fires is a pure function of *(seed, image, step, row, column)*, so that a picture gets
the same answer in every batch, in every order and on every engine.

Definition. All arithmetic is on unsigned 32-bit integers, modulo 2³²::

    mix(x):     x ^= x >> 16;  x *= 0x7FEB352D
                x ^= x >> 15;  x *= 0x846CA68B
                x ^= x >> 16;  return x

    absorb(h, word):  return mix((h ^ word) + 0x9E3779B9)

    h = 0x6C65756B
    for word in (seed low, seed high, image low, image high, step, row, column):
        h = absorb(h, word)

    the site fires  ⇔  (h >> 8) < round(probability · 2²⁴)

*seed* and *image* are 64-bit numbers, taken as two 32-bit words, low word first. *step* counts from
0, *row* from the top, *column* from the left. Probability 1 lets every site fire, 0 none.
``mix`` is the 32-bit finaliser known as lowbias32 (C. Wellons, "Prospecting for hash functions").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from leukonca.errors import SettingError

__all__ = ["Firing", "derive_seed", "fires", "fires_by_step", "image_id", "mix32"]

_START: Final = 0x6C65756B
_GOLDEN: Final = 0x9E3779B9
_FIRST: Final = 0x7FEB352D
_SECOND: Final = 0x846CA68B
_WORD: Final = 0xFFFFFFFF


def _signed(word: int) -> int:
    """The int32 with the bits of an unsigned 32-bit number (tensors have no unsigned arithmetic)."""
    return word - (1 << 32) if word >= 1 << 31 else word


def mix32(x: Tensor) -> Tensor:
    """Mix the bits of 32-bit words.

    Args:
        x: int32, any shape; the bits are those of unsigned words.

    Returns:
        int32 of the same shape.
    """
    # int32 products wrap modulo 2³²; its right shift copies the sign, which the masks take off again.
    x = (x ^ ((x >> 16) & 0xFFFF)) * _signed(_FIRST)
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _signed(_SECOND)
    return x ^ ((x >> 16) & 0xFFFF)


def _absorb(h: Tensor, word: Tensor | int) -> Tensor:
    return mix32((h ^ word) + _signed(_GOLDEN))


def _mix(x: int) -> int:
    x = ((x ^ (x >> 16)) * _FIRST) & _WORD
    x = ((x ^ (x >> 15)) * _SECOND) & _WORD
    return x ^ (x >> 16)


def _absorb_words(h: int, *words: int) -> int:
    for word in words:
        h = _mix(((h ^ word) + _GOLDEN) & _WORD)
    return h


def derive_seed(*words: int) -> int:
    """Return a 63-bit seed that depends on every one of ``words``, each in [0, 2⁶⁴).

    Used wherever one seed has to give many (per epoch, per fold), so that nothing is drawn from a stream.
    """
    parts = [part for word in words for part in (word & _WORD, (word >> 32) & _WORD)]
    low, high = _absorb_words(_START, 0, *parts), _absorb_words(_START, 1, *parts)
    return ((high << 32) | low) & ((1 << 63) - 1)


def image_id(content_hash: str) -> int:
    """Return the firing identity of a picture from the hexadecimal hash of its pixels, in [0, 2⁶³)."""
    return int(content_hash[:16], 16) & ((1 << 63) - 1)


@dataclass(frozen=True)
class Firing:
    """What decides the firing of a batch.

    Attributes:
        seed: In [0, 2⁶³).
        images: int64 [B], the identity of each picture (see :func:`image_id`).
        probability: In [0, 1].
    """

    seed: int
    images: Tensor
    probability: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise SettingError(f"firing probability {self.probability} is outside [0, 1]")
        if not 0 <= self.seed < 1 << 63:
            raise SettingError(f"firing seed {self.seed} is outside [0, 2^63)")
        if self.images.dtype != torch.int64 or self.images.dim() != 1:
            raise SettingError(
                f"image identities must be int64 [B], not {self.images.dtype} {self.images.shape}"
            )

    def keys(self) -> Tensor:
        """Return the hash after seed and image, int32 [B]; the part that all steps share."""
        start = _absorb_words(_START, self.seed & _WORD, self.seed >> 32)
        low, high = self.images.to(torch.int32), (self.images >> 32).to(torch.int32)
        return _absorb(_absorb(torch.full_like(low, _signed(start)), low), high)

    def at(self, keys: Tensor, step: int, rows: int, columns: int) -> Tensor:
        """Return which sites fire, bool [B, rows, columns], given :meth:`keys`."""
        return fires_by_step(_absorb(keys, step), rows, columns, self.threshold)

    def by_step(self, keys: Tensor, steps: range) -> Tensor:
        """Return the hash after seed, image and step, int32 [len(steps), B], given :meth:`keys`."""
        numbers = torch.arange(steps.start, steps.stop, dtype=torch.int32, device=keys.device)
        return _absorb(keys[None], numbers[:, None])

    @property
    def threshold(self) -> int:
        """The number below which the upper 24 bits of the hash let a site fire, in [0, 2²⁴]."""
        return round(self.probability * (1 << 24))


def fires_by_step(by_step: Tensor, rows: int, columns: int, threshold: int) -> Tensor:
    """Return which sites fire, bool [B, rows, columns], given the hash after the step, int32 [B]."""
    device = by_step.device
    by_row = _absorb(by_step[:, None], torch.arange(rows, dtype=torch.int32, device=device))
    h = _absorb(by_row[:, :, None], torch.arange(columns, dtype=torch.int32, device=device))
    return ((h >> 8) & 0xFFFFFF) < threshold


def fires(firing: Firing, step: int, rows: int, columns: int) -> Tensor:
    """Return which sites of a grid fire at ``step``, bool [B, rows, columns]."""
    return firing.at(firing.keys(), step, rows, columns)
