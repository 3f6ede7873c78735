"""How a picture of any size and shape becomes the square that a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from leukonca.errors import SettingError

__all__ = ["MAX_SIZE", "Fit", "Framing", "frame"]

Fit = Literal["stretch", "square"]
"""``stretch`` brings the whole picture to a square, as the paper does; ``square`` keeps its proportions."""

MAX_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class Framing:
    """Which part of a picture is seen, and at how many pixels.

    Attributes:
        size: The side of the result in pixels, 8 to 4096.
        crop: The share that is kept around the centre, above 0 and at most 1: of each side (``stretch``) or
            of the shorter side (``square``).
        fit: ``stretch`` or ``square``.

    Raises:
        SettingError: A value is out of its range.
    """

    size: int
    crop: float = 1.0
    fit: Fit = "square"

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 8 <= self.size <= MAX_SIZE:
            raise SettingError(
                f"size = {self.size!r}: the input's side is a whole number from 8 to {MAX_SIZE}"
            )
        if not 0.0 < self.crop <= 1.0:
            raise SettingError(f"crop = {self.crop!r}: the share kept lies above 0 and is at most 1")
        if self.fit not in get_args(Fit):
            raise SettingError(f"fit = {self.fit!r}: choose one of {', '.join(get_args(Fit))}")

    def with_margin(self, margin: float) -> Framing:
        """Return the framing of a larger canvas, for augmentation that turns, shifts and shrinks the cell.

        The canvas shows up to ``margin`` times the field of view, at the same scale and on the same pixel
        grid: its central ``size`` × ``size`` pixels are what this framing gives. It ends where the picture
        ends, so with ``crop`` = 1 it is this framing itself.

        Args:
            margin: At least 1. A free rotation needs the square root of 2.

        Raises:
            SettingError: The margin is below 1 or not a number.
        """
        if not (1.0 <= margin < math.inf):
            raise SettingError(
                f"margin = {margin!r}: the canvas is at least as large as the input; give 1 or more"
            )
        factor = min(self.crop * margin, 1.0) / self.crop
        # Rounded down to an equal number of pixels on both sides, so that it stays inside the picture; the
        # small term keeps a whole number whole.
        border = math.floor((factor - 1.0) * self.size / 2 + 1e-9)
        border = min(border, (MAX_SIZE - self.size) // 2)
        size = self.size + 2 * border
        return Framing(size, min(self.crop * size / self.size, 1.0), self.fit)


def frame(picture: npt.NDArray[np.uint8], framing: Framing) -> npt.NDArray[np.uint8]:
    """Cut and resize a picture.

    Bilinear, with the filter widened where the picture shrinks, so that no detail aliases.

    Args:
        picture: uint8 [H, W, 3].
        framing: Which part is seen, and at how many pixels.

    Returns:
        uint8 [size, size, 3], the caller's own.
    """
    height, width = picture.shape[:2]
    across, down = width * framing.crop, height * framing.crop
    if framing.fit == "square":
        across = down = min(across, down)
    left, top = (width - across) / 2, (height - down) / 2
    resized = Image.fromarray(picture).resize(
        (framing.size, framing.size),
        resample=Image.Resampling.BILINEAR,
        box=(left, top, left + across, top + down),
        reducing_gap=None,
    )
    return np.array(resized)
