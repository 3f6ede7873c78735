"""Whether maps change with the model's weights, and stay as they are under other firing seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from leukonca.explanation.proof.cells import ExplainedCells
from leukonca.explanation.proof.keeping import Arrays
from leukonca.explanation.proof.methods import CHUNK, Method, explained, methods_of
from leukonca.explanation.proof.settings import Bench, mean_of
from leukonca.explanation.sanity import randomised, similarity

__all__ = ["OTHER_SEEDS", "sanity", "sanity_work"]

OTHER_SEEDS = "other_seeds"
"""Called so beside the names of the parts whose weights are shuffled: the same model, firing otherwise."""

_FIRST_OTHER_SEED = 1000


def _methods(bench: Bench) -> list[Method]:
    return [
        one for one in methods_of(bench.model, bench.sizes.seeds, bench.sizes.other_seeds) if not one.slow
    ]


def _variants(bench: Bench) -> list[tuple[str, nn.Module, int]]:
    """Name, network and first firing seed."""
    found = [(part, network, 0) for part, network in randomised(bench.model.network)]
    # Where every site fires, seeds still draw the halves that relevance averages over.
    return [*found, (OTHER_SEEDS, bench.model.network, _FIRST_OTHER_SEED)] if bench.model.steps else found


def sanity_work(bench: Bench, cells: int) -> int:
    """Return how many units of work :func:`sanity` tells of."""
    return cells * len(_methods(bench)) * (1 + len(_variants(bench)))


def sanity(bench: Bench, cells: ExplainedCells) -> dict[str, Any]:
    """Compare each method's maps with those of shuffled networks, and with those of other firing seeds.

    Args:
        bench: The model and sizes.
        cells: The cells; the first of those of the other parts, so that their maps are known already.

    Returns:
        JSON values: by method and variant the mean rank correlation with the map of the model as it is.
        Variants are the parts of the network, each shuffled together with those before it, and
        ``other_seeds``.
    """
    result: dict[str, Any] = {"cells": len(cells), "variants": [], "methods": {}}
    variants = _variants(bench)
    result["variants"] = [name for name, _, _ in variants]
    groups, resamples = cells.known_groups(), bench.sizes.resamples
    for method in _methods(bench):
        own = torch.from_numpy(explained(bench.kept, bench.model, cells, method, bench.step)["map"])
        result["methods"][method.name] = {
            name: mean_of(_likeness(bench, cells, method, own, name, network, first_seed), groups, resamples)
            for name, network, first_seed in variants
        }
    return result


def _likeness(
    bench: Bench,
    cells: ExplainedCells,
    method: Method,
    own: Tensor,
    variant: str,
    network: nn.Module,
    first_seed: int,
) -> npt.NDArray[np.float64]:
    pieces = []
    for start in range(0, len(cells), CHUNK):
        rows = slice(start, start + CHUNK)
        few = cells.rows(rows)

        def make(few: ExplainedCells = few, own: Tensor = own[rows]) -> Arrays:
            asked = few.asked(bench.model)
            other = method.run(network, *asked, first_seed=first_seed)["map"].cpu()
            return {"likeness": similarity(own, other)}

        key = {"method": method.name, **method.settings, "variant": variant, "cells": few.key}
        pieces.append(bench.kept.arrays("sanity", key, make)["likeness"])
        bench.step(len(few))
    return np.concatenate(pieces)
