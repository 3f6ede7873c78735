"""How true a map of relevance is: take away what it calls important, and see whether the answer goes.

*Pixel flipping* (deletion; Bach et al., PLoS ONE 10 (2015) e0130140; Samek et al., IEEE TNNLS 28 (2017)
2660): patches of pixels are cleared in the order of their relevance, the most relevant first. The sooner the
probability of the class falls, the smaller the area under its curve, the better the map. *Insertion*
(Petsiuk et al., BMVC 2018) starts with the empty field and puts patches back in the same order: a larger
area is better. Every method is measured with the same patches, the same field, the same firing, and beside
a random order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from leukonca.assessment.intervals import Estimate, cluster_index, draws, percentile_interval
from leukonca.errors import SettingError
from leukonca.explanation.comparison import LogitsOf, require_at_least_one
from leukonca.explanation.removal import clear_field, erase, in_patches, spread_patches
from leukonca.explanation.target import Target
from leukonca.learning.draws import picture_seeds, uniforms
from leukonca.learning.losses import LossName, probabilities

__all__ = ["PATCH", "Curves", "flip", "inside", "mean_areas", "mean_differences", "order_of", "random_order"]

PATCH: Final = 4
"""Side in pixels of the patches that are taken away or put back at a time."""


@dataclass(frozen=True, eq=False)
class Curves:
    """What becomes of N cells while more and more of each picture is taken away, or put back.

    Attributes:
        shares: float64 [n + 1], share of the patches flipped, from 0 to 1.
        probability: float64 [N, n + 1], probability of the explained class.
        value: float64 [N, n + 1], the explained number.
    """

    shares: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]

    @property
    def probability_area(self) -> npt.NDArray[np.float64]:
        """Area under each curve of the probability, [N] in 0–1 (trapezoid rule)."""
        return _area(self.probability, self.shares)

    @property
    def value_area(self) -> npt.NDArray[np.float64]:
        """The same of the explained number, [N], in its unit."""
        return _area(self.value, self.shares)


def _area(values: npt.NDArray[np.float64], places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    area: npt.NDArray[np.float64] = (values[:, 1:] + values[:, :-1]) @ np.diff(places) / 2
    return area


def order_of(relevance: Tensor, patch: int = PATCH) -> Tensor:
    """Return the patches of each picture from the most to the least relevant, int64 [B, patches].

    Args:
        relevance: Signed relevance, [B, S, S]; a patch has the sum of its pixels.
        patch: Side of a patch, px.

    Raises:
        SettingError: The map does not consist of whole patches, or holds a value that is not a number.
    """
    if bool(relevance.isnan().any()):
        raise SettingError("the map of relevance holds values that are not numbers; its order means nothing")
    return in_patches(relevance, patch).argsort(dim=1, descending=True, stable=True)


def random_order(images: Tensor, patches: int, draw: int = 0) -> Tensor:
    """Return a random order of the patches, int64 [B, patches]: a function of identity and ``draw``."""
    return uniforms(picture_seeds(0x666C6970, draw, images), patches).argsort(dim=1)


@torch.no_grad()
def flip(
    network: LogitsOf,
    pictures: Tensor,
    images: Tensor,
    target: Target,
    order: Tensor,
    *,
    loss: LossName,
    insert: bool = False,
    patch: int = PATCH,
    points: int = 32,
    seeds: int = 1,
    batch: int = 256,
    progress: bool = False,
) -> Curves:
    """Take patches away in an order (or put them back) and follow the answer.

    Args:
        network: What was explained.
        pictures: float32 [B, 3, S, S], normalised.
        images: int64 [B], their identities: the firing stays as it is.
        target: What was explained.
        order: int64 [B, patches], of :func:`order_of`.
        loss: What the network was trained with, which makes probabilities of logits.
        insert: Start with the empty field and put the patches back.
        patch: Side of a patch, px.
        points: In how many steps, evenly.
        seeds: Firing seeds 0 … ``seeds`` - 1 to average over.
        batch: Pictures at a time.
        progress: Whether to show a progress bar.

    Raises:
        SettingError: Numbers are out of their range, or orders, patches and pictures do not fit.
    """
    require_at_least_one(points=points, seeds=seeds, batch=batch)
    rank = _ranks(order.to(pictures.device), pictures, patch)
    shares = np.linspace(0, 1, points + 1)
    counts = np.rint(shares * order.shape[1]).astype(int)
    fields = clear_field(pictures)
    height, width = pictures.shape[2:]
    found = torch.empty(2, len(pictures), points + 1, dtype=torch.float64)
    with tqdm(total=len(pictures) * (points + 1), desc="flipping", disable=not progress) as bar:
        for start in range(0, len(pictures), batch):
            rows = slice(start, start + batch)
            asked = target.rows(rows)
            for point, count in enumerate(counts):
                flipped = rank[rows] < int(count)
                gone = spread_patches(~flipped if insert else flipped, height, width, patch)
                shown = erase(pictures[rows], gone, fields[rows])
                for seed in range(seeds):
                    logits = network(shown, images[rows], seed)
                    named = probabilities(logits, loss).gather(1, asked.classes[:, None])[:, 0]
                    if seed == 0:
                        found[:, rows, point] = 0
                    found[0, rows, point] += named.cpu() / seeds
                    found[1, rows, point] += asked.value(logits).double().cpu() / seeds
                bar.update(len(shown))
    return Curves(counts / order.shape[1], found[0].numpy(), found[1].numpy())


def _ranks(order: Tensor, pictures: Tensor, patch: int) -> Tensor:
    """Place of each patch in the order, int64 [B, patches]."""
    patches = in_patches(pictures[:, 0], patch).shape[1]
    every = torch.arange(patches, device=order.device)
    if order.shape != (len(pictures), patches) or not bool((order.sort(dim=1).values == every).all()):
        raise SettingError(
            f"an order of shape {list(order.shape)} does not name each of the {patches} patches of "
            f"{len(pictures)} pictures once"
        )
    return torch.empty_like(order).scatter_(1, order, every.expand_as(order).contiguous())


def mean_areas(
    areas: Mapping[str, npt.NDArray[np.float64]],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return the mean over cells of each method's areas, with 95 % bootstrap intervals.

    Args:
        areas: float64 [N] by the name of the method; the same N cells in the same order.
        groups: N patients or slides, ``""`` where unknown; ``None`` takes every cell as independent.
        resamples: Of the bootstrap. All methods are drawn with the same cells.
        seed: Of the draws.

    Raises:
        SettingError: There is no cell, lengths disagree, or ``resamples`` is below 1.
    """
    require_at_least_one(resamples=resamples)
    lengths = {len(values) for values in areas.values()} | ({len(groups)} if groups is not None else set())
    if len(lengths) != 1 or 0 in lengths:
        raise SettingError(f"areas of {sorted(lengths)} cells: give each method the same, at least one")
    every = np.stack(list(areas.values()))
    clusters = cluster_index(groups if groups is not None else [""] * every.shape[1])
    generator = np.random.default_rng(seed)
    drawn = [every @ weights / weights.sum(0) for weights in draws(clusters, resamples, generator)]
    low, high = percentile_interval(np.concatenate(drawn, axis=1).T)
    rows = zip(every.mean(1).tolist(), low.tolist(), high.tolist(), strict=True)
    return {name: Estimate(*row) for name, row in zip(areas, rows, strict=True)}


