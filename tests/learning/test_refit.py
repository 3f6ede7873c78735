from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from leukonca.learning.losses import LossName, probabilities
from leukonca.learning.refit import Weights, choose_penalty, fold_in, refit, weights_of

CELLS, FEATURES, HIDDEN, CLASSES = 12, 3, 4, 3


def head(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


def cells(views: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features of two views, and which class each cell may be called."""
    chance = np.random.default_rng(seed)
    truth = np.arange(CELLS) % CLASSES
    features = chance.normal(size=(views, CELLS, FEATURES)) * 0.5 + 2 * np.eye(CLASSES)[truth]
    return features, np.eye(CLASSES, dtype=bool)[truth]


def start() -> Weights:
    return weights_of(head(), np.zeros(FEATURES), np.ones(FEATURES))


def cost(
    flat: np.ndarray, old: np.ndarray, features: np.ndarray, allowed: np.ndarray, penalty: float
) -> float:
    """The cost written out cell by cell, for cross-entropy models."""
    ends = np.cumsum([HIDDEN * FEATURES, HIDDEN, CLASSES * HIDDEN, CLASSES])
    w1, b1, w2, b2 = np.split(flat, ends[:-1])
    labels = {tuple(row) for row in allowed}
    total = 0.0
    for label in labels:
        own = [cell for cell in range(len(allowed)) if tuple(allowed[cell]) == label]
        for view in features:
            for cell in own:
                hidden = np.maximum(w1.reshape(HIDDEN, FEATURES) @ view[cell] + b1, 0)
                scores = np.exp(w2.reshape(CLASSES, HIDDEN) @ hidden + b2)
                right = scores[list(label)].sum() / scores.sum()
                total -= np.log(right) / (len(own) * len(labels) * len(features))
    return total + penalty * ((flat - old) ** 2).sum()


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([tensor.numpy().ravel() for tensor in weights])


def test_the_new_head_is_the_likeliest_near_the_old_one() -> None:
    features, allowed = cells()
    allowed = allowed.copy()
    allowed[1] = allowed[4] = [False, True, True]  # a label that is coarser than the classes
    old = flat(start())
    found = flat(refit(start(), features, allowed, 0.05, "cross_entropy"))
    reached = cost(found, old, features, allowed, 0.05)
    assert reached < cost(old, old, features, allowed, 0.05) - 0.1
    # Another descent, by differences, finds nothing better from there.
    further = minimize(
        cost, found, args=(old, features, allowed, 0.05), method="L-BFGS-B", options={"maxiter": 4}
    )
    assert further.fun == pytest.approx(reached, rel=1e-3)


def test_the_stronger_the_penalty_the_nearer_to_the_old_head() -> None:
    features, allowed = cells()
    moves = [
        np.abs(flat(refit(start(), features, allowed, penalty, "cross_entropy")) - flat(start())).sum()
        for penalty in (1e4, 1.0, 0.01)
    ]
    assert moves[0] < 1e-3
    assert moves[0] < moves[1] < moves[2]


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "bce"])
def test_folded_in_a_head_says_of_features_what_it_said_of_standardised_ones(loss: LossName) -> None:
    features, allowed = cells()
    mean, spread = np.array([3.0, -1.0, 0.5]), np.array([0.1, 2.0, 7.0])
    old = weights_of(head(), mean, spread)
    raw = torch.from_numpy(features * spread + mean).float()
    expected = head()(raw)
    network = head(seed=5)
    fold_in(network, old, mean, spread)
    np.testing.assert_allclose(network(raw).detach(), expected.detach(), atol=1e-5)
    new = refit(old, features, allowed, 0.01, loss)
    fold_in(network, new, mean, spread)
    named = probabilities(network(raw), loss).mean(0).argmax(1)
    assert (allowed[np.arange(CELLS), named]).mean() > 0.9


def test_every_label_weighs_alike() -> None:
    """Nine cells of one label against one of another: the one counts as much as the nine."""
    features = np.zeros((1, 10, FEATURES))
    allowed = np.eye(CLASSES, dtype=bool)[[0] * 9 + [1]]
    weights = refit(start(), features, allowed, 1e-6, "cross_entropy")
    logits = torch.relu(weights[1]) @ weights[2].T + weights[3]
    assert probabilities(logits, "cross_entropy").tolist() == pytest.approx([0.5, 0.5, 0], abs=0.01)


def test_cross_validation_finds_the_strength_that_held_out_cells_bear_best() -> None:
    features, allowed = cells()
    folds = np.arange(CELLS) // 3 % 2
    found = choose_penalty(start(), features, allowed, folds, "cross_entropy", (10.0, 0.1))
    assert set(found.costs) == {None, 10.0, 0.1}
    assert found.penalty == 0.1
    expected = 0.0
    for fold in (0, 1):
        weights = refit(start(), features[:, folds != fold], allowed[folds != fold], 0.1, "cross_entropy")
        shown = torch.relu(torch.from_numpy(features) @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
        stated = shown.softmax(-1).mean(0).numpy()
        expected -= sum(np.log(stated[cell][allowed[cell]]).sum() for cell in np.flatnonzero(folds == fold))
    assert found.costs[0.1] == pytest.approx(expected / CELLS)


def test_the_old_head_stays_where_no_new_one_is_better() -> None:
    """What is learnt from the cells of one fold is wrong for those of the other."""
    folds = np.arange(8) % 2
    allowed = np.eye(CLASSES, dtype=bool)[folds]
    undecided = [*start()[:2], start()[2] * 0, start()[3] * 0]
    features = np.ones((1, 8, FEATURES))
    found = choose_penalty(undecided, features, allowed, folds, "cross_entropy", (0.1, 0.001))
    assert found.penalty is None
    assert found.costs[None] == pytest.approx(np.log(CLASSES))
