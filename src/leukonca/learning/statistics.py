"""Mean and spread of the input colours, and bringing pictures to a common scale with them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.errors import DataError, SettingError
from leukonca.learning.settings import Normalisation

__all__ = ["SMALLEST_SPREAD", "InputStatistics", "Normalisation", "input_statistics", "normalise"]

SMALLEST_SPREAD: Final = 1 / 255
"""Floor of a standard deviation: one grey level of 8 bits. What varies less is rounding, and dividing by it
would blow rounding up; an even picture becomes 0 instead of NaN."""


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Mean and standard deviation of red, green and blue, as a share of white.

    Attributes:
        mean: Three finite numbers.
        std: Three finite numbers ≥ 0; of the population (divided by the number of pixels).

    Raises:
        SettingError: A value is not as stated.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, smallest in (("mean", -math.inf), ("std", 0.0)):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or not all(math.isfinite(v) and v >= smallest for v in values):
                raise SettingError(
                    f"input statistics: {name} = {list(values)}: must be three finite numbers"
                    + (" of at least 0" if name == "std" else "")
                )
            # JSON gives lists; equality and hashing want tuples.
            object.__setattr__(self, name, values)


def input_statistics(blocks: Iterable[npt.NDArray[np.uint8]]) -> InputStatistics:
    """Return mean and standard deviation of all pixels of all blocks, in one pass.

    Sums of whole numbers are exact, so neither the order of the pictures nor the size of the blocks changes
    the result by a bit. Give it the training cells and no others.

    Args:
        blocks: Arrays uint8 [n, H, W, 3]; n, H and W may differ between blocks.

    Raises:
        DataError: There is no pixel.
        ValueError: A block has another type or shape.
    """
    levels = np.arange(256, dtype=np.int64)
    counts = np.zeros((3, 256), dtype=np.int64)
    for block in blocks:
        if block.dtype != np.uint8 or block.ndim != 4 or block.shape[3] != 3:
            raise ValueError(f"a block must be uint8 [n, H, W, 3], not {block.dtype} {list(block.shape)}")
        for channel in range(3):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    pixels = int(counts[0].sum())
    if pixels == 0:
        raise DataError("input statistics: there are no training pictures to compute them from")
    mean, std = [], []
    for histogram in counts:
        # Python's whole numbers do not overflow where the squared sum of a large set would.
        total, squares = int(histogram @ levels), int(histogram @ levels**2)
        mean.append(total / (255 * pixels))
        std.append(math.sqrt(pixels * squares - total**2) / (255 * pixels))
    return InputStatistics((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def normalise(batch: Tensor, mode: Normalisation, statistics: InputStatistics | None = None) -> Tensor:
    """Return (batch - mean) / spread, channel by channel, with spreads of at least ``SMALLEST_SPREAD``.

    Args:
        batch: float [B, 3, H, W] in [0, 1].
        mode: See ``Normalisation``.
        statistics: Needed by ``training`` only.

    Returns:
        float [B, 3, H, W]; for ``none`` the batch itself.

    Raises:
        SettingError: The mode is unknown, or ``training`` has no statistics.
    """
    if mode == "none":
        return batch
    if mode == "picture":
        variance, mean = torch.var_mean(batch, (2, 3), correction=0, keepdim=True)
        return (batch - mean) / variance.sqrt().clamp(min=SMALLEST_SPREAD)
    if mode == "training":
        if statistics is None:
            raise SettingError("normalisation = 'training': needs the statistics of the training cells")
        mean, std = (batch.new_tensor(v).view(1, 3, 1, 1) for v in (statistics.mean, statistics.std))
        return (batch - mean) / std.clamp(min=SMALLEST_SPREAD)
    raise SettingError(f"normalisation = {mode!r}: unknown; known: {', '.join(get_args(Normalisation))}")