def mean_differences(
    areas: Mapping[str, npt.NDArray[np.float64]],
    of: str,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return how far the areas of one method lie from those of each other, cell by cell.

    Cells differ more than methods do. The interval of the difference leaves that out, which the intervals of
    :func:`mean_areas` do not.

    Args:
        areas: See :func:`mean_areas`.
        of: The method that the others are held against: its areas minus theirs.
        groups: See :func:`mean_areas`.
        resamples: See :func:`mean_areas`.
        seed: See :func:`mean_areas`.

    Raises:
        SettingError: There is no such method or no other, or as :func:`mean_areas`.
    """
    if of not in areas or len(areas) < 2:
        raise SettingError(f"method {of!r} cannot be held against others among {', '.join(areas) or 'none'}")
    lengths = {len(values) for values in areas.values()}
    if len(lengths) != 1:
        raise SettingError(f"areas of {sorted(lengths)} cells: give each method the same, at least one")
    differences = {name: areas[of] - values for name, values in areas.items() if name != of}
    return mean_areas(differences, groups=groups, resamples=resamples, seed=seed)


def inside(relevance: Tensor, mask: Tensor) -> Tensor:
    """Return which share of the positive relevance lies within a mask, [B]; NaN where there is none.

    Args:
        relevance: Signed relevance, [B, S, S].
        mask: bool [B, S, S], such as the cell or its nucleus.

    Raises:
        SettingError: Shapes disagree, or the mask is not of truth values.
    """
    if relevance.shape != mask.shape or mask.dtype != torch.bool:
        raise SettingError(
            f"a mask of {mask.dtype} {list(mask.shape)} does not fit relevance of shape "
            f"{list(relevance.shape)}; give bool of the same shape"
        )
    positive = relevance.clamp(min=0).flatten(1)
    return (positive * mask.flatten(1)).sum(1) / positive.sum(1)
