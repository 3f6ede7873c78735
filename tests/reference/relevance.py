"""Relevance through an automaton, slowly: one picture, one site and one value at a time, in float64.

Written as LRP is defined: the relevance of a value is divided among what it was summed from, in proportion to
each summand. With a reference the summands are differences from it; without one they are the values
themselves, biases are summands too, and epsilon is added to each sum.

The state is [rows, columns, channels].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

import numpy as np

Weights = Mapping[str, np.ndarray]
Place = tuple[int, int]


def reflected(index: int, length: int) -> int:
    """-1 → 1, length → length - 2."""
    return -index if index < 0 else 2 * (length - 1) - index if index >= length else index


def around(row: int, column: int, shape: tuple[int, ...]) -> list[tuple[int, int, Place]]:
    """Kernel row, kernel column, and the site that lies there."""
    return [
        (i, j, (reflected(row + i - 1, shape[0]), reflected(column + j - 1, shape[1])))
        for i in range(3)
        for j in range(3)
    ]


def sites(state: np.ndarray) -> list[Place]:
    return [(row, column) for row in range(state.shape[0]) for column in range(state.shape[1])]


def seed_state(picture: np.ndarray, patch: int, channels: int) -> np.ndarray:
    """Colour by colour, the pixels of a patch row by row; ``picture`` is [3, H, W]."""
    _, height, width = picture.shape
    state = np.zeros((height // patch, width // patch, channels))
    for row, column in sites(state):
        square = picture[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        state[row, column, : square.size] = square.flatten()
    return state


def convolved(state: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    result = np.zeros_like(state) + bias
    for row, column in sites(state):
        for i, j, place in around(row, column, state.shape):
            result[row, column] += kernel[:, 0, i, j] * state[place]
    return result


@dataclass
class Step:
    """All that is computed at one step."""

    before: np.ndarray
    a: np.ndarray
    b: np.ndarray
    summed: np.ndarray
    hidden: np.ndarray
    after: np.ndarray


def step(state: np.ndarray, fires: np.ndarray, w: Weights, fixed: int) -> Step:
    a = convolved(state, w["rule.kernel_a"], w["rule.bias_a"])
    b = convolved(state, w["rule.kernel_b"], w["rule.bias_b"])
    perception = np.concatenate([state, a, b], axis=2)
    summed = perception @ w["rule.hidden_weight"].T + w["rule.hidden_bias"]
    hidden = np.maximum(summed, 0)
    change = hidden @ w["rule.update_weight"].T * fires[:, :, None]
    change[:, :, :fixed] = 0
    return Step(state, a, b, summed, hidden, state + change)


@dataclass
class Lost:
    """What biases and stabilisers took, by the number of the step; -1 is pooling and head."""

    bias: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    stabiliser: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    remainder: float = 0.0


class Shares:
    """Divides the relevance of a sum among its summands."""

    def __init__(self, lost: Lost, where: int) -> None:
        self.lost, self.where = lost, where

    def __call__(
        self, relevance: float, summands: Sequence[float], bias: float = 0.0, epsilon: float = 0.0
    ) -> list[float]:
        total = sum(summands) + bias
        denominator = total + (epsilon if total >= 0 else -epsilon)
        if denominator == 0:
            return [0.0] * len(summands)
        self.lost.bias[self.where] += relevance * bias / denominator
        self.lost.stabiliser[self.where] += relevance * (denominator - total) / denominator
        return [relevance * summand / denominator for summand in summands]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def maximum_shares(value: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """For how much of the straight way from reference to value [N] each place holds the maximum."""
    meetings = {0.0, 1.0}
    for one, other in combinations(range(len(value)), 2):
        rise = (value - reference)[one] - (value - reference)[other]
        if rise:
            meetings.add(min(1.0, max(0.0, (reference[other] - reference[one]) / rise)))
    shares = np.zeros_like(value)
    for start, end in pairwise(sorted(meetings)):
        middle = (start + end) / 2
        shares[np.argmax(reference + (value - reference) * middle)] += end - start
    return shares


def target_weights(
    kind: str, own: int, other: int, logits: np.ndarray, reference: np.ndarray | None
) -> np.ndarray:
    weights = np.zeros_like(logits)
    weights[own] = 1
    if kind == "class":
        weights[other] = -1
    if kind == "rest":
        points = (np.arange(20_000) + 0.5) / 20_000 if reference is not None else np.ones(1)
        start = np.zeros_like(logits) if reference is None else reference
        others = np.delete(np.arange(len(logits)), own)
        line = start[others] + np.outer(points, logits[others] - start[others])
        line = np.exp(line - line.max(1, keepdims=True))
        weights[others] = -(line / line.sum(1, keepdims=True)).mean(0)
    return weights


def target_value(kind: str, own: int, other: int, logits: np.ndarray) -> float:
    if kind == "logit":
        return float(logits[own])
    if kind == "class":
        return float(logits[own] - logits[other])
    return float(logits[own] - np.log(np.exp(np.delete(logits, own)).sum()))


@dataclass
class Trace:
    """A run of the automaton with all that was computed."""

    steps: list[Step]
    last: np.ndarray
    pooled: np.ndarray
    summed: np.ndarray
    logits: np.ndarray


def trace(
    picture: np.ndarray,
    w: Weights,
    fires: Sequence[np.ndarray],
    patch: int,
    pool: Callable[[np.ndarray], np.ndarray],
) -> Trace:
    state = seed_state(picture, patch, len(w["rule.bias_a"]))
    steps = []
    for mask in fires:
        steps.append(step(state, mask, w, 3 * patch**2))
        state = steps[-1].after
    pooled = pool(state)
    summed = w["head.0.weight"] @ pooled + w["head.0.bias"]
    return Trace(steps, state, pooled, summed, w["head.2.weight"] @ np.maximum(summed, 0) + w["head.2.bias"])


def max_mean(state: np.ndarray) -> np.ndarray:
    return np.concatenate([state.max(axis=(0, 1)), state.mean(axis=(0, 1))])


@dataclass
class Explained:
    """Relevance of the states (first to last) and of the pooled values, and what was lost."""

    states: list[np.ndarray]
    pooled: np.ndarray
    lost: Lost


def explain(
    end: Trace,
    start: Trace | None,
    w: Weights,
    fires: Sequence[np.ndarray],
    kind: str,
    own: int,
    other: int,
    fixed: int,
    epsilon: float = 0.0,
) -> Explained:
    """Propagate relevance from the target to all states; pooling is maximum and mean side by side.

    ``fixed`` is the number of channels of the picture.
    """
    lost = Lost()
    classical = start is None
    biased = 1.0 if classical else 0.0

    def difference(get: Callable[[Trace], np.ndarray]) -> np.ndarray:
        return get(end) if start is None else get(end) - get(start)

    shares = Shares(lost, -1)
    weights = target_weights(kind, own, other, end.logits, None if start is None else start.logits)
    of_logits = weights * difference(lambda run: run.logits)
    lost.remainder = target_value(kind, own, other, end.logits) - of_logits.sum()
    if start is not None:
        lost.remainder -= target_value(kind, own, other, start.logits)
    # Head: two layers.
    hidden = difference(lambda run: np.maximum(run.summed, 0))
    of_hidden = np.zeros_like(hidden)
    for unit, relevance in enumerate(of_logits):
        summands = w["head.2.weight"][unit] * hidden
        of_hidden += shares(
            relevance, summands, w["head.2.bias"][unit] * biased, epsilon * rms(end.logits) * biased
        )
    pooled = difference(lambda run: run.pooled)
    of_pooled = np.zeros_like(pooled)
    for unit, relevance in enumerate(of_hidden):
        summands = w["head.0.weight"][unit] * pooled
        of_pooled += shares(
            relevance, summands, w["head.0.bias"][unit] * biased, epsilon * rms(end.summed) * biased
        )
    # Pooling.
    channels = end.last.shape[2]
    change = difference(lambda run: run.last)
    of_state = np.zeros_like(change)
    mean_size = epsilon * rms(end.pooled[channels:]) * biased
    for channel in range(channels):
        values = end.last[:, :, channel].flatten()
        if start is None:
            held = np.zeros_like(values)
            held[np.argmax(values)] = 1
        else:
            held = maximum_shares(values, start.last[:, :, channel].flatten())
        changes = change[:, :, channel].flatten()
        parts = np.array(shares(of_pooled[channel], held * changes))
        parts += shares(of_pooled[channels + channel], changes / len(changes), 0.0, mean_size)
        of_state[:, :, channel] += parts.reshape(change.shape[:2])
    # Steps.
    states = [of_state]
    for number in reversed(range(len(fires))):
        one = end.steps[number]
        zero = None if start is None else start.steps[number]
        of_state = back(one, zero, fires[number], of_state, w, epsilon, fixed, Shares(lost, number))
        states.insert(0, of_state)
    return Explained(states, of_pooled, lost)


def back(
    one: Step,
    zero: Step | None,
    fires: np.ndarray,
    of_after: np.ndarray,
    w: Weights,
    epsilon: float,
    fixed: int,
    shares: Shares,
) -> np.ndarray:
    def difference(name: str) -> np.ndarray:
        value = getattr(one, name)
        return value if zero is None else value - getattr(zero, name)

    biased = 1.0 if zero is None else 0.0
    before, a, b, hidden = (difference(name) for name in ("before", "a", "b", "hidden"))
    channels = before.shape[2]
    after_size = epsilon * rms(one.after[:, :, fixed:]) * biased
    summed_size = epsilon * rms(one.summed) * biased
    of_before = np.zeros_like(before)
    for row, column in sites(before):
        of_hidden = np.zeros(hidden.shape[2])
        for channel in range(channels):
            relevance = of_after[row, column, channel]
            if channel < fixed or not fires[row, column]:
                of_before[row, column, channel] += relevance
                continue
            summands = [
                before[row, column, channel],
                *(w["rule.update_weight"][channel] * hidden[row, column]),
            ]
            old, *new = shares(relevance, summands, 0.0, after_size)
            of_before[row, column, channel] += old
            of_hidden += new
        for unit, relevance in enumerate(of_hidden):
            if relevance == 0:
                continue
            seen = np.concatenate([before[row, column], a[row, column], b[row, column]])
            own, of_a, of_b = np.split(
                np.array(
                    shares(
                        relevance,
                        w["rule.hidden_weight"][unit] * seen,
                        w["rule.hidden_bias"][unit] * biased,
                        summed_size,
                    )
                ),
                3,
            )
            of_before[row, column] += own
            for name, relevances in (("a", of_a), ("b", of_b)):
                for channel in range(channels):
                    places = around(row, column, before.shape)
                    summands = [
                        w[f"rule.kernel_{name}"][channel, 0, i, j] * before[(*place, channel)]
                        for i, j, place in places
                    ]
                    bias = w[f"rule.bias_{name}"][channel] * biased
                    for (_, _, place), part in zip(
                        places, shares(relevances[channel], summands, bias), strict=True
                    ):
                        of_before[(*place, channel)] += part
    return of_before
