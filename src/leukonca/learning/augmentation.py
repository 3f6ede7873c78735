"""Augmentation of a batch of cell pictures.

The steps follow the way of the light: position on the slide, dye, focus, camera, sensor. Each picture's
variation is a function of its own 64-bit seed alone (see ``draws``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import torch
from torch import Tensor

from leukonca.learning.appearance import add_noise, adjust_camera, blur, cut_off, redevelop, restain
from leukonca.learning.draws import picture_seeds, stream_keys, uniforms
from leukonca.learning.geometry import SYMMETRIES, centre_crop, resample, views
from leukonca.learning.variation import PRESETS, Augmentation, preset

__all__ = ["PRESETS", "Augmentation", "Draw", "augment", "draw", "picture_seeds", "preset", "views"]


class _Slot(IntEnum):
    """Which number of a picture's stream decides what. Renumbering changes every trained model: append."""

    SYMMETRY = 0
    ROTATE = 1
    SCALE = 2
    SHIFT = 3  # right, down
    BRIGHTNESS = 5
    CONTRAST = 6
    SATURATION = 7
    HUE = 8
    BLUR = 9
    NOISE = 10
    BLUE = 11
    EOSIN = 12
    GAIN = 13  # red, green, blue
    OFFSET = 16  # red, green, blue
    GAMMA = 19  # red, green, blue
    CROSSTALK = 22  # nine pairs of numbers for the Box–Muller transform
    BLUE_LOST = 40  # whether, how much
    CUT = 42  # whether, whether twice, first side and depth, second side and depth
    GREY = 48  # whether, how much, weights of red, green and blue
    COUNT = 53


_NOISE_STREAM: Final = 1

# Of blue that is lost this much is left at most.
_BLUE_LEFT: Final = 0.9
# Deepest cut as a share of the side.
_DEEPEST: Final = 0.3


@dataclass(frozen=True, slots=True)
class Draw:
    """What ``augment`` does to each picture of a batch; float64 [B] where nothing else is said.

    Attributes:
        symmetry: Number of the symmetry as ``views`` orders them, int64 [B]; 0 where flip is off.
        angle: Rotation in degrees, counter-clockwise.
        factor: Magnification.
        shift: Movement right and down as a share of the side, [B, 2].
        brightness: Factor on the light.
        contrast: Factor about the mean luma.
        saturation: Factor on chroma.
        hue: Turn of hue in degrees.
        blue: Factor on methylene blue.
        eosin: Factor on eosin.
        gain: Factor on the absorbance of red, green and blue, [B, 3].
        offset: Added to the absorbance of red, green and blue, [B, 3].
        sigma: Blur in output pixels.
        deviation: Noise as a share of white.
        gamma: Power of the absorbance of red, green and blue, [B, 3].
        crosstalk: What each channel's absorbance takes from each channel, [B, 3, 3]; the identity: nothing.
        blue_left: Factor on the absorbance of blue.
        edges: Depth of what is cut off as a share of the side: left, right, top, bottom, [B, 4].
    """

    symmetry: Tensor
    angle: Tensor
    factor: Tensor
    shift: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    blue: Tensor
    eosin: Tensor
    gain: Tensor
    offset: Tensor
    sigma: Tensor
    deviation: Tensor
    gamma: Tensor
    crosstalk: Tensor
    blue_left: Tensor
    edges: Tensor


def draw(augmentation: Augmentation, seeds: Tensor) -> Draw:
    """Return what ``augment`` does with these seeds.

    Args:
        augmentation: The ranges.
        seeds: int64 [B].
    """
    shares = uniforms(seeds, _Slot.COUNT)
    signed = 2 * shares - 1  # uniform in [-1, 1)

    def factor(strength: float, slot: int, width: int | None = None) -> Tensor:
        exponent = signed[:, slot] if width is None else signed[:, slot : slot + width]
        return torch.exp(exponent * math.log1p(strength))

    def slot(first: int, width: int) -> Tensor:
        return shares[:, first : first + width]

    number = (shares[:, _Slot.SYMMETRY] * SYMMETRIES).long()
    blue_lost = slot(_Slot.BLUE_LOST, 2)
    return Draw(
        symmetry=number if augmentation.flip else torch.zeros_like(number),
        angle=signed[:, _Slot.ROTATE] * augmentation.rotate,
        factor=factor(augmentation.scale, _Slot.SCALE),
        shift=signed[:, _Slot.SHIFT : _Slot.SHIFT + 2] * augmentation.shift,
        brightness=factor(augmentation.brightness, _Slot.BRIGHTNESS),
        contrast=factor(augmentation.contrast, _Slot.CONTRAST),
        saturation=factor(augmentation.saturation, _Slot.SATURATION),
        hue=signed[:, _Slot.HUE] * augmentation.hue,
        blue=factor(augmentation.stain, _Slot.BLUE),
        eosin=factor(augmentation.stain, _Slot.EOSIN),
        gain=factor(augmentation.stain / 2, _Slot.GAIN, 3),
        offset=signed[:, _Slot.OFFSET : _Slot.OFFSET + 3] * (augmentation.stain / 4),
        sigma=shares[:, _Slot.BLUR] * augmentation.blur,
        deviation=shares[:, _Slot.NOISE] * augmentation.noise,
        gamma=factor(augmentation.gamma, _Slot.GAMMA, 3),
        crosstalk=_faded(slot(_Slot.GREY, 5), augmentation.grey)
        @ (
            torch.eye(3, dtype=torch.float64, device=seeds.device)
            + augmentation.crosstalk * _box_muller(slot(_Slot.CROSSTALK, 18)).view(-1, 3, 3)
        ),
        blue_left=torch.where(blue_lost[:, 0] < augmentation.blue_loss, _BLUE_LEFT * blue_lost[:, 1], 1.0),
        edges=_edges(slot(_Slot.CUT, 6), augmentation.cut),
    )


