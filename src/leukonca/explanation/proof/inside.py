"""Whether relevance lies on the cell, and on its nucleus, where masks are known.

A map may lie outside a cell for two reasons: the map is wrong, or the model does look there. So the same is
asked of the model without any map. The picture is parted in two, the mask and the rest, and each is put on
the empty field alone and beside the other. What the mask adds, the mean of both orders (its Shapley value),
is held against the relevance within it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.cells.masks import Masks
from leukonca.explanation.faithfulness import inside
from leukonca.explanation.proof.cells import ExplainedCells, framed_masks
from leukonca.explanation.proof.keeping import Arrays
from leukonca.explanation.proof.methods import darkness, explained, methods_of
from leukonca.explanation.proof.settings import Bench, mean_of
from leukonca.explanation.removal import clear_field, erase

__all__ = ["localisation"]

_AT_ONCE = 48


def localisation(bench: Bench, cells: ExplainedCells, masks: Masks) -> dict[str, Any]:
    """Measure which share of the positive relevance lies within masks.

    Args:
        bench: The model, an automaton, and sizes.
        cells: Rightly named cells.
        masks: Where their masks are.

    Returns:
        JSON values. By part of the cell: ``relevance``, the share of the positive relevance within the mask;
        ``darkness``, the same of a map that knows no model; ``area``, the share of the picture that the mask
        has, which an even map would get; ``net_relevance`` and ``net_clearing``, the share of the whole
        difference between picture and empty field that lies in the mask, by relevance and by clearing.

    Raises:
        PictureError: A mask is missing or cannot be read.
        SettingError: A mask does not fit its picture.
    """
    outlines = framed_masks(cells, masks, bench.model)
    method = methods_of(bench.model, bench.sizes.seeds, bench.sizes.other_seeds)[0]
    found = torch.from_numpy(explained(bench.kept, bench.model, cells, method, bench.step)["map"])
    plain = darkness(cells.asked(bench.model)[0]).cpu()
    result: dict[str, Any] = {"cells": len(cells), "of_class": cells.counts()}
    for part, mask in outlines.items():
        whole = _cleared(bench, cells, mask, part)
        result[part] = _measured(bench, cells, found, plain, mask, whole)
    return result


def _measured(
    bench: Bench, cells: ExplainedCells, found: Tensor, plain: Tensor, mask: Tensor, cleared: Arrays
) -> dict[str, Any]:
    values = {
        "relevance": inside(found, mask).numpy(),
        "darkness": inside(plain, mask).numpy(),
        "area": mask.double().mean((1, 2)).numpy(),
    }
    within = (found * mask).sum((1, 2)).double().numpy()
    whole = found.sum((1, 2)).double().numpy()
    groups, resamples = cells.known_groups(), bench.sizes.resamples
    labels = np.array(cells.labels)
    return {
        **{name: mean_of(one, groups, resamples) for name, one in values.items()},
        "relevance_by_class": {
            one: _mean(values["relevance"][labels == one].tolist()) for one in cells.counts()
        },
        # Shares of sums over cells: of a single cell the whole may be near zero.
        "net_relevance": _share(within, whole, groups, resamples),
        "net_clearing": _share(cleared["within"], cleared["whole"], groups, resamples),
        "correlation_with_clearing": _correlation(within, cleared["within"]),
    }


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    """Pearson's, over cells; ``None`` where one of them is the same in all cells."""
    if not one.std() or not other.std():
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else None


def _share(
    within: npt.NDArray[np.float64],
    whole: npt.NDArray[np.float64],
    groups: Sequence[str] | None,
    resamples: int,
) -> Mapping[str, Any]:
    mean = float(whole.mean())
    if not mean:
        return {"value": None, "low": None, "high": None, "cells": len(whole)}
    # The interval of a ratio by its linearisation around the mean of the wholes.
    ratio = float(within.mean()) / mean
    return mean_of(ratio + (within - ratio * whole) / mean, groups, resamples)


def _cleared(bench: Bench, cells: ExplainedCells, mask: Tensor, part: str) -> Arrays:
    """What the pixels of the mask add to the explained number, and what all add; [N] each."""
    pieces = []
    for start in range(0, len(cells), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        few, own = cells.rows(rows), mask[rows]

        def make(few: ExplainedCells = few, own: Tensor = own) -> Arrays:
            pictures, images, target = few.asked(bench.model)
            field, own = clear_field(pictures), own.to(pictures.device)
            shown = {
                "all": pictures,
                "mask": erase(pictures, ~own, field),
                "rest": erase(pictures, own, field),
                "none": field,
            }
            value = {name: _value(bench, one, images, target) for name, one in shown.items()}
            within = (value["all"] - value["rest"] + value["mask"] - value["none"]) / 2
            return {"within": within.cpu().numpy(), "whole": (value["all"] - value["none"]).cpu().numpy()}

        key = {"cells": few.key, "part": part, "seeds": bench.sizes.seeds, "mask": _digest(own)}
        pieces.append(bench.kept.arrays("cleared", key, make))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in ("within", "whole")}


@torch.no_grad()
def _value(bench: Bench, pictures: Tensor, images: Tensor, target: Any) -> Tensor:
    runs = [
        target.value(bench.model.network(pictures, images, seed)).double()
        for seed in range(bench.sizes.seeds)
    ]
    return torch.stack(runs).mean(0)


def _digest(mask: Tensor) -> int:
    return zlib.crc32(np.packbits(mask.numpy()).tobytes())
