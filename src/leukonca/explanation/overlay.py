"""Pictures of an explanation: maps of relevance over a cell, maps of channels, all as small files.

Relevance is coloured like the channels of :mod:`leukonca.explanation.film`: orange speaks for the class,
violet against it, which all kinds of colour vision tell apart. The colours lie on a pale grey picture of the
cell, the more opaque the more relevance; nothing is smoothed away. The lines are no part of the map: they go
around where the map, blurred, is above a third of its largest value, so that the eye finds the places.
"""

from __future__ import annotations

import io
import math
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image, ImageDraw
from scipy import ndimage

__all__ = [
    "MAPS",
    "factor_for",
    "limit_of",
    "map_tile",
    "mask_on",
    "png",
    "relevance_on",
    "webp",
    "window_on",
]

MAPS: Final = "PuOr_r"
"""Colours of signed values: violet below zero, white at zero, orange above."""

# A picture is enlarged to at least this many pixels on its shorter side.
_LEGIBLE: Final = 448
_SMALL: Final = 160
# Of the absolute values of a map; the few beyond it are shown as the ends of the scale.
_QUANTILE: Final = 0.995
_CONTOUR: Final = 1 / 3  # of the largest value of the blurred map
_BLUR: Final = 1 / 32  # of the side
_FOR: Final = (127, 59, 8)
_AGAINST: Final = (45, 0, 75)
_LIGHT: Final = (255, 255, 255)
_FRAME: Final = (255, 221, 0)
_DARK: Final = (20, 20, 20)
_BRIGHT_MASK: Final = (0, 229, 255)

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def limit_of(*maps: Floats) -> float:
    """Return the half-width of the scale that maps share, above 0."""
    values = np.abs(np.concatenate([one.ravel() for one in maps]))
    return max(float(np.quantile(values, _QUANTILE)), 1e-9)


def factor_for(side: int) -> int:
    """Return by what a side has to be enlarged to be legible, at least 1."""
    return math.ceil(_LEGIBLE / side)


def relevance_on(view: Picture, relevance: Floats, limit: float) -> Picture:
    """Draw a map of relevance over the cell that it belongs to.

    Args:
        view: What the model sees, at k times its pixels, uint8 [k · S, k · S, 3].
        relevance: float64 [S, S].
        limit: The value at which the scale ends.

    Returns:
        uint8 [k · S, k · S, 3].
    """
    factor = len(view) // len(relevance)
    grey = view.astype(np.float64) @ np.array((0.299, 0.587, 0.114))
    pale = 105 + grey * (150 / 255)
    values = _spread_out(relevance, factor)
    share = np.clip(values / limit, -1, 1)
    colours = colormaps[MAPS]((share + 1) / 2)[..., :3] * 255
    opacity = (np.abs(share) ** 0.6)[..., None] * 0.92
    mixed = pale[..., None] * (1 - opacity) + colours * opacity
    drawn: Picture = np.rint(mixed).clip(0, 255).astype(np.uint8)
    blurred = _spread_out(ndimage.gaussian_filter(relevance, max(1.0, _BLUR * len(relevance))), factor)
    level = _CONTOUR * float(np.abs(blurred).max())
    if level > 0:
        for inside, colour in ((blurred > level, _FOR), (blurred < -level, _AGAINST)):
            _outline(drawn, inside, colour, _LIGHT)
    return drawn


def _spread_out(values: Floats, factor: int) -> Floats:
    """Values at ``factor`` times the pixels, interpolated between the middles of pixels."""
    at = (np.arange(len(values) * factor) + 0.5) / factor - 0.5
    spread: Floats = ndimage.map_coordinates(
        values, np.meshgrid(at, at, indexing="ij"), order=1, mode="nearest"
    )
    return spread


def _outline(drawn: Picture, inside: Mask, colour: tuple[int, ...], around: tuple[int, ...]) -> None:
    drawn[ndimage.binary_dilation(inside, iterations=2) & ~inside] = around
    drawn[inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=1)] = colour


def mask_on(framed: Picture, mask: Mask) -> Picture:
    """Draw the outline of a mask of sites over what the model sees, small.

    Args:
        framed: uint8 [S, S, 3].
        mask: bool [n, n], S a multiple of n.

    Returns:
        uint8 [k · S, k · S, 3] with a whole k.
    """
    factor = math.ceil(_SMALL / len(framed))
    drawn = framed.repeat(factor, axis=0).repeat(factor, axis=1)
    each = len(drawn) // len(mask)
    _outline(drawn, mask.repeat(each, axis=0).repeat(each, axis=1), _BRIGHT_MASK, _DARK)
    return drawn


def window_on(picture: Picture, place: tuple[float, float, float, float]) -> Picture:
    """Draw the square that the model sees into a picture that is enlarged to be legible.

    Args:
        picture: uint8 [H, W, 3].
        place: Left, top, width and height of the square, px; it may lie partly outside.
    """
    factor = factor_for(min(picture.shape[:2]))
    size = picture.shape[1] * factor, picture.shape[0] * factor
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    left, top, across, down = (value * factor for value in place)
    right, bottom = min(left + across, image.width) - 1, min(top + down, image.height) - 1
    pencil = ImageDraw.Draw(image)
    for width, colour in ((5, _DARK), (3, _FRAME)):
        pencil.rectangle((max(left, 0), max(top, 0), right, bottom), outline=colour, width=width)
    return np.array(image)


def map_tile(values: Floats, limit: float) -> Picture:
    """Return the map of a channel in colours, uint8 [rows, columns, 3]; the scale ends at ``limit``."""
    share = np.clip(values / limit, -1, 1)
    tile: Picture = colormaps[MAPS]((share + 1) / 2, bytes=True)[..., :3]
    return tile


def png(picture: Picture) -> bytes:
    """Return a picture as PNG, for few pixels."""
    return _encoded(picture, "PNG", optimize=True)


def webp(picture: Picture, quality: int = 86) -> bytes:
    """Return a picture as WebP, for many pixels."""
    return _encoded(picture, "WEBP", quality=quality, method=4)


def _encoded(picture: Picture, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()