def _box_muller(shares: Tensor) -> Tensor:
    """Return normal numbers [B, n] of uniform ones [B, 2·n] in [0, 1)."""
    radius, angle = shares[:, 0::2], shares[:, 1::2]
    normal: Tensor = (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()
    return normal


def _faded(shares: Tensor, probability: float) -> Tensor:
    """Return matrices that take colour away, [B, 3, 3], of five uniform numbers; the identity: none."""
    amount = torch.where(shares[:, 0] < probability, (2 * shares[:, 1]).clamp(max=1), 0.0)[:, None, None]
    # Exponential numbers over their sum are uniform over all weights that sum to 1.
    weights = -(1 - shares[:, 2:]).log()
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    eye = torch.eye(3, dtype=torch.float64, device=shares.device)
    return (1 - amount) * eye + amount * weights[:, None, :].expand(-1, 3, 3)


def _edges(shares: Tensor, probability: float) -> Tensor:
    """Return how deep a picture is cut at its left, right, top and bottom, [B, 4], of six uniform numbers."""
    once = shares[:, 0] < probability
    cuts = torch.stack((once, once & (shares[:, 1] < 0.5)), 1)
    sides, depths = (4 * shares[:, 2::2]).long(), _DEEPEST * shares[:, 3::2]
    # Where both hit one side the deeper one counts.
    return shares.new_zeros(len(shares), 4).scatter_reduce_(1, sides, depths * cuts, "amax")


@torch.no_grad()
def augment(canvas: Tensor, augmentation: Augmentation, size: int, *, seeds: Tensor) -> Tensor:
    """Return a varied crop of every picture of a batch.

    Picture i depends on ``canvas[i]`` and ``seeds[i]`` only. What is switched off is not computed, and with
    everything off the result is the centre crop to the last bit.

    Args:
        canvas: float32 [B, 3, S, S] in [0, 1], the cell in the middle. A margin around the crop lets
            rotation and shift show true surroundings instead of mirrored ones.
        augmentation: What to vary.
        size: Side of the output, ≤ S.
        seeds: int64 [B], on the device of ``canvas``; see ``picture_seeds``.

    Returns:
        float32 [B, 3, size, size] in [0, 1], sharing no memory with ``canvas``.

    Raises:
        SettingError: ``size`` does not fit the canvas.
        ValueError: A shape or type is not as stated.
    """
    pictures = centre_crop(canvas, size)
    if canvas.dtype != torch.float32:
        raise ValueError(f"canvas must be float32 in [0, 1], not {canvas.dtype}")
    if seeds.dtype != torch.int64 or seeds.shape != canvas.shape[:1]:
        raise ValueError(f"seeds must be int64 [{len(canvas)}], not {seeds.dtype} {list(seeds.shape)}")
    if augmentation == PRESETS["none"] or len(canvas) == 0:
        return pictures.clone()

    drawn = draw(augmentation, seeds)
    if augmentation.rotate or augmentation.scale or augmentation.shift:
        pictures = resample(
            canvas,
            size,
            number=drawn.symmetry,
            angle=drawn.angle,
            factor=drawn.factor,
            shift=drawn.shift,
        )
    elif augmentation.flip:
        # Without interpolation the symmetry is exact.
        pictures = views(canvas, size)[drawn.symmetry, torch.arange(len(canvas), device=canvas.device)]
    if augmentation.stain:
        pictures = restain(pictures, blue=drawn.blue, eosin=drawn.eosin, gain=drawn.gain, offset=drawn.offset)
    if augmentation.gamma or augmentation.crosstalk or augmentation.grey or augmentation.blue_loss:
        pictures = redevelop(
            pictures, gamma=drawn.gamma, crosstalk=drawn.crosstalk, blue_left=drawn.blue_left
        )
    if augmentation.blur:
        pictures = blur(pictures, sigma=drawn.sigma, largest=augmentation.blur)
    if augmentation.brightness or augmentation.contrast or augmentation.saturation or augmentation.hue:
        pictures = adjust_camera(
            pictures,
            brightness=drawn.brightness,
            contrast=drawn.contrast,
            saturation=drawn.saturation,
            hue=drawn.hue,
        )
    if augmentation.cut:
        pictures = cut_off(pictures, edges=drawn.edges)
    if augmentation.noise:
        pictures = add_noise(pictures, deviation=drawn.deviation, keys=stream_keys(seeds, _NOISE_STREAM))
    return pictures.clamp_(0, 1)
