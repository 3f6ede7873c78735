"""Spoilt pictures, after BloodMNIST-C: what goes wrong in microscope, slide, camera and file.

Kinds and strengths are those of F. Di Salvo, S. Doerrich, C. Ledig, "MedMNIST-C: Comprehensive benchmark and
improved classifier robustness by simulating realistic image corruptions", arXiv 2406.17536, for BloodMNIST
(strengths by the registry of the package medmnistc). Lengths count pixels of the benchmark's scale, on which
`FIELD` pixels show the central 200 of Acevedo-20's 360.

What differs from the benchmark, and why:

- What is random is drawn from (seed, picture, corruption) and is the same at every severity: bubbles grow
  instead of jumping, and a curve over severities is not blurred by luck. There, each picture draws anew.
- A picture may show more than the benchmark's field, or less. Bubbles and deposits lie in that field, around
  the cell, and contrast turns about its mean, whatever the model sees besides.
- The benchmark's pictures of ink are not used. A deposit is a computed blot, dark violet as precipitated dye
  is, at most as many as there; its size is ours.
- The disk of ``defocus_blur`` is not smoothed: the published smoothing of at most 0.1 px changes nothing.
- Values are rounded to the nearest level, not cut off.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from leukonca.errors import SettingError
from leukonca.learning.draws import uniforms
from leukonca.nca.firing import derive_seed

__all__ = ["CORRUPTIONS", "FIELD", "SEVERITIES", "corrupt"]

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Shares = npt.NDArray[np.float64]
Function = Callable[[Picture, int, Shares], Picture]

FIELD: Final = 224
"""Side of the benchmark's pictures, px."""

SEVERITIES: Final = (1, 2, 3, 4, 5)

# Of severities 1 to 5.
_PIXELATE: Final = (0.6, 0.5, 0.4, 0.3, 0.25)  # share of the pixels a side that is left
_JPEG: Final = (50, 30, 15, 10, 7)  # quality
_DEFOCUS: Final = (2, 3, 4, 5, 6)  # radius, px
_MOTION: Final = ((3, 3), (5, 5), (10, 5), (10, 7), (10, 9))  # radius and sigma, px
_BRIGHTNESS_UP: Final = (1.1, 1.2, 1.3, 1.35, 1.4)
_BRIGHTNESS_DOWN: Final = (0.9, 0.8, 0.7, 0.6, 0.5)
_CONTRAST_UP: Final = (1.1, 1.15, 1.2, 1.25, 1.3)
_CONTRAST_DOWN: Final = (0.9, 0.8, 0.7, 0.6, 0.5)
_SATURATE: Final = (0.05, 0.10, 0.15, 0.17, 0.20)  # added to the saturation
_DEPOSITS: Final = (1, 2, 3, 3, 3)  # at most
_DEPOSIT_RADIUS: Final = (12, 14, 16, 18, 22)  # px; ours
_BUBBLES: Final = ((5, 10), (7, 10), (10, 10), (12, 12), (15, 12))  # largest radius, px, and number

_LARGEST_TURN: Final = 45.0  # of motion, degrees
_FEWEST_BUBBLES, _SMALLEST_BUBBLE, _RIM = 7, 3, 2
_BUBBLE_WHITE, _RIM_WHITE = 100 / 255, 130 / 255
_DEPOSIT_MARGIN: Final = 10
_DYE: Final = (0.85, 0.93, 0.72)  # share of red, green and blue that a deposit takes
_LOBES: Final = (2, 3, 5)
_DRAWS: Final = 40  # numbers a picture may need: 1 + 12 bubbles × 3


def _levels(values: npt.ArrayLike) -> Picture:
    levels: Picture = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _pixelate(picture: Picture, level: int, _: Shares) -> Picture:
    height, width = picture.shape[:2]
    share = _PIXELATE[level]
    small = (max(1, int(width * share)), max(1, int(height * share)))
    coarse = Image.fromarray(picture).resize(small, Image.Resampling.BOX)
    return np.array(coarse.resize((width, height), Image.Resampling.BOX))


