"""Adaptive steps: a picture stops where its answer has settled.

Definition. With probabilities *p(t)* after *t* finished steps, a picture of an automaton of *n* steps stops
at the first *t* of ::

    least, least + every, least + 2·every, …

at which no class's probability differs by more than ``tolerance`` from that ``every`` steps before; else at
*n*. The steps that it takes are those that it would have taken anyway: firing knows seed, picture and number
of the step alone. Whether a picture stops depends on its own probabilities, not on the others of its batch.

A model learns to answer after its last step. That an answer has settled does not say that it is the one to
which all steps would have led: what is lost has to be measured (``benchmarks/settling.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.engines import engine
from leukonca.nca.firing import Firing

__all__ = ["Settling", "settle"]


@dataclass(frozen=True)
class Settling:
    """When a picture stops.

    Attributes:
        tolerance: Largest change of a probability that counts as none, in [0, 1].
        every: Steps between two looks at the probabilities; ``None``: an eighth of the automaton's steps.
        least: Steps that every picture takes, at least ``every``; ``None``: half of the automaton's. Before,
            channels are nearly empty, and an answer that has not begun to move would pass for one at rest.

    Raises:
        SettingError: A value is out of its range.
    """

    tolerance: float
    every: int | None = None
    least: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and 0 <= self.tolerance <= 1):
            raise SettingError(f"settle={self.tolerance!r}: a change of a probability is in [0, 1]")
        for name, value in (("every", self.every), ("least", self.least)):
            if value is not None and value < 1:
                raise SettingError(f"{name}={value!r} must be at least 1 step")

    def looks(self, steps: int) -> list[int]:
        """Return the numbers of finished steps after which an automaton of ``steps`` steps is looked at.

        The first is there to be compared with; at the last one every picture stops.
        """
        every = self.every or max(1, steps // 8)
        least = max(every, self.least or steps // 2)
        return [*range(least - every, steps, every), steps]


def settle(
    network: CellClassifier,
    pictures: Tensor,
    images: Tensor,
    *,
    seed: int,
    settling: Settling,
    probabilities: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Run an automaton until the answers have settled.

    Args:
        network: The automaton.
        pictures: [B, 3, size, size], normalised.
        images: int64 [B], see :meth:`leukonca.nca.classifier.CellClassifier.rollout`.
        seed: Firing seed.
        settling: When a picture stops.
        probabilities: From logits [B, classes] to probabilities.

    Returns:
        Logits [B, classes] and features [B, F] (see
        :meth:`leukonca.nca.classifier.CellClassifier.features`) at the step where each picture stopped, and
        how many steps it took, int64 [B].
    """
    shape = network.architecture
    state = network.seed_state(pictures)
    logits = state.new_empty(len(state), network.classes)
    features = torch.empty_like(network.features(state))
    taken = torch.full((len(state),), shape.steps, device=state.device)
    running = torch.arange(len(state), device=state.device)
    before = None
    done = 0
    for look in settling.looks(shape.steps):
        if not len(running):
            break
        firing = Firing(seed, images[running], shape.firing)
        state, _ = engine(network.engine)(network.rule, state, firing, look - done, first=done)
        done = look
        answer, _ = network.decide(state)
        now = probabilities(answer)
        stops = torch.full((len(running),), done == shape.steps, device=state.device)
        if before is not None:
            # A NaN is within no tolerance: a spoilt picture runs to the end, as it does without this.
            stops |= (now - before).abs().amax(dim=1) <= settling.tolerance
        logits[running[stops]] = answer[stops].to(logits.dtype)
        features[running[stops]] = network.features(state[stops])
        taken[running[stops]] = done
        running, state, before = running[~stops], state[~stops], now[~stops]
    return logits, features, taken
