"""Relevance back through the steps of the automaton."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from leukonca.explanation.relevance_head import Absorption
from leukonca.explanation.rules import per_picture, relu_slope, scale_of, stabilised
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.engines import eager
from leukonca.nca.firing import Firing

__all__ = ["Legs", "Run"]


def _around(state: Tensor) -> Tensor:
    return F.pad(state, (1, 1, 1, 1), mode="reflect")


def _back_through_around(multiplier: Tensor) -> Tensor:
    """The transposed reflection: what belongs to the border is that of the sites it repeats."""
    rows = multiplier[:, :, 1:-1].clone()
    rows[:, :, 1] += multiplier[:, :, 0]
    rows[:, :, -2] += multiplier[:, :, -1]
    result = rows[:, :, :, 1:-1].clone()
    result[:, :, :, 1] += rows[:, :, :, 0]
    result[:, :, :, -2] += rows[:, :, :, -1]
    return result


class Legs:
    """Pairs of pictures of a run: relevance explains the way from the one to the other.

    Args:
        after: Row numbers int64 [L] of the pictures at which the legs end.
        before: Row numbers int64 [L] of the pictures at which they start; ``None`` for the classical rules,
            whose reference is zero in every layer.
    """

    def __init__(self, after: Tensor, before: Tensor | None) -> None:
        self.after, self.before = after, before

    def ends(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the values [B, …] at the end of each leg [L, …] and, unless that is zero, at its start."""
        return values[self.after], None if self.before is None else values[self.before]

    def difference(self, values: Tensor) -> Tensor:
        """Return what changes on each leg, [L, …]."""
        after, before = self.ends(values)
        return after if before is None else after - before


class Run:
    """A run of the automaton that can be gone through backwards.

    Only every √steps-th state is kept and the others are computed again, so that the paper's 64 steps fit
    into memory.

    Args:
        network: The automaton; its weights decide the precision.
        pictures: [B, 3, S, S], normalised.
        images: int64 [B], their identities.
        seed: Firing seed.
    """

    def __init__(self, network: CellClassifier, pictures: Tensor, images: Tensor, seed: int) -> None:
        self.rule, self.steps = network.rule, network.architecture.steps
        self.firing = Firing(seed, images, network.architecture.firing)
        self.keys = self.firing.keys()
        # Perception and first layer are linear with nothing between them, so they are one layer here.
        self.kernel, self.bias = self.rule.folded()
        self.update = self.rule.visible_update()[:, :, None, None]
        self.stride = max(1, math.isqrt(self.steps))
        kept = frozenset(range(0, self.steps + 1, self.stride))
        start = network.seed_state(pictures)
        # The eager engine, whose states follow from one another to the last digit.
        self.last, self.kept = eager.rollout(self.rule, start, self.firing, self.steps, record=kept)

    def backwards(self) -> Iterator[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
        """Yield for each step, the last first: its number and what happened at it.

        Yields:
            Step t, state before it [B, C, H, W], state after it, hidden layer before the ReLU
            [B, hidden, H, W], and which sites fired, [B, 1, H, W] of 0 and 1.
        """
        for first in reversed(range(0, self.steps, self.stride)):
            state, passed = self.kept[first], []
            for step in range(first, min(first + self.stride, self.steps)):
                fires = self.firing.at(self.keys, step, *state.shape[2:])[:, None].to(state.dtype)
                hidden = F.conv2d(_around(state), self.kernel, self.bias)
                after = state + F.conv2d(hidden.relu(), self.update) * fires
                passed.append((step, state, after, hidden, fires))
                state = after
            yield from reversed(passed)

    def back(
        self, multiplier: Tensor, legs: Legs, epsilon: float = 0.0
    ) -> Iterator[tuple[int, Tensor, Absorption]]:
        """Go back through the steps.

        Args:
            multiplier: Of the last state, [L, C, H, W].
            legs: What is explained.
            epsilon: Of the epsilon rule, relative to the root mean square of what it stabilises; has no
                effect with references.

        Yields:
            For each step t, the last first: t, the relevance of the state before it [L, C, H, W], and what
            step t absorbed.
        """
        classical, fixed = legs.before is None, self.rule.inputs
        for step, state, after, hidden, fires in self.backwards():
            absorbed = Absorption.none(multiplier)
            fired = fires[legs.after]
            if classical and epsilon:
                # The sum of old state and change, where there is one: hidden channels of firing sites.
                size = torch.zeros_like(multiplier)
                size[:, fixed:] = fired * epsilon * scale_of(after[legs.after][:, fixed:])
                multiplier, lost = stabilised(multiplier, after[legs.after], size)
                absorbed.stabiliser += lost
            of_hidden = F.conv_transpose2d(multiplier * fired, self.update)
            value, reference = legs.ends(hidden)
            of_hidden = of_hidden * relu_slope(value, reference)
            if classical:
                of_hidden, lost = stabilised(of_hidden, value, epsilon * scale_of(value))
                absorbed.stabiliser += lost
                absorbed.bias += per_picture(of_hidden * self.bias[:, None, None])
            through = F.conv_transpose2d(of_hidden, self.kernel)
            multiplier = multiplier + _back_through_around(through)
            yield step, multiplier * legs.difference(state), absorbed
