"""A cell as a vector: what the automaton's channels hold after the last step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from leukonca.explanation.automaton import automaton_of, states_of
from leukonca.learning.trained import TrainedModel

__all__ = ["SEEDS", "CellVectors", "vectors_of"]

SEEDS: Final = 4
"""Firing seeds that vectors are averaged over where nothing else is said."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CellVectors:
    """B cells after the last step of an automaton with C channels, averaged over firing seeds.

    Attributes:
        features: float32 [B, 3 · C]: of every channel the maximum, then the mean, then the standard deviation
            over the sites, whatever the model's own pooling is.
        pooled: float32 [B, P], what the head sees; [B, 0] for a ``conv`` head, which sees the grid.
    """

    features: Floats
    pooled: Floats


def vectors_of(
    model: TrainedModel,
    pictures: npt.NDArray[np.uint8],
    images: npt.NDArray[np.int64],
    *,
    seeds: int = SEEDS,
    purpose: str = "a vector of features",
) -> CellVectors:
    """Return the vectors of cells.

    Args:
        model: An automaton.
        pictures: Framed, uint8 [B, S, S, 3].
        images: Their identities, int64 [B].
        seeds: Firing seeds to average over, at least 1.
        purpose: What they are wanted for, for messages.

    Raises:
        ModelError: The network is no automaton.
        SettingError: ``seeds`` is below 1.
    """
    network = automaton_of(model, purpose)
    features, pooled = [], []
    for states in states_of(model, pictures, images, [model.steps], seeds=seeds, purpose=purpose):
        state = states[model.steps].float()
        sites = state.flatten(2)
        features.append(torch.cat((sites.amax(2), sites.mean(2), sites.std(2, correction=0)), dim=1))
        with torch.inference_mode():
            pooled.append(network.decide(state)[1])
    return CellVectors(*(torch.stack(parts).mean(dim=0).cpu().numpy() for parts in (features, pooled)))
