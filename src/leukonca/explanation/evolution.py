"""The automaton at work: what its channels hold and what it would say after every step.

After *t* steps the head is given the state as it is then. It was trained on the last state only, so what it
says before is no decision of the model; it shows how the evidence grows.

Two steps sum that up. With *p(t)* the mean over firing seeds of the class probabilities after *t* steps, and
*T* the last step:

- ``decided``: the first step from which on, up to *T*, the most probable class is that of *T*.
- ``settled``: the first step from which on, up to *T*, no class's probability differs by more than a
  tolerance from that at *T*.

Both look back from the end, unlike :mod:`leukonca.nca.settling`, which must stop without knowing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.explanation.automaton import automaton_of, require_seeds
from leukonca.learning.trained import TrainedModel
from leukonca.nca.classifier import CellClassifier

__all__ = ["SEEDS", "TOLERANCE", "Evolution", "evolve", "rank_channels"]

SEEDS: Final = 4
"""Firing seeds that probabilities are averaged over where nothing else is said."""

TOLERANCE: Final = 0.05
"""Largest difference of a probability from its last value that counts as settled."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evolution:
    """One cell from the picture to the decision.

    Attributes:
        picture: uint8 [S, S, 3], what the model sees.
        classes: Names of the K classes.
        probabilities: float64 [seeds, T + 1, K], after 0 … T steps; calibrated where the model is. One seed
            where every site fires.
        channels: The n channels that are shown.
        maps: float32 [n, T + 1, rows, columns], their values under firing seed 0.
        tolerance: For ``settled``.
    """

    picture: npt.NDArray[np.uint8]
    classes: tuple[str, ...]
    probabilities: Floats
    channels: tuple[int, ...]
    maps: npt.NDArray[np.float32]
    tolerance: float = TOLERANCE

    @property
    def steps(self) -> int:
        """The last step, T."""
        return len(self.mean) - 1

    @property
    def mean(self) -> Floats:
        """float64 [T + 1, K], the probabilities averaged over the firing seeds."""
        mean: Floats = self.probabilities.mean(axis=0)
        return mean

    @property
    def winner(self) -> int:
        """Number of the most probable class after the last step."""
        return int(self.mean[-1].argmax())

    @property
    def decided(self) -> int:
        """The first step from which on the most probable class is that of the last step."""
        return _first_lasting(self.mean.argmax(axis=1) == self.winner)

    @property
    def settled(self) -> int:
        """The first step from which on no probability is further than ``tolerance`` from its last value."""
        mean = self.mean
        # A little more than the tolerance, so that what equals it but for rounding passes.
        return _first_lasting(np.abs(mean - mean[-1]).max(axis=1) <= self.tolerance + 1e-9)


def _first_lasting(true: npt.NDArray[np.bool_]) -> int:
    """The first place from which on all are true, where the last is."""
    false = np.flatnonzero(~true)
    return int(false[-1]) + 1 if len(false) else 0


@torch.no_grad()
def evolve(
    model: TrainedModel,
    picture: npt.NDArray[np.uint8],
    image: int,
    *,
    channels: Sequence[int] | None = None,
    top: int = 6,
    seeds: int = SEEDS,
    tolerance: float = TOLERANCE,
) -> Evolution:
    """Run the automaton on one cell and look at every step.

    Args:
        model: The model.
        picture: What the model sees, framed, uint8 [S, S, 3].
        image: Identity of the picture (:func:`leukonca.nca.firing.image_id`).
        channels: Which channels to show; ``None`` takes the first of :func:`rank_channels`.
        top: How many at most, where they are not named.
        seeds: Firing seeds 0 … ``seeds`` - 1 that probabilities are taken for, at least 1.
        tolerance: For ``settled``, in (0, 1).

    Raises:
        ModelError: The network is no automaton.
        SettingError: A value is out of its range, or a channel is none of the automaton's.
    """
    require_seeds(seeds)
    network = automaton_of(model, "evolution")
    if not 0 < tolerance < 1:
        raise SettingError(f"tolerance={tolerance!r}: a difference of probabilities is in (0, 1)")
    if channels is not None:
        _require_channels(network, channels)
    elif top < 1:
        raise SettingError(f"top={top}: show at least 1 channel")
    inputs = model.normalised(picture[None])
    ids = torch.tensor([image], dtype=torch.int64, device=model.device)
    every = range(network.architecture.steps + 1)
    logits, first = [], torch.empty(0)
    for seed in model.firing_seeds(seeds):
        run = network.rollout(inputs, ids, seed=seed, record=frozenset(every))
        states = torch.cat([run.states[step] for step in every])
        logits.append(network.decide(states)[0].double().cpu().numpy())
        first = states if seed == 0 else first
    shown = list(channels) if channels is not None else rank_channels(network, first[-1:])[0, :top].tolist()
    return Evolution(
        picture=picture,
        classes=model.classes,
        probabilities=model.stated(np.stack(logits)),
        channels=tuple(int(channel) for channel in shown),
        maps=first[:, shown].transpose(0, 1).float().cpu().numpy(),
        tolerance=tolerance,
    )


def rank_channels(network: CellClassifier, state: Tensor, classes: Tensor | None = None) -> Tensor:
    """Return the channels of a last state, those first that speak most for a class, int64 [B, n].

    What a channel says is the sum over its sites of value × gradient of the class's logit: for a linear head
    the share of the logit that comes from it. The channels of the picture are left out.

    Args:
        network: The automaton, with any head.
        state: [B, C, rows, columns].
        classes: int64 [B]; ``None``: the class with the highest logit.
    """
    with torch.enable_grad():
        leaf = state.detach().clone().requires_grad_()
        logits, _ = network.decide(leaf)
        wanted = logits.argmax(dim=1) if classes is None else classes
        (gradient,) = torch.autograd.grad(logits.gather(1, wanted[:, None]).sum(), leaf)
    said = (gradient * leaf.detach()).sum(dim=(2, 3))[:, network.architecture.inputs :]
    return said.argsort(dim=1, descending=True, stable=True) + network.architecture.inputs


def _require_channels(network: CellClassifier, channels: Sequence[int]) -> None:
    count = network.architecture.channels
    odd = [channel for channel in channels if not 0 <= channel < count]
    if odd or not channels:
        raise SettingError(
            f"channels {list(channels)}: name at least one of this automaton's, which are 0 to {count - 1}"
        )
