"""Completeness, and what flipping patches says of relevance and of every other method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.explanation.automaton import automaton_of
from leukonca.explanation.faithfulness import flip, mean_areas, mean_differences, order_of, random_order
from leukonca.explanation.proof.cells import ExplainedCells
from leukonca.explanation.proof.keeping import SECONDS, Arrays
from leukonca.explanation.proof.methods import CHUNK, DARKNESS, darkness, explained, methods_of
from leukonca.explanation.proof.settings import Bench
from leukonca.explanation.relevance import relevance

__all__ = ["completeness", "completeness_work", "faithfulness", "faithfulness_work", "patches_of"]

# Cells whose curves are kept at a time: few seconds' work.
_AT_ONCE: Final = 48
_PATCHES_A_POINT: Final = 4

Floats = npt.NDArray[np.float64]


def completeness_work(cells: int) -> int:
    """Return how many units of work :func:`completeness` tells of."""
    return 2 * cells


def completeness(bench: Bench, cells: ExplainedCells) -> dict[str, Any]:
    """Measure how far relevance at the input and what was absorbed miss the explained number.

    In float32, as an explanation is made, and in float64 with one firing seed, as a proof.

    Args:
        bench: The model, an automaton, and sizes.
        cells: The cells.

    Returns:
        JSON values. Errors are in the unit of the explained number, the log odds of the class (natural
        logarithm); ``relative`` ones are shares of max(1, its size).
    """
    model, kept, step = bench.model, bench.kept, bench.step
    network = automaton_of(model, "completeness")
    method = methods_of(model, bench.sizes.seeds, bench.sizes.other_seeds)[0]
    shown = explained(kept, model, cells, method, step)
    parts: list[Arrays] = []
    for chunk in cells.chunks(CHUNK):

        def make(chunk: ExplainedCells = chunk) -> Arrays:
            found = relevance(network, *chunk.asked(model), seeds=1, exact=True)
            return {
                "value": found.value.cpu().numpy(),
                "absorbed": found.absorbed.cpu().numpy(),
                "at_input": found.pixels.flatten(1).sum(1).cpu().numpy(),
            }

        parts.append(kept.arrays("exact", {"cells": chunk.key, "seeds": 1}, make))
        step(len(chunk))
    exact = {
        name: np.concatenate([part[name] for part in parts]) for name in ("value", "absorbed", "at_input")
    }
    difference = shown["value"].astype(np.float64) - shown["background"]
    return {
        "cells": len(cells),
        "float32": _errors(shown) | {"seeds": bench.sizes.seeds},
        "float64": _errors(exact) | {"seeds": 1},
        "explained_mean": float(shown["value"].mean()),
        "background_mean": float(shown["background"].mean()),
        "share_at_input_median": float(np.median(shown["at_input"] / difference)),
    }


def _errors(found: Arrays) -> dict[str, Any]:
    error = np.abs(found["at_input"] + found["absorbed"] - found["value"]).astype(np.float64)
    relative = error / np.maximum(np.abs(found["value"]), 1)
    return {
        "max": float(error.max()),
        "median": float(np.median(error)),
        "relative_max": float(relative.max()),
        "relative_median": float(np.median(relative)),
        "by_cell": error.tolist(),
    }


def patches_of(bench: Bench) -> list[int]:
    """Return the sides of patches that divide the model's input."""
    return [patch for patch in bench.sizes.patches if bench.model.framing.size % patch == 0]


def faithfulness_work(bench: Bench, cells: int) -> int:
    """Return how many units of work :func:`faithfulness` tells of."""
    methods = len(methods_of(bench.model, 1, 1))
    return cells * (methods + 2 * len(patches_of(bench)) * (methods + 2))


