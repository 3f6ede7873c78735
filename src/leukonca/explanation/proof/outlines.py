"""How well cells are outlined by an automaton that never saw a mask: Dice and IoU on sets that have masks.

No mask takes part in anything but the measuring. The method and its constants were chosen by looking at the
figures of BCISC.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from leukonca.cells.decode import decode
from leukonca.cells.manifest import Manifest
from leukonca.cells.masks import Masks
from leukonca.explanation.proof.keeping import SECONDS, Arrays
from leukonca.explanation.proof.settings import Bench, mean_of
from leukonca.explanation.segmentation import SEEDS, segment

__all__ = ["HOW", "segmentation"]

HOW: Final[dict[str, dict[str, Any]]] = {
    "discriminant": {},
    "discriminant of the picture alone (no step)": {"step": 0},
    "component, as published": {"method": "component"},
}
"""The ways of outlining that are compared, and what ``segment`` is told for them."""

_AT_ONCE: Final = 16


def segmentation(bench: Bench, cells: Manifest, masks: Masks, *, seeds: int = SEEDS) -> dict[str, Any]:
    """Measure the outlines of all cells of an image set.

    Whether the model has seen a cell does not matter here: of its outline it was told nothing.

    Args:
        bench: The model, an automaton, and sizes.
        cells: The cells of one set.
        masks: Where its masks are.
        seeds: Firing seeds to average over.

    Returns:
        JSON values: for each way of outlining and each part, Dice and IoU: mean with interval, median, tenth
        percentile, mean by class.

    Raises:
        PictureError: A picture or mask cannot be read.
    """
    frame = cells.frame
    result: dict[str, Any] = {"cells": len(cells)}
    labels, groups = frame["label"].to_numpy(), frame["group"].tolist()
    known = groups if any(groups) else None
    for name, options in HOW.items():
        pieces = []
        for start in range(0, len(frame), _AT_ONCE):
            paths = frame["path"].iloc[start : start + _AT_ONCE].tolist()

            def make(paths: list[str] = paths, options: dict[str, Any] = options) -> Arrays:
                return _overlaps(bench, paths, masks, seeds, options)

            key = {"how": options, "seeds": seeds, "paths": paths}
            pieces.append(bench.kept.arrays("outlines", key, make))
            bench.step(len(paths))
        result[name] = {
            measure: _summed_up(np.concatenate([one[measure] for one in pieces]), labels, known, bench)
            for measure in pieces[0]
            if measure != SECONDS
        }
    return result


def _overlaps(bench: Bench, paths: list[str], masks: Masks, seeds: int, options: dict[str, Any]) -> Arrays:
    found = segment(bench.model, [decode(path) for path in paths], seeds=seeds, **options)
    rows = []
    for path, outline in zip(paths, found, strict=True):
        row: dict[str, float] = {}
        for part, truth in masks.of(path).items():
            mask = getattr(outline, part)
            both, either = (mask & truth).sum(), (mask | truth).sum()
            # Where neither holds a pixel they agree.
            dice = 2 * both / (mask.sum() + truth.sum()) if either else 1.0
            row |= {f"{part}_dice": dice, f"{part}_iou": both / either if either else 1.0}
        rows.append(row)
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}


def _summed_up(
    values: npt.NDArray[np.float64], labels: npt.NDArray[Any], groups: list[str] | None, bench: Bench
) -> dict[str, Any]:
    series = pd.Series(values)
    return {
        **mean_of(values, groups, bench.sizes.resamples),
        "median": float(series.median()),
        "tenth_percentile": float(series.quantile(0.1)),
        "by_class": {
            str(label): float(values[labels == label].mean()) for label in sorted(set(labels)) if label
        },
    }
