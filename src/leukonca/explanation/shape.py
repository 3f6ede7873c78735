"""Size and shape of a mask, in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Shape", "measure_shape", "perimeter"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be measured on a mask; NaN and an empty box where it is empty.

    Attributes:
        area: Number of pixels.
        share: Of the picture, 0–1.
        circularity: 4π · area / perimeter², 1 for a disc, less for every other shape; at most 1.
        box: Left, top, width and height of the smallest upright rectangle around it, px.
    """

    area: int
    share: float
    circularity: float
    box: tuple[int, int, int, int]


def perimeter(mask: Mask) -> float:
    """Return the length of the outline, px.

    By Crofton's formula: the length is a half of the mean number of times that lines cross the outline, over
    all directions; here over four (rows, columns, both diagonals), whose lines lie 1, 1, √½ and √½ px apart.
    Counting the sides of pixels instead would make a disc's outline longer by 4/π, whatever its size.

    Args:
        mask: bool [H, W].
    """
    field = np.pad(mask, 1)
    straight = (field[1:] ^ field[:-1]).sum() + (field[:, 1:] ^ field[:, :-1]).sum()
    diagonal = (field[1:, 1:] ^ field[:-1, :-1]).sum() + (field[1:, :-1] ^ field[:-1, 1:]).sum()
    return float(math.pi / 8 * (straight + diagonal / math.sqrt(2)))


def measure_shape(mask: Mask) -> Shape:
    """Measure a mask, bool [H, W]."""
    area = int(mask.sum())
    if not area:
        return Shape(0, 0.0, math.nan, (0, 0, 0, 0))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    right, bottom = int(columns[-1]) + 1, int(rows[-1]) + 1
    return Shape(
        area=area,
        share=area / mask.size,
        # Of a few pixels the outline is not well defined, and a little too short.
        circularity=min(1.0, 4 * math.pi * area / perimeter(mask) ** 2),
        box=(left, top, right - left, bottom - top),
    )
