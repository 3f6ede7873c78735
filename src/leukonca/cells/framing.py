"""How a picture of any size and shape becomes the square that a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from leukonca.cells.finding import Found, find_cell
from leukonca.errors import SettingError

__all__ = ["FIELD", "MAX_SIZE", "Colour", "Fit", "Framing", "frame", "frame_mask", "window"]

Fit = Literal["stretch", "square", "cell"]
"""``stretch`` brings the whole picture to a square, as the paper does; ``square`` keeps its proportions;
``cell`` finds the cell, puts its nucleus into the middle and brings it to one size."""

Colour = Literal["as_is", "light", "nucleus"]
"""``as_is`` keeps the colours; ``light`` divides the light of the empty field out; ``nucleus`` also brings
the nucleus to one absorbance, so that the strength of the stain goes too."""

MAX_SIZE: Final = 4096

FIELD: Final = 240
"""Grey level of the empty field where the light is divided out: some room is left for what is brighter."""

# What ``nucleus`` brings the absorbance of a nucleus to, red and green (natural logarithm): that of a
# well-stained one. Blue follows green, since many cameras and stains leave nothing to measure in blue.
_NUCLEUS: Final = (0.95, 1.4)
# Of a nucleus paler than this the colour is noise, which must not be blown up.
_PALEST: Final = (0.15, 0.25)
# Limits of the radius that is believed, as shares of the shorter side: a speck is no cell.
_RADII: Final = (0.04, 0.6)
_DARKEST: Final = 1 / 255


@dataclass(frozen=True, slots=True)
class Framing:
    """Which part of a picture is seen, and at how many pixels.

    Attributes:
        size: The side of the result in pixels, 8 to 4096.
        crop: The share that is kept around the centre, above 0 and at most 1: of each side (``stretch``) or
            of the shorter side (``square``); it has no meaning for ``cell``.
        fit: ``stretch``, ``square`` or ``cell``.
        colour: ``as_is``, ``light`` or ``nucleus``.
        reach: For ``cell``: from the middle to the side of the square, in radii of the nucleus, 1 to 20.

    Raises:
        SettingError: A value is out of its range.
    """

    size: int
    crop: float = 1.0
    fit: Fit = "square"
    colour: Colour = "as_is"
    reach: float = 1.7

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 8 <= self.size <= MAX_SIZE:
            raise SettingError(
                f"size = {self.size!r}: the input's side is a whole number from 8 to {MAX_SIZE}"
            )
        if not 0.0 < self.crop <= 1.0:
            raise SettingError(f"crop = {self.crop!r}: the share kept lies above 0 and is at most 1")
        if self.fit not in get_args(Fit):
            raise SettingError(f"fit = {self.fit!r}: choose one of {', '.join(get_args(Fit))}")
        if self.colour not in get_args(Colour):
            raise SettingError(f"colour = {self.colour!r}: choose one of {', '.join(get_args(Colour))}")
        if not 1.0 <= self.reach <= 20.0:
            raise SettingError(
                f"reach = {self.reach!r}: the side lies 1 to 20 radii of the nucleus from the middle"
            )

    def with_margin(self, margin: float) -> Framing:
        """Return the framing of a larger canvas, for augmentation that turns, shifts and shrinks the cell.

        The canvas shows up to ``margin`` times the field of view, at the same scale and on the same pixel
        grid: its central ``size`` × ``size`` pixels are what this framing gives. It ends where the picture
        ends, so with ``crop`` = 1 it is this framing itself. Around a found cell (``cell``) it never ends:
        what lies outside the picture is empty field.

        Args:
            margin: At least 1. A free rotation needs the square root of 2.

        Raises:
            SettingError: The margin is below 1 or not a number.
        """
        if not (1.0 <= margin < math.inf):
            raise SettingError(
                f"margin = {margin!r}: the canvas is at least as large as the input; give 1 or more"
            )
        factor = margin if self.fit == "cell" else min(self.crop * margin, 1.0) / self.crop
        # Rounded down to an equal number of pixels on both sides, so that it stays inside the picture; the
        # small term keeps a whole number whole.
        border = math.floor((factor - 1.0) * self.size / 2 + 1e-9)
        border = min(border, (MAX_SIZE - self.size) // 2)
        size = self.size + 2 * border
        if self.fit == "cell":
            return replace(self, size=size, reach=self.reach * size / self.size)
        return replace(self, size=size, crop=min(self.crop * size / self.size, 1.0))


def frame(picture: npt.NDArray[np.uint8], framing: Framing) -> npt.NDArray[np.uint8]:
    """Cut and resize a picture, and correct its colours.

    Bilinear, with the filter widened where the picture shrinks, so that no detail aliases.

    Args:
        picture: uint8 [H, W, 3].
        framing: Which part is seen, at how many pixels, and in what colours.

    Returns:
        uint8 [size, size, 3], the caller's own.
    """
    found = find_cell(picture) if framing.fit == "cell" or framing.colour != "as_is" else None
    left, top, across, down = _window(picture, framing, found)
    if found is None:
        return _resized(picture, (left, top, left + across, top + down), (framing.size, framing.size))
    columns, rows, box = _shown((left, top, across, down), picture.shape, framing.size)
    framed = np.empty((framing.size, framing.size, 3), dtype=np.uint8)
    framed[:] = FIELD if framing.colour != "as_is" else np.rint(255 * _mean_light(found))
    if columns and rows:
        part = _resized(picture, box, (len(columns), len(rows)))
        if framing.colour != "as_is":
            dx, dy = across / framing.size, down / framing.size
            light = found.light(top + (np.array(rows) + 0.5) * dy, left + (np.array(columns) + 0.5) * dx)
            part = _corrected(part, found, light, framing.colour)
        framed[rows.start : rows.stop, columns.start : columns.stop] = part
    return framed


def frame_mask(
    mask: npt.NDArray[np.bool_], picture: npt.NDArray[np.uint8], framing: Framing
) -> npt.NDArray[np.bool_]:
    """Return which pixels of a framed picture belong to a mask of the picture.

    Args:
        mask: bool [H, W].
        picture: uint8 [H, W, 3].
        framing: As for :func:`frame`.

    Returns:
        bool [size, size]: half of the pixel or more lies in the mask. Nothing outside the picture does.

    Raises:
        SettingError: Mask and picture differ in size.
    """
    if mask.shape != picture.shape[:2]:
        raise SettingError(
            f"a mask of {mask.shape[1]} × {mask.shape[0]} px does not fit a picture of "
            f"{picture.shape[1]} × {picture.shape[0]} px"
        )
    columns, rows, box = _shown(window(picture, framing), picture.shape, framing.size)
    framed = np.zeros((framing.size, framing.size), dtype=np.bool_)
    if columns and rows:
        part = _resized(mask.astype(np.uint8) * 255, box, (len(columns), len(rows)))
        framed[rows.start : rows.stop, columns.start : columns.stop] = part > 127
    return framed


def window(picture: npt.NDArray[np.uint8], framing: Framing) -> tuple[float, float, float, float]:
    """Return where the square lies that :func:`frame` shows, to go back from it to the picture.

    Args:
        picture: uint8 [H, W, 3].
        framing: As for :func:`frame`.

    Returns:
        Left, top, width and height in pixels of the picture; around a found cell it may lie partly outside.
    """
    return _window(picture, framing, find_cell(picture) if framing.fit == "cell" else None)


def _window(
    picture: npt.NDArray[np.uint8], framing: Framing, found: Found | None
) -> tuple[float, float, float, float]:
    """Left, top, width and height of what is seen, in pixels of the picture."""
    height, width = picture.shape[:2]
    if framing.fit == "cell" and found is not None:
        smallest, largest = (share * min(height, width) for share in _RADII)
        half = framing.reach * min(max(found.radius, smallest), largest)
        return found.column - half, found.row - half, 2 * half, 2 * half
    across, down = width * framing.crop, height * framing.crop
    if framing.fit == "square":
        across = down = min(across, down)
    return (width - across) / 2, (height - down) / 2, across, down


def _shown(
    place: tuple[float, float, float, float], shape: tuple[int, ...], size: int
) -> tuple[range, range, tuple[float, float, float, float]]:
    """Columns and rows of the result that lie inside the picture, and their box in it.

    Whole pixels of the result, so that the border is sharp.
    """
    (left, top, across, down), (height, width) = place, shape[:2]
    columns, rows = _inside(left, across, width, size), _inside(top, down, height, size)
    dx, dy = across / size, down / size
    return (
        columns,
        rows,
        (
            max(left + columns.start * dx, 0),
            max(top + rows.start * dy, 0),
            min(left + columns.stop * dx, width),
            min(top + rows.stop * dy, height),
        ),
    )


def _inside(start: float, extent: float, length: int, size: int) -> range:
    """Pixels of the result that lie wholly inside a side of the picture."""
    step = extent / size
    first = max(0, math.ceil(-start / step - 1e-9))
    last = min(size, math.floor((length - start) / step + 1e-9))
    return range(first, max(first, last))


def _resized(
    picture: npt.NDArray[np.uint8], box: tuple[float, float, float, float], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    resized = Image.fromarray(picture).resize(
        size, resample=Image.Resampling.BILINEAR, box=box, reducing_gap=None
    )
    return np.array(resized)


def _mean_light(found: Found) -> npt.NDArray[np.float64]:
    middle = found.light(np.array([found.height / 2]), np.array([found.width / 2]))
    clipped: npt.NDArray[np.float64] = middle[0, 0].clip(max=1.0)
    return clipped


def _corrected(
    part: npt.NDArray[np.uint8], found: Found, light: npt.NDArray[np.float64], colour: Colour
) -> npt.NDArray[np.uint8]:
    """Divide the light out and, for ``nucleus``, scale the absorbance; uint8 of the same shape."""
    relative = part / 255 / np.maximum(light, 0.05)
    if colour == "nucleus" and found.certain:
        red, green = (
            wanted / max(measured, palest)
            for wanted, measured, palest in zip(_NUCLEUS, found.nucleus, _PALEST, strict=False)
        )
        relative = np.maximum(relative, _DARKEST) ** np.array((red, green, green))
    return np.rint(np.minimum(relative * FIELD, 255)).astype(np.uint8)
