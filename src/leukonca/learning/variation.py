"""How strongly pictures are varied in training: plain numbers and their presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from leukonca.errors import SettingError

__all__ = ["PRESETS", "Augmentation", "preset"]

_LARGEST: Final = {
    "rotate": 180.0,
    "scale": 1.0,
    "shift": 0.5,
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue": 180.0,
    "stain": 1.0,
    "blur": 5.0,
    "noise": 0.5,
    "gamma": 1.0,
    "crosstalk": 0.5,
    "blue_loss": 1.0,
    "cut": 1.0,
    "grey": 1.0,
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How strongly pictures are varied; 0 (or ``False``) switches a kind off entirely.

    A *factor up to 1 + v* is drawn log-uniformly from [1/(1+v), 1+v]: doubling is as likely as halving.
    The defaults are the preset ``standard``.

    Attributes:
        flip: Lay the picture into one of its eight symmetries (quarter turns and mirror), each as likely.
        rotate: Turn by up to ± this many degrees, uniformly; 0–180.
        scale: Magnify by a factor up to 1 + scale; 0–1.
        shift: Move by up to ± this share of the output's side, right and down independently; 0–0.5.
        brightness: Multiply the light by a factor up to 1 + brightness; 0–1.
        contrast: Stretch about the picture's mean luma by a factor up to 1 + contrast; 0–1.
        saturation: Stretch colours away from grey by a factor up to 1 + saturation; 0–1.
        hue: Turn hues by up to ± this many degrees, uniformly; 0–180.
        stain: Strength s of the variation in absorbance; 0–1. The amounts of methylene blue and of eosin get
            factors up to 1 + s each, the absorbance of each colour channel a factor up to 1 + s/2 and
            an offset, uniform up to ± s/4 (natural logarithm), which tints the background.
        blur: Greatest standard deviation of a Gaussian blur, in output pixels, drawn uniformly from 0; 0–5.
        noise: Greatest standard deviation of Gaussian noise as a share of white, drawn uniformly from 0;
            0–0.5.
        gamma: Raise the absorbance of each colour channel to a power up to 1 + gamma, 1 staying 1: another
            gradation of sensor or software; 0–1.
        crosstalk: Standard deviation of what each colour channel's absorbance takes from itself and the
            others: dyes and filters with other spectra; 0–0.5.
        blue_loss: Probability that much of the blue absorbance is lost, by a factor uniform in [0, 0.9), as
            with cameras whose blue channel saturates; 0–1.
        cut: Probability that the picture ends early at one or two sides, up to 0.3 of the side deep, and
            is empty field from there on, as where a cell lies at the border; 0–1.
        grey: Probability that colour fades, in half of these cases altogether: the absorbance of every
            channel moves towards one mixture of the three, whose weights are drawn uniformly. What is left
            to tell types apart is shape and texture, which no stain changes; 0–1.

    Raises:
        SettingError: A value is outside its range or is not a number.
    """

    flip: bool = True
    rotate: float = 180.0
    scale: float = 0.15
    shift: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.15
    hue: float = 5.0
    stain: float = 0.15
    blur: float = 0.5
    noise: float = 0.02
    gamma: float = 0.0
    crosstalk: float = 0.0
    blue_loss: float = 0.0
    cut: float = 0.0
    grey: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.flip, bool):
            raise SettingError(f"augmentation.flip = {self.flip!r}: must be true or false")
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not 0 <= value <= largest:
                raise SettingError(
                    f"augmentation.{name} = {value!r}: must be a number from 0 (off) to {largest:g}"
                )

    def appearance(self) -> Augmentation:
        """Return the part that differs between laboratories wherever the cell lies: stain, camera, focus.

        Colour that fades is none of it: no laboratory does that.
        """
        return replace(self, flip=False, rotate=0.0, scale=0.0, shift=0.0, cut=0.0, grey=0.0)


_OFF: Final = Augmentation(False, *(0.0 for _ in _LARGEST))

# For cells that are found and brought to one size and stain: what that leaves of the difference.
_LABORATORIES: Final = Augmentation(
    scale=0.25,
    shift=0.08,
    brightness=0.05,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    stain=0.5,
    blur=1.8,
    noise=0.03,
    gamma=0.35,
    crosstalk=0.1,
    blue_loss=0.5,
    cut=0.3,
)

PRESETS: Final[Mapping[str, Augmentation]] = MappingProxyType(
    {
        "none": _OFF,
        # Deutges et al. turn by 0–360° and mirror left to right. With free rotation the eight symmetries
        # instead of the one mirror give the very same distribution.
        "paper": Augmentation(True, 180.0, *(0.0 for _ in list(_LARGEST)[1:])),
        "light": Augmentation(
            scale=0.05,
            shift=0.02,
            brightness=0.05,
            contrast=0.05,
            saturation=0.05,
            hue=2.0,
            stain=0.05,
            blur=0.0,
            noise=0.01,
        ),
        "standard": Augmentation(),
        # For pictures of another laboratory: another chemistry, another magnification, another focus.
        "strong": Augmentation(
            scale=0.35,
            shift=0.1,
            brightness=0.2,
            contrast=0.25,
            saturation=0.4,
            hue=12.0,
            stain=0.5,
            blur=1.2,
            noise=0.04,
        ),
        "laboratories": _LABORATORIES,
        # More difference in chemistry and gradation, which takes longer to learn.
        "laboratories_wide": replace(_LABORATORIES, stain=0.8, blur=2.0, gamma=0.5, crosstalk=0.12),
    }
)
"""``none``; ``paper`` (rotation and mirror); ``light``; ``standard``; ``strong`` (another chemistry, scale
and focus); ``laboratories`` (for cells framed by ``fit="cell"``: also other cameras, and cut pictures);
``laboratories_wide`` (the same, with more difference in chemistry and gradation)."""


def preset(name: str) -> Augmentation:
    """Return the preset called ``name``, with what it changes: ``NAME`` or ``NAME,KIND=VALUE,…``.

    ``laboratories,scale=0`` is ``laboratories`` without scaling.

    Raises:
        SettingError: There is no preset or kind of that name, or a value is out of range.
    """
    base, *changes = (part.strip() for part in name.split(","))
    if base not in PRESETS:
        raise SettingError(f"augmentation = {name!r}: no such preset; known: {', '.join(PRESETS)}")
    values: dict[str, bool | float] = {}
    for change in changes:
        kind, _, value = (part.strip() for part in change.partition("="))
        if kind not in ("flip", *_LARGEST):
            raise SettingError(
                f"augmentation = {name!r}: {change!r} is no change; write KIND=VALUE with one of "
                f"flip, {', '.join(_LARGEST)}"
            )
        values[kind] = _value(name, change, value, switch=kind == "flip")
    return replace(PRESETS[base], **values)  # type: ignore[arg-type]


def _value(name: str, change: str, value: str, *, switch: bool) -> bool | float:
    try:
        return {"true": True, "false": False}[value.lower()] if switch else float(value)
    except (KeyError, ValueError):
        wanted = "true or false" if switch else "a number"
        raise SettingError(f"augmentation = {name!r}: {change!r} must give {wanted}") from None
