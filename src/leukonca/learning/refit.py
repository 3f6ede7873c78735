"""A head learnt anew from a few labelled cells, held to the one that it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from leukonca.learning.losses import LossName, probabilities

__all__ = ["PENALTIES", "Fitted", "Weights", "choose_penalty", "fold_in", "refit", "weights_of"]

PENALTIES: Final = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Strengths among which cross-validation chooses, the strongest first."""

Floats = npt.NDArray[np.float64]
Weights = list[Tensor]
"""Weight and bias of the first, weight and bias of the second layer of a head, float64."""

_ITERATIONS: Final = 60
_SMALLEST: Final = 1e-30  # a probability, below which its logarithm is no longer followed


def weights_of(head: nn.Sequential, mean: Floats, spread: Floats) -> Weights:
    """Return the weights of an ``mlp`` head for features that were standardised by mean and spread."""
    first, bias, second, last = (parameter.detach().double().clone() for parameter in head.parameters())
    return [first * torch.from_numpy(spread), bias + first @ torch.from_numpy(mean), second, last]


def fold_in(head: nn.Sequential, weights: Weights, mean: Floats, spread: Floats) -> None:
    """Write weights for standardised features into a head that takes the features as they are."""
    first = weights[0] / torch.from_numpy(spread)
    values = (first, weights[1] - first @ torch.from_numpy(mean), *weights[2:])
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), values, strict=True):
            parameter.copy_(value)


def _logits(weights: Weights, features: Tensor) -> Tensor:
    first, bias, second, last = weights
    return torch.relu(features @ first.T + bias) @ second.T + last


def refit(
    start: Weights, features: Floats, allowed: npt.NDArray[np.bool_], penalty: float, loss: LossName
) -> Weights:
    """Return the weights that are likeliest after some labelled cells, starting from what they were.

    Minimised is the mean over classes of the mean negative log-probability of their cells, plus ``penalty``
    times the squared distance from ``start``: a Gaussian prior about the old head. All views of all cells are
    taken together (L-BFGS), so nothing is drawn at random.

    Args:
        start: The old weights, for standardised features.
        features: Standardised, float64 [V, n, P], of V views of n cells.
        allowed: bool [n, K], classes that a cell may be called: several, where its label is coarser than the
            classes. Their probabilities are added.
        penalty: Above 0.
        loss: The loss of the model, which decides how logits become probabilities.
    """
    seen = torch.from_numpy(features)
    right, share = torch.from_numpy(allowed), torch.from_numpy(_equal_shares(allowed))
    weights = [tensor.clone().requires_grad_() for tensor in start]
    optimizer = torch.optim.LBFGS(weights, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        cost = (_costs(probabilities(_logits(weights, seen), loss), right) * share).sum(-1).mean()
        for tensor, old in zip(weights, start, strict=True):
            cost = cost + penalty * (tensor - old).square().sum()
        cost.backward()  # type: ignore[no-untyped-call]
        return cost

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return [tensor.detach() for tensor in weights]


def _costs(stated: Tensor, right: Tensor) -> Tensor:
    return -(stated * right).sum(-1).clamp(min=_SMALLEST).log()


def _equal_shares(allowed: npt.NDArray[np.bool_]) -> Floats:
    """The weight of each cell where every label weighs alike, float64 [n]."""
    _, label, counts = np.unique(allowed, axis=0, return_inverse=True, return_counts=True)
    shares: Floats = 1.0 / (len(counts) * counts[label.reshape(-1)])
    return shares


@dataclass(frozen=True, slots=True)
class Fitted:
    """What cross-validation found.

    Attributes:
        penalty: The best strength; ``None`` where the old head was better than every new one.
        costs: Mean negative log-probability of held-out cells, classes weighing alike, by strength; that of
            the old head under ``None``.
    """

    penalty: float | None
    costs: dict[float | None, float]


def choose_penalty(
    start: Weights,
    features: Floats,
    allowed: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64],
    loss: LossName,
    penalties: Sequence[float] = PENALTIES,
) -> Fitted:
    """Choose how strongly to hold to the old head, by cross-validation within the given cells.

    Args:
        start: See :func:`refit`.
        features: See :func:`refit`.
        allowed: See :func:`refit`.
        folds: int64 [n], the fold of each cell.
        loss: See :func:`refit`.
        penalties: Strengths to try.
    """
    right, share = torch.from_numpy(allowed), torch.from_numpy(_equal_shares(allowed))
    costs: dict[float | None, float] = {}
    for penalty in (None, *penalties):
        stated = torch.empty(allowed.shape, dtype=torch.float64)
        for fold in np.unique(folds):
            inside, outside = folds == fold, folds != fold
            weights = start
            if penalty is not None:
                weights = refit(start, features[:, outside], allowed[outside], penalty, loss)
            # As in use, the probabilities of the views are averaged.
            shown = _logits(weights, torch.from_numpy(features[:, inside]))
            stated[torch.from_numpy(inside)] = probabilities(shown, loss).mean(dim=0)
        costs[penalty] = float((_costs(stated, right) * share).sum())
    # Of equals the first: the old head, then the strongest hold.
    return Fitted(min(costs, key=lambda penalty: costs[penalty]), costs)
