"""The cell's mask from the states of the automaton, with no mask seen in any training.

NCA-WSS (Deutges et al., arXiv 2508.12322) projects the channels of the last state onto their first principal
component, picture by picture, and takes Otsu's threshold (``method="component"``). That component tells what
is stained from what is not, so red cells that touch the white cell become part of it. ``discriminant``, the
default, asks instead what tells the cell from its surroundings:

1. The nucleus is looked for by its colour (:mod:`leukonca.cells.finding`). The sites of a disc of its place
   and size are taken for the cell, and those far from it for what is around it.
2. Fisher's linear discriminant of the channels between the two (R. A. Fisher, 1936), a direction that is
   large in the cell: its sign needs no guess. Above the middle between both means a site is the cell's.
3. Of what is found the part nearest the nucleus is kept, and its holes are filled.
4. The disc is laid anew, with the place and area of that part, and everything some way off is what is around
   it; three times from step 2. That adapts to the size of the cell.

It uses nothing but the picture at hand. States are averaged over firing seeds and taken after an eighth of
the steps: later ones know more of the class and less of the outline, because every step carries what is in
the cell a site further. The nucleus is what absorbs most red within the mask (Otsu's threshold): in
Romanowsky stains the nucleus absorbs red, and granules, cytoplasm and red cells hardly do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from leukonca.cells.decode import content_hash
from leukonca.cells.finding import Found, find_cell
from leukonca.cells.framing import Framing, frame, window
from leukonca.errors import SettingError
from leukonca.explanation.automaton import automaton_of, mean_states
from leukonca.explanation.shape import Shape, measure_shape
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id

__all__ = ["SEEDS", "Method", "Segmentation", "canvas", "otsu", "segment"]

Method = Literal["discriminant", "component"]

SEEDS: Final = 4
"""Firing seeds that states are averaged over where nothing else is said."""

# Beyond how many radii of the disc lies what is around: of the nucleus first, then of what was found.
_GAPS: Final = (2.2, 1.3)
_ROUNDS: Final = 3  # how often the disc is laid anew
_LEAST_AROUND: Final = 0.12  # share of the canvas, its farthest sites
_RADII: Final = (0.15, 0.94)  # limits of the disc, in halves of the canvas's side
# Ridge on the covariance, as a share of its mean variance: channels are many and alike.
_RIDGE: Final = 0.1
_NEAR: Final = 0.4  # width of the Gaussian that prefers what is near the nucleus, in halves of the side
# Around a found cell the canvas reaches this many radii of the nucleus: a cell has 1.1 to 2.
_REACH: Final = 3.0
_SMOOTH: Final = 0.7  # sites
_GRAIN: Final = 0.04  # of the cell's radius

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of a cell, at the size of its picture.

    Attributes:
        cell: bool [H, W]; empty where there is nothing that is stained like a nucleus.
        nucleus: bool [H, W], within the cell.
        shape: Of the cell.
        nucleus_shape: Of the nucleus; lobes count as one.
    """

    cell: Mask
    nucleus: Mask
    shape: Shape
    nucleus_shape: Shape

    @property
    def nucleus_share(self) -> float:
        """Share of the cell's area that the nucleus has, 0–1; NaN without a cell."""
        return self.nucleus_shape.area / self.shape.area if self.shape.area else float("nan")

    @property
    def labelled(self) -> npt.NDArray[np.uint8]:
        """uint8 [H, W]: 0 around the cell, 128 its cytoplasm, 255 its nucleus."""
        return (self.cell * np.uint8(128) + self.nucleus * np.uint8(127)).astype(np.uint8)


def canvas(framing: Framing, patch: int) -> Framing:
    """Return the framing that a cell is segmented in: the model's scale, but with all of the cell.

    Args:
        framing: The model's.
        patch: Pixels a side of one site.
    """
    margin = max(1.0, _REACH / framing.reach) if framing.fit == "cell" else 1 / framing.crop
    widest = framing.with_margin(margin)
    # Whole sites only; the small term keeps the rounding of with_margin on our side.
    border = (widest.size - framing.size) // 2 // patch * patch
    return framing.with_margin(1 + 2 * border / framing.size + 1e-9)


