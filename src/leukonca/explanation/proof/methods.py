"""The methods of explanation that are compared, each called in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leukonca.explanation.comparison import gradient_times_input, integrated_gradients, occlusion
from leukonca.explanation.gradcam import convolutions, grad_cam
from leukonca.explanation.proof.cells import ExplainedCells
from leukonca.explanation.proof.keeping import SECONDS, Arrays, Kept
from leukonca.explanation.relevance import relevance
from leukonca.explanation.removal import clear_field
from leukonca.learning.trained import TrainedModel
from leukonca.nca.classifier import CellClassifier

__all__ = ["CHUNK", "DARKNESS", "TITLES", "Method", "darkness", "explained", "methods_of"]

CHUNK = 16
"""Cells whose maps are made, and kept, at a time."""

DARKNESS = "darkness"
"""What is no explanation: it calls relevant what differs from the clear field, whatever the model."""

TITLES: Mapping[str, str] = {
    "relevance": "relevance (leukonca)",
    "epsilon": "epsilon rule",
    "grad_cam": "Grad-CAM",
    "gradient_times_input": "gradient × input",
    "integrated_gradients": "integrated gradients",
    "occlusion_8": "occlusion, 8 px",
    "occlusion_16": "occlusion, 16 px",
    DARKNESS: "darkness (no model)",
    "random": "random order",
}
"""What a method is called on a page."""


@dataclass(frozen=True)
class Method:
    """A method of explanation, with its settings.

    Attributes:
        name: See `TITLES`.
        run: ``run(network, pictures, images, target, first_seed=…)`` gives by name at least ``map``, the
            signed relevance [B, S, S], and perhaps more of each cell.
        settings: What its results depend on besides model and cells. JSON values.
        slow: Whether it is left out where it would be run again and again.
    """

    name: str
    run: Callable[..., dict[str, Tensor]]
    settings: Mapping[str, Any]
    slow: bool = False


def methods_of(model: TrainedModel, seeds: int, others: int) -> list[Method]:
    """Return the methods that the network allows, first the one that is held against the others.

    Args:
        model: The model.
        seeds: Firing seeds that relevance averages.
        others: Firing seeds that the other methods average; where none matters they take 1.
    """
    found: list[Method] = []
    others = len(model.firing_seeds(others))
    if isinstance(model.network, CellClassifier):
        if model.network.architecture.head != "conv":
            found.append(Method("relevance", _relevance(seeds, "reference"), {"seeds": seeds}))
            found.append(Method("epsilon", _relevance(others, "epsilon"), {"seeds": others}, slow=True))
    elif convolutions(model.network):
        found.append(
            Method("grad_cam", lambda *cells, first_seed=0: {"map": grad_cam(*cells)}, {"layer": "last"})
        )
    average = {"seeds": others}

    def plain(method: Callable[..., Tensor], **options: int) -> Callable[..., dict[str, Tensor]]:
        def run(*cells: Any, first_seed: int = 0) -> dict[str, Tensor]:
            shown = method(*cells, seeds=others, first_seed=first_seed, **options)
            return {"map": shown.sum(1) if shown.dim() == 4 else shown}

        return run

    found.append(Method("integrated_gradients", plain(integrated_gradients), {**average, "points": 16}))
    found.append(Method("gradient_times_input", plain(gradient_times_input), average))
    side = min(model.framing.size, 16)
    for window, slow in ((side, False), (side // 2, True)):
        options = {"window": window, "stride": max(1, side // 4)}
        found.append(
            Method(f"occlusion_{window}", plain(occlusion, **options), {**average, **options}, slow=slow)
        )
    return found


def _relevance(seeds: int, rule: Any) -> Callable[..., dict[str, Tensor]]:
    def run(*cells: Any, first_seed: int = 0) -> dict[str, Tensor]:
        found = relevance(*cells, seeds=seeds, first_seed=first_seed, rule=rule)
        return {
            "map": found.map,
            "value": found.value,
            "background": found.background,
            "absorbed": found.absorbed,
            "at_input": found.pixels.flatten(1).sum(1),
        }

    return run


def darkness(pictures: Tensor) -> Tensor:
    """Return how far each pixel lies from the clear field, [B, S, S]: what a map of the stain would show."""
    return (pictures - clear_field(pictures)).abs().sum(1)


def explained(
    kept: Kept, model: TrainedModel, cells: ExplainedCells, method: Method, step: Callable[[int], Any]
) -> Arrays:
    """Return what a method says of cells, kept chunk by chunk: arrays with one row a cell.

    ``seconds`` is the processor time that a cell took.

    Args:
        kept: Where chunks are kept.
        model: The model.
        cells: The cells.
        method: The method.
        step: Told how many cells are done after each chunk.
    """
    parts: list[Arrays] = []
    for chunk in cells.chunks(CHUNK):

        def make(chunk: ExplainedCells = chunk) -> Arrays:
            found = method.run(model.network, *chunk.asked(model))
            return {name: _array(values) for name, values in found.items()}

        key = {"method": method.name, **method.settings, "cells": chunk.key}
        piece = kept.arrays("maps", key, make)
        parts.append(piece | {SECONDS: np.full(len(chunk), piece[SECONDS] / len(chunk))})
        step(len(chunk))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _array(values: Tensor) -> Any:
    whole = values.detach().cpu()
    return (whole if whole.dtype == torch.float64 else whole.float()).numpy()