def _jpeg(picture: Picture, level: int, _: Shares) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_JPEG[level])
    with Image.open(file) as found:
        return np.array(found)


def _defocus(picture: Picture, level: int, _: Shares) -> Picture:
    radius = _DEFOCUS[level]
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(np.float32)
    padded = np.pad(picture.astype(np.float32), ((radius, radius), (radius, radius), (0, 0)), "reflect")
    shape = padded.shape[:2]
    # The disk is its own mirror image, so a product of transforms is the weighted mean about each pixel.
    # What wraps around the border stays within the padding.
    product = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(disk / disk.sum(), shape)[:, :, None]
    blurred = np.fft.irfft2(product, shape, axes=(0, 1))
    height, width = picture.shape[:2]
    return _levels(blurred[2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width])


def _motion(picture: Picture, level: int, shares: Shares) -> Picture:
    # ImageMagick's motion blur: one side of a Gaussian along a line, pixels taken where they are nearest.
    radius, sigma = _MOTION[level]
    places = np.arange(2 * radius + 1)
    weights = np.exp(-(places**2) / (2 * sigma**2)).astype(np.float32)
    weights /= weights.sum()
    turn = math.radians((2 * shares[0] - 1) * _LARGEST_TURN)
    right = np.ceil(places * math.cos(turn) - 0.5).astype(int)
    down = np.ceil(places * math.sin(turn) - 0.5).astype(int)
    reach = 2 * radius + 1
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), "edge").astype(np.float32)
    height, width = picture.shape[:2]
    blurred = np.zeros(picture.shape, np.float32)
    for weight, x, y in zip(weights, right, down, strict=True):
        blurred += weight * padded[reach + y : reach + y + height, reach + x : reach + x + width]
    return _levels(blurred)


def _brightness(factors: tuple[float, ...]) -> Function:
    def change(picture: Picture, level: int, _: Shares) -> Picture:
        return _levels(np.arange(256) * factors[level])[picture]

    return change