def faithfulness(bench: Bench, cells: ExplainedCells) -> dict[str, Any]:
    """Flip patches in the order of every method's relevance, of darkness, and in a random order.

    Args:
        bench: The model and sizes.
        cells: The cells.

    Returns:
        JSON values: for each size of patches and each way (deletion, insertion) the curves and areas of
        every method, and how far the areas of the first method lie from the others', cell by cell.
    """
    methods = methods_of(bench.model, bench.sizes.seeds, bench.sizes.other_seeds)
    made = {one.name: explained(bench.kept, bench.model, cells, one, bench.step) for one in methods}
    maps = {name: torch.from_numpy(found["map"]) for name, found in made.items()}
    keys = {one.name: {"method": one.name, **one.settings} for one in methods}
    pictures, images, _ = cells.asked(bench.model)
    maps[DARKNESS] = darkness(pictures)
    keys |= {name: {"method": name} for name in (DARKNESS, "random")}
    result: dict[str, Any] = {
        "cells": len(cells),
        "first": methods[0].name,
        "seconds_per_cell": {name: round(float(found[SECONDS].mean()), 4) for name, found in made.items()},
        "by_patch": {},
    }
    for patch in patches_of(bench):
        orders = {name: order_of(found, patch) for name, found in maps.items()}
        orders["random"] = random_order(images, orders[DARKNESS].shape[1])
        result["by_patch"][str(patch)] = {
            way: _ways(bench, cells, orders, keys, patch, insert=way == "insertion")
            for way in ("deletion", "insertion")
        }
    return result


def _ways(
    bench: Bench,
    cells: ExplainedCells,
    orders: Mapping[str, Tensor],
    keys: Mapping[str, Mapping[str, Any]],
    patch: int,
    *,
    insert: bool,
) -> dict[str, Any]:
    # Of few large patches a curve needs fewer points.
    points = min(bench.sizes.points, max(1, next(iter(orders.values())).shape[1] // _PATCHES_A_POINT))
    curves: dict[str, Arrays] = {}
    for name, order in orders.items():
        parts = []
        for start in range(0, len(cells), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            few = cells.rows(rows)

            def make(few: ExplainedCells = few, order: Tensor = order[rows]) -> Arrays:
                found = flip(
                    bench.model.network,
                    *few.asked(bench.model),
                    order,
                    loss=bench.model.loss,
                    insert=insert,
                    patch=patch,
                    points=points,
                )
                return {"shares": found.shares, "probability": found.probability, "value": found.value}

            key = {"patch": patch, "points": points, "insert": insert, "cells": few.key, **keys[name]}
            parts.append(bench.kept.arrays("curves", key, make))
            bench.step(len(few))
        curves[name] = {
            "shares": parts[0]["shares"],
            **{kind: np.concatenate([one[kind] for one in parts]) for kind in ("probability", "value")},
        }
    shares = next(iter(curves.values()))["shares"]
    return {
        "shares": shares.round(6).tolist(),
        "probability": _summed_up(curves, "probability", shares, bench, cells),
        "log_odds": _summed_up(curves, "value", shares, bench, cells),
    }


def _summed_up(
    curves: Mapping[str, Arrays], kind: str, shares: Floats, bench: Bench, cells: ExplainedCells
) -> dict[str, Any]:
    """Mean area and curve of each method, and how far the first method's areas lie from its own."""
    areas = {name: _area(found[kind], shares) for name, found in curves.items()}
    groups, resamples = cells.known_groups(), bench.sizes.resamples
    means = mean_areas(areas, groups=groups, resamples=resamples)
    first = next(iter(areas))
    differences = mean_differences(areas, first, groups=groups, resamples=resamples)
    labels = np.array(cells.labels)
    return {
        name: {
            "area": means[name].to_dict(),
            "first_minus_this": differences[name].to_dict() if name != first else None,
            "area_by_class": {one: float(areas[name][labels == one].mean()) for one in cells.counts()},
            "curve": found[kind].mean(0).round(5).tolist(),
        }
        for name, found in curves.items()
    }


def _area(values: Floats, shares: Floats) -> Floats:
    area: Floats = (values[:, 1:] + values[:, :-1]) @ np.diff(shares) / 2
    return area
