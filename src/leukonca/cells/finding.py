"""Where the cell of a picture lies, how large its nucleus is, and in what light it was taken.

What differs most between laboratories is magnification, the place of the cell in the picture, the colour of
the light, and the strength of the stain. A picture of a stained white cell brings its own yardsticks for all
four: the empty field shows the light, and the nucleus is the one part that every Romanowsky stain makes
dark in red and green. So nothing has to be learned, and nothing known about the laboratory:

1. The light: a smooth surface through the logarithm of the bright pixels, which takes vignetting along.
2. The absorbance: A = log(light) - log(picture).
3. The nucleus: what absorbs red, and more of it than of blue (red cells absorb blue and hardly red), above
   Otsu's threshold; the part nearest the middle, with the lobes beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

__all__ = ["Found", "find_cell"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# The search works on a copy of this many pixels on the longer side: nuclei have 10 to 60 of them.
_SIDE: Final = 96
_DARKEST: Final = 1 / 255

# The light. A pixel belongs to the empty field while no colour channel differs from the surface by more than
# the tolerance (natural logarithm), which shrinks as the surface settles.
_BRIGHT: Final = 0.9
_TOLERANCES: Final = (0.25, 0.18, 0.14)
_LEAST_FIELD: Final = 0.04
# Ridge on slopes and curvatures, so that a field seen only in one corner does not tilt the whole surface.
_RIDGE: Final = (1e-6, 0.02, 0.02, 0.05, 0.05, 0.05)

# The nucleus.
_BLUE_SHARE: Final = 0.6  # red cells absorb about this much of their blue absorbance in red
_FAINTEST: Final = 0.06  # absorbance below which nothing is a nucleus
_OF_DARKEST: Final = 0.4  # share of the darkest parts that a nucleus has at least
_RIM: Final = 0.7  # what touches a nucleus belongs to it down to this share of the threshold
_CENTRAL: Final = 0.35  # width of the Gaussian that prefers the middle, as a share of the side
_LOBE_GAP: Final = 0.7  # greatest distance of a lobe, in radii of the nucleus
_LOBE_REACH: Final = 2.3  # the same between the centres
_LOBE_SIZE: Final = 1.3  # greatest area of a lobe, in areas of the nucleus: more is a neighbouring cell


@dataclass(frozen=True, eq=False)
class Found:
    """What :func:`find_cell` found; places in pixels of the picture, from its left upper corner.

    Attributes:
        row: Centre of the nucleus, downwards.
        column: Centre of the nucleus, to the right.
        radius: Radius of the disc with the nucleus's area, or with its second moment where that is larger
            (lobes spread out), > 0.
        nucleus: Median absorbance of the nucleus in red, green and blue, natural logarithm, [3].
        surface: Coefficients of the logarithm of the light, [6, 3]; see :meth:`light`.
        height: Of the picture.
        width: Of the picture.
        certain: Whether there is a nucleus at all. Without one, centre and radius are the picture's middle
            and a quarter of its shorter side, and ``nucleus`` is NaN.
    """

    row: float
    column: float
    radius: float
    nucleus: Floats
    surface: Floats
    height: int
    width: int
    certain: bool

    def light(self, rows: Floats, columns: Floats) -> Floats:
        """Return the light that falls through an empty field, as a share of white.

        Args:
            rows: Places downwards, [R]; those outside the picture continue its border.
            columns: Places to the right, [C].

        Returns:
            [R, C, 3], above 0.
        """
        y = np.clip(rows / self.height, 0, 1) - 0.5
        x = np.clip(columns / self.width, 0, 1) - 0.5
        grid = np.meshgrid(y, x, indexing="ij")
        light: Floats = np.exp(_terms(*grid) @ self.surface)
        return light


def find_cell(picture: npt.NDArray[np.uint8]) -> Found:
    """Find the white cell nearest the middle of a picture.

    Args:
        picture: uint8 [H, W, 3].

    Returns:
        The place, size and light. Never fails: where there is no nucleus, ``certain`` is ``False``.
    """
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    small = Image.fromarray(picture).resize(
        (max(8, round(width * scale)), max(8, round(height * scale))), Image.Resampling.BILINEAR
    )
    logarithm = np.log(np.maximum(np.asarray(small, dtype=np.float64) / 255, _DARKEST))
    surface = _light(logarithm)
    absorbance = (_terms(*_places(logarithm.shape[:2])) @ surface) - logarithm
    nucleus = _nucleus(absorbance)
    if nucleus is None:
        return Found(
            height / 2,
            width / 2,
            min(height, width) / 4,
            np.full(3, np.nan),
            surface,
            height,
            width,
            certain=False,
        )
    rows, columns = np.nonzero(nucleus)
    down, across = height / nucleus.shape[0], width / nucleus.shape[1]
    row, column = rows.mean(), columns.mean()
    # A disc of radius r has a mean squared distance of r² / 2 from its centre.
    spread = np.sqrt(2 * np.mean((rows - row) ** 2 + (columns - column) ** 2))
    radius = max(spread, np.sqrt(nucleus.sum() / np.pi)) * np.sqrt(down * across)
    return Found(
        (row + 0.5) * down,
        (column + 0.5) * across,
        float(radius),
        np.median(absorbance[nucleus], axis=0),
        surface,
        height,
        width,
        certain=True,
    )


def _places(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Middles of the pixels of a grid, from -½ to ½."""
    rows, columns = (((np.arange(side) + 0.5) / side) - 0.5 for side in shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return y, x


def _terms(y: Floats, x: Floats) -> Floats:
    return np.stack((np.ones_like(x), x, y, x * x, y * y, x * y), axis=-1)


def _light(logarithm: Floats) -> Floats:
    """Coefficients [6, 3] of the surface through the logarithm of the bright field, [H, W, 3]."""
    flat = logarithm.reshape(-1, 3)
    # Green tells best: everything that is stained or red absorbs it.
    green = ndimage.gaussian_filter(logarithm[..., 1], 1).ravel()
    surface = np.zeros((6, 3))
    surface[0] = level = np.median(flat[green >= np.quantile(green, _BRIGHT)], axis=0)
    terms = _terms(*_places(logarithm.shape[:2])).reshape(-1, 6)
    ridge = np.diag(_RIDGE) * len(flat) * 0.05
    for tolerance in _TOLERANCES:
        field = (np.abs(flat - terms @ surface) < tolerance).all(axis=1)
        if field.mean() < _LEAST_FIELD:
            break
        seen = terms[field]
        surface = np.linalg.solve(seen.T @ seen + ridge, seen.T @ (flat[field] - level))
        surface[0] += level
    return surface


def _nucleus(absorbance: Floats) -> Mask | None:
    blue = np.maximum(absorbance[..., 2], 0)
    redness = ndimage.gaussian_filter(np.maximum(absorbance[..., 0] - _BLUE_SHARE * blue, 0), 1)
    darkest = np.quantile(redness, 0.995)
    threshold = max(_otsu(redness, darkest), _OF_DARKEST * darkest, _FAINTEST)
    mask = ndimage.binary_opening(redness > threshold)
    mask |= ndimage.binary_propagation(mask, mask=ndimage.binary_opening(redness > _RIM * threshold))
    parts, count = ndimage.label(mask)
    if count == 0:
        return None
    y, x = _places(parts.shape)
    central = np.exp(-((y / _CENTRAL) ** 2) - (x / _CENTRAL) ** 2)
    main = int(ndimage.sum(redness * central, parts, range(1, count + 1)).argmax()) + 1
    nucleus: Mask = parts == main
    # Twice, because a lobe may lie beside a lobe.
    for _ in range(2):
        nucleus |= np.isin(parts, _lobes(parts, nucleus))
    return nucleus


def _lobes(parts: npt.NDArray[np.int32], nucleus: Mask) -> list[int]:
    """Numbers of the parts near the nucleus that are small enough to be lobes of it."""
    area = int(nucleus.sum())
    radius = np.sqrt(area / np.pi)
    near = ndimage.distance_transform_edt(~nucleus) < max(2.0, _LOBE_GAP * radius)
    centre = np.array(ndimage.center_of_mass(nucleus))
    lobes = []
    for number in np.unique(parts[near & ~nucleus]):
        part = parts == number
        away = np.linalg.norm(np.array(ndimage.center_of_mass(part)) - centre)
        if number and part.sum() < _LOBE_SIZE * area and away < _LOBE_REACH * radius + 2:
            lobes.append(int(number))
    return lobes


def _otsu(values: Floats, largest: float) -> float:
    """Otsu's threshold of the values from 0 to ``largest`` (N. Otsu, IEEE Trans. SMC 9 (1979) 62)."""
    if largest <= 0:
        return 0.0
    counts, edges = np.histogram(values, bins=128, range=(0, largest))
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    total, above = below[-1], below[-1] - below
    moment = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (moment[-1] * below / total - moment) ** 2 / (below * above)
    return float(middles[np.nanargmax(np.where(above > 0, between, np.nan))]) if above[0] else 0.0