def _contrast(factors: tuple[float, ...]) -> Function:
    def change(picture: Picture, level: int, _: Shares) -> Picture:
        top, left = (max(0, (side - FIELD) // 2) for side in picture.shape[:2])
        field = picture[top : top + FIELD, left : left + FIELD]
        # The mean luma, as Pillow and the benchmark have it: a whole level.
        mean = np.rint(field.reshape(-1, 3).mean(0) @ np.array([0.299, 0.587, 0.114]))
        return _levels(mean + (np.arange(256) - mean) * factors[level])[picture]

    return change


def _saturate(picture: Picture, level: int, _: Shares) -> Picture:
    # In HSV, value and hue stay: a channel at share t of the way from the largest (0) to the smallest (1)
    # channel is value · (1 - saturation · t).
    values = picture.astype(np.float32)
    value, smallest = values.max(2, keepdims=True), values.min(2, keepdims=True)
    span = value - smallest
    share = np.divide(value - values, span, out=np.zeros_like(values), where=span > 0)
    # A grey has no hue; in HSV it counts as red, and so it reddens.
    share[..., 1:][np.broadcast_to(span == 0, (*span.shape[:2], 2))] = 1
    saturation = np.divide(span, value, out=np.zeros_like(span), where=value > 0)
    return _levels(value * (1 - np.minimum(saturation + np.float32(_SATURATE[level]), 1) * share))


def _field_grid(picture: Picture) -> tuple[Floats, Floats]:
    """Row and column of every pixel, [H, 1] and [1, W], counted from the corner of the benchmark's field."""
    height, width = picture.shape[:2]
    rows = np.arange(height, dtype=np.float32) - (height - FIELD) // 2
    columns = np.arange(width, dtype=np.float32) - (width - FIELD) // 2
    return rows[:, None], columns[None, :]


def _deposit(picture: Picture, level: int, shares: Shares) -> Picture:
    rows, columns = _field_grid(picture)
    passed = np.ones(picture.shape, np.float32)
    for number in range(1 + int(shares[0] * _DEPOSITS[level])):
        own = shares[1 + 8 * number : 9 + 8 * number]
        radius = _DEPOSIT_RADIUS[level] * (0.75 + 0.5 * own[0])
        # Placed for the largest, so that a deposit grows where it is.
        border = _DEPOSIT_MARGIN + _DEPOSIT_RADIUS[-1]
        y, x = border + own[1:3] * (FIELD - 2 * border)
        distance = np.hypot(rows - np.float32(y), columns - np.float32(x))
        angle = np.arctan2(rows - np.float32(y), columns - np.float32(x))
        outline = np.full_like(angle, radius)
        for lobe, phase in zip(_LOBES, own[3:6], strict=True):
            height = np.float32(0.4 * radius / lobe)
            outline += height * np.cos(lobe * angle + np.float32(2 * math.pi * phase))
        density = np.clip((outline - distance) / 3 + 0.5, 0, 1)
        passed *= 1 - density[..., None] * np.array(_DYE, np.float32)
    return _levels(picture * passed)


def _bubble(picture: Picture, level: int, shares: Shares) -> Picture:
    rows, columns = _field_grid(picture)
    largest, most = _BUBBLES[level]
    white = np.zeros(picture.shape[:2], np.float32)
    for number in range(_FEWEST_BUBBLES + int(shares[0] * (most - _FEWEST_BUBBLES + 1))):
        size, *place = shares[1 + 3 * number : 4 + 3 * number]
        radius = _SMALLEST_BUBBLE + int(size * (largest - _SMALLEST_BUBBLE + 1))
        y, x = (radius + int(share * (FIELD - 2 * radius + 1)) for share in place)
        distance = np.hypot(rows - y, columns - x)
        white[distance <= radius + _RIM] = _RIM_WHITE
        white[distance <= radius] = _BUBBLE_WHITE
    return _levels(picture + (255 - picture.astype(np.float32)) * white[..., None])


_FUNCTIONS: Final[dict[str, Function]] = {
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg,
    "defocus_blur": _defocus,
    "motion_blur": _motion,
    "brightness_up": _brightness(_BRIGHTNESS_UP),
    "brightness_down": _brightness(_BRIGHTNESS_DOWN),
    "contrast_up": _contrast(_CONTRAST_UP),
    "contrast_down": _contrast(_CONTRAST_DOWN),
    "saturate": _saturate,
    "stain_deposit": _deposit,
    "bubble": _bubble,
}

CORRUPTIONS: Final = tuple(_FUNCTIONS)
"""Names of the corruptions, in the benchmark's order."""


def corrupt(picture: Picture, corruption: str, severity: int, *, identity: int = 0, seed: int = 0) -> Picture:
    """Return a spoilt copy of a picture.

    Args:
        picture: uint8 [H, W, 3] at the benchmark's scale, its cell in the middle.
        corruption: One of `CORRUPTIONS`.
        severity: 1 to 5, or 0, which changes nothing.
        identity: Of the picture (:func:`leukonca.nca.firing.image_id`), in [0, 2⁶³): decides, with ``seed``
            and ``corruption``, on direction and place of what is random.
        seed: In [0, 2⁶³).

    Returns:
        uint8 [H, W, 3], the caller's own.

    Raises:
        SettingError: The corruption or the severity is unknown.
    """
    if corruption not in _FUNCTIONS:
        raise SettingError(f"corruption={corruption!r} is unknown; known: {', '.join(CORRUPTIONS)}")
    if severity not in (0, *SEVERITIES):
        raise SettingError(f"severity={severity!r} must be a whole number from 0 to {SEVERITIES[-1]}")
    if severity == 0:
        return picture.copy()
    key = torch.tensor([derive_seed(seed, identity, crc32(corruption.encode()))])
    return _FUNCTIONS[corruption](picture, severity - 1, uniforms(key, _DRAWS)[0].numpy())
