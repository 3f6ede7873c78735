"""A cell as a vector: what the automaton's channels hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from leukonca.explanation.automaton import states_of
from leukonca.learning.trained import TrainedModel

__all__ = ["SEEDS", "cell_features", "default_steps"]

SEEDS: Final = 4
"""Firing seeds that features are averaged over where nothing else is said."""


def default_steps(model: TrainedModel) -> tuple[int, ...]:
    """Return the steps whose states make the features: after a quarter, a half and all of the steps."""
    return tuple(sorted({max(1, model.steps // 4), max(1, model.steps // 2), model.steps}))


def cell_features(
    model: TrainedModel,
    pictures: npt.NDArray[np.uint8],
    images: npt.NDArray[np.int64],
    *,
    steps: Sequence[int] | None = None,
    seeds: int = SEEDS,
    purpose: str = "a vector of features",
) -> npt.NDArray[np.float32]:
    """Return the features of cells: of every channel maximum, mean and standard deviation over the sites.

    Args:
        model: An automaton.
        pictures: Framed, uint8 [B, S, S, 3].
        images: Their identities, int64 [B].
        steps: After how many steps, in the order of the result; ``None``: :func:`default_steps`.
        seeds: Firing seeds to average over, at least 1.
        purpose: What they are wanted for, for messages.

    Returns:
        float32 [B, steps · 3 · C]: by step, then maximum, mean, deviation, then channel.

    Raises:
        ModelError: The network is no automaton.
        SettingError: ``seeds`` is below 1.
    """
    wanted = default_steps(model) if steps is None else tuple(steps)
    total = np.zeros((len(pictures), 0), dtype=np.float32)
    for states in states_of(model, pictures, images, wanted, seeds=seeds, purpose=purpose):
        parts = []
        for step in wanted:
            sites = states[step].float().flatten(2)
            parts += [sites.amax(2), sites.mean(2), sites.std(2, correction=0)]
        values = np.concatenate([part.cpu().numpy() for part in parts], axis=1)
        total = total + values if total.size else values
    return total / np.float32(seeds)