def segment(
    model: TrainedModel,
    pictures: Sequence[npt.NDArray[np.uint8]],
    *,
    seeds: int = SEEDS,
    method: Method = "discriminant",
    step: int | None = None,
) -> list[Segmentation]:
    """Find the cell in the middle of pictures.

    Args:
        model: Any automaton that was trained to name cells.
        pictures: uint8 [H, W, 3] each, decoded, of any size.
        seeds: Firing seeds to average over, at least 1.
        method: ``discriminant`` or, as published, ``component``.
        step: After how many steps the states are taken, 0 to those of the model; 0 is the picture alone.
            ``None``: an eighth of the steps (at least 1), or all of them for ``component``.

    Raises:
        ModelError: The model's network is no automaton.
        SettingError: ``seeds`` or ``step`` is out of its range, or the method is unknown.
    """
    if method not in get_args(Method):
        raise SettingError(f"method {method!r} is unknown; known: {', '.join(get_args(Method))}")
    shape = automaton_of(model, "segmentation").architecture
    framing = canvas(model.framing, shape.patch)
    if step is None:
        step = shape.steps if method == "component" else max(1, shape.steps // 8)
    if not 0 <= step <= shape.steps:
        raise SettingError(f"step={step}: this model has {shape.steps} steps; give 0 to {shape.steps}")
    if not pictures:
        return []
    framed = np.stack([frame(picture, framing) for picture in pictures])
    images = np.array([image_id(content_hash(picture)) for picture in pictures], dtype=np.int64)
    states = mean_states(model, framed, images, step, seeds=seeds, purpose="segmentation")
    find = _discriminant if method == "discriminant" else _component
    results = []
    for picture, state in zip(pictures, states, strict=True):
        nucleus, place = find_cell(picture), window(picture, framing)
        if nucleus.certain:
            grid = _Grid.of(picture, place, state.shape[1:], nucleus)
            cell = _in_picture(picture, find(state.astype(np.float64), grid), grid)
        else:
            cell = np.zeros(picture.shape[:2], dtype=bool)
        inner = _nucleus(picture, cell)
        results.append(Segmentation(cell, inner, measure_shape(cell), measure_shape(inner)))
    return results


def otsu(values: Floats) -> float:
    """Return the threshold that best parts values in two; the largest where all are equal.

    N. Otsu, IEEE Trans. Systems, Man and Cybernetics 9 (1979) 62: the variance between the parts is largest.
    """
    low, high = float(values.min()), float(values.max())
    if not low < high:
        return high
    counts, edges = np.histogram(values, bins=128, range=(low, high))
    sums, _ = np.histogram(values, bins=edges, weights=values)
    below, moment = np.cumsum(counts)[:-1], np.cumsum(sums)
    above = values.size - below
    # Lowest and highest bin are never empty, so neither part is.
    between = (moment[-1] * below / (below + above) - moment[:-1]) ** 2 / (below * above.astype(np.float64))
    return float(edges[1 + between.argmax()])


@dataclass(frozen=True, eq=False)
class _Grid:
    """The sites of a canvas in their picture, and the nucleus among them, in sites.

    Attributes:
        rows: float64 [H], where the rows of the picture's pixels lie; the middle of a site is a whole number.
        columns: float64 [W], the same for its columns.
        shows: bool [rows, columns], the site shows the picture, and not the empty field put around it.
        row: The middle of the nucleus.
        column: The same.
        radius: Of the nucleus, in halves of the side.
    """

    rows: Floats
    columns: Floats
    shows: Mask
    row: float
    column: float
    radius: float

    @classmethod
    def of(
        cls,
        picture: npt.NDArray[np.uint8],
        place: tuple[float, float, float, float],
        grid: tuple[int, ...],
        nucleus: Found,
    ) -> _Grid:
        left, top, across, down = place
        height, width = picture.shape[:2]
        of_row, of_column = float(grid[0] / down), float(grid[1] / across)  # sites a pixel
        shows = [
            (middles > 0) & (middles < side)
            for middles, side in (
                (top + (np.arange(grid[0]) + 0.5) / of_row, height),
                (left + (np.arange(grid[1]) + 0.5) / of_column, width),
            )
        ]
        return cls(
            rows=(np.arange(height, dtype=np.float64) + 0.5 - top) * of_row - 0.5,
            columns=(np.arange(width, dtype=np.float64) + 0.5 - left) * of_column - 0.5,
            shows=shows[0][:, None] & shows[1],
            row=(nucleus.row - top) * of_row - 0.5,
            column=(nucleus.column - left) * of_column - 0.5,
            radius=nucleus.radius * np.sqrt(of_row * of_column) / (min(grid) / 2),
        )

    def away(self, row: float, column: float) -> Floats:
        """Distance of each site from a place, in halves of the side, [rows, columns]."""
        rows, columns = np.indices(self.shows.shape)
        distance: Floats = np.hypot(rows - row, columns - column) / (min(self.shows.shape) / 2)
        return distance


def _standardised(state: Floats, shows: Mask) -> Floats:
    """Sites as rows, [n, C], channels with mean 0 and variance 1; one that never differs is 0."""
    sites = state.reshape(len(state), -1).T
    sites = sites - sites[shows.ravel()].mean(axis=0)
    spread = sites[shows.ravel()].std(axis=0)
    return np.where(spread > 1e-6, sites / np.maximum(spread, 1e-6), 0.0)


def _discriminant(state: Floats, grid: _Grid) -> Floats:
    """Evidence for the cell, [rows, columns], above 0 in it; of the channels [C, rows, columns]."""
    shape = grid.shows.shape
    sites = _standardised(state, grid.shows)
    near = away = grid.away(grid.row, grid.column)
    radius, gap = grid.radius, _GAPS[0]
    for rest in reversed(range(_ROUNDS + 1)):
        radius = float(np.clip(radius, *_RADII))
        far = float(np.quantile(away[grid.shows], 1 - _LEAST_AROUND))
        inside, around = grid.shows & (away < radius), grid.shows & (away > min(gap * radius, far))
        evidence = _fisher(sites, inside.ravel(), around.ravel()).reshape(shape)
        part = _nearest_part(ndimage.gaussian_filter(evidence, _SMOOTH) > 0, near)
        if not rest or not part.any():
            break
        rows, columns = np.nonzero(part)
        away = grid.away(rows.mean(), columns.mean())
        radius, gap = np.sqrt(part.sum() / np.pi) / (min(shape) / 2), _GAPS[1]
    return evidence


def _fisher(sites: Floats, inside: Mask, around: Mask) -> Floats:
    """Fisher's discriminant of all sites, [n]; 0 lies half-way between the means of the two sets."""
    one, other = sites[inside], sites[around]
    if not len(one) or not len(other):
        return np.zeros(len(sites))
    within = (np.cov(one, rowvar=False, bias=True) + np.cov(other, rowvar=False, bias=True)) / 2
    ridge = _RIDGE * np.trace(within) / len(within)
    if ridge <= 0:
        return np.zeros(len(sites))
    difference = one.mean(axis=0) - other.mean(axis=0)
    direction = np.linalg.solve(within + ridge * np.eye(len(within)), difference)
    projected: Floats = (sites - (one.mean(axis=0) + other.mean(axis=0)) / 2) @ direction
    return projected


def _component(state: Floats, grid: _Grid) -> Floats:
    """The same by the first principal component and Otsu's threshold, as published.

    The sign of a component is arbitrary: here it is larger in the nucleus than elsewhere.
    """
    sites = state.reshape(len(state), -1).T
    shown = grid.shows.ravel()
    sites = sites - sites[shown].mean(axis=0)
    _, vectors = np.linalg.eigh(sites[shown].T @ sites[shown])
    values = sites @ vectors[:, -1]
    inside = (grid.away(grid.row, grid.column) < max(grid.radius, _RADII[0])).ravel()
    if values[shown & inside].mean() < values[shown & ~inside].mean():
        values = -values
    evidence: Floats = (values - otsu(values[shown])).reshape(grid.shows.shape)
    return evidence


def _nearest_part(mask: Mask, away: Floats) -> Mask:
    """The connected part with most of its area near the nucleus, without holes."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    nearness = np.exp(-((away / _NEAR) ** 2) / 2)
    weights = np.bincount(parts.ravel(), nearness.ravel(), count + 1)
    filled: Mask = ndimage.binary_fill_holes(parts == 1 + weights[1:].argmax())
    return filled


def _in_picture(picture: npt.NDArray[np.uint8], evidence: Floats, grid: _Grid) -> Mask:
    """The mask at the pixels of the picture, from the evidence of the sites."""
    smooth = ndimage.gaussian_filter(evidence, _SMOOTH)
    places = np.meshgrid(grid.rows, grid.columns, indexing="ij")
    # What the canvas does not show is not the cell's.
    shown = [(at >= -0.5) & (at <= side - 0.5) for at, side in zip(places, smooth.shape, strict=True)]
    detailed = ndimage.map_coordinates(smooth, places, order=1, mode="nearest")
    away = np.hypot(places[0] - grid.row, places[1] - grid.column) / (min(smooth.shape) / 2)
    return _nearest_part((detailed > 0) & shown[0] & shown[1], away)


def _nucleus(picture: npt.NDArray[np.uint8], cell: Mask) -> Mask:
    if not cell.any():
        return cell
    red = picture[..., 0].astype(np.float64)
    # A grain of chromatin or a granule is no nucleus: looked at through a blur that grows with the cell.
    red = ndimage.gaussian_filter(red, _GRAIN * np.sqrt(cell.sum() / np.pi))
    dark: Mask = cell & (red < otsu(red[cell]))
    return dark
