"""Which cells an epoch shows and how much each class counts.

All choices are functions of seeds: they use the raw 64-bit numbers of PCG64, which numpy guarantees never
to change, and so a resumed run meets the cells in the order in which the interrupted one would have.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from leukonca.errors import DataError, SettingError

__all__ = [
    "Balance",
    "WeightScheme",
    "cell_weights",
    "class_weights",
    "epoch_order",
    "limit_per_class",
    "shares_shown",
]

Labels = npt.NDArray[np.integer[Any]]

Balance = Literal["none", "sampling", "sqrt", "weights"]
"""How rare classes are helped: not at all; by showing every class equally often (``sampling``, the paper's);
by showing classes in proportion to the square root of their counts, half-way between the two; or by showing
every cell once and weighting the loss with ``class_weights``."""

WeightScheme = Literal["inverse", "sqrt", "effective"]

_SAMPLING_POWER: Final[dict[Balance, float]] = {"sampling": 1.0, "sqrt": 0.5}

# Keeps the two uses of one seed apart.
_ORDER, _LIMIT = 0, 1


def cell_weights(labels: Labels, *, power: float = 1.0) -> npt.NDArray[np.float64]:
    """Return the chance of every cell in weighted sampling: count of its class to the power of -``power``.

    Args:
        labels: Class numbers ≥ 0, int [N].
        power: 1 makes all classes equally frequent (the paper's inverse frequency), 0.5 takes the square
            root, 0 leaves the classes as they are.

    Returns:
        float64 [N], of sum 1.

    Raises:
        DataError: There are no cells, or a label is negative.
    """
    labels = _checked(labels)
    weights: npt.NDArray[np.float64] = np.bincount(labels)[labels].astype(np.float64) ** -power
    weights /= weights.sum()
    return weights


def class_weights(
    labels: Labels, classes: int, *, scheme: WeightScheme = "inverse", beta: float = 0.999
) -> npt.NDArray[np.float64]:
    """Return the weight of every class in a loss.

    With n the count of a class, the weight is in proportion to

    - ``inverse``: 1 / n,
    - ``sqrt``: 1 / √n,
    - ``effective``: (1 - beta) / (1 - beta^n), the inverse of the effective number of samples
      (Y. Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019).

    Args:
        labels: Class numbers of the training cells, int [N], each below ``classes``.
        classes: K, the number of classes.
        scheme: One of the three.
        beta: For ``effective``, in [0, 1): towards 1 it becomes ``inverse``, at 0 all weights are 1.

    Returns:
        float64 [K], of mean 1. A class without a cell has the neutral weight 1.

    Raises:
        DataError: There are no cells, or a label is outside 0 … K - 1.
        SettingError: The scheme is unknown or ``beta`` outside its range.
    """
    labels = _checked(labels)
    if labels.max() >= classes:
        raise DataError(f"label {labels.max()}: outside the {classes} classes, which count from 0")
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    n = counts[present].astype(np.float64)
    if scheme == "inverse":
        raw = 1 / n
    elif scheme == "sqrt":
        raw = 1 / np.sqrt(n)
    elif scheme == "effective":
        if not 0 <= beta < 1:
            raise SettingError(f"beta = {beta!r}: must be at least 0 and below 1")
        raw = (1 - beta) / (1 - beta**n)
    else:
        raise SettingError(
            f"class weights = {scheme!r}: unknown scheme; known: {', '.join(get_args(WeightScheme))}"
        )
    weights = np.ones(classes)
    weights[present] = raw / raw.mean()
    return weights


def shares_shown(
    counts: npt.NDArray[np.int64], balance: Balance, *, scheme: WeightScheme = "effective"
) -> npt.NDArray[np.float64]:
    """Return how much of what a network learns from is of each class: of the cells shown, or of the loss.

    Args:
        counts: Training cells of each class, int [K], each at least 1.
        balance: How rare classes were helped.
        scheme: With ``weights``: how a class was weighed.

    Returns:
        float64 [K], of sum 1.
    """
    labels = np.repeat(np.arange(len(counts)), counts)
    if balance == "weights":
        weights = class_weights(labels, len(counts), scheme=scheme)[labels]
    else:
        weights = cell_weights(labels, power=_SAMPLING_POWER.get(balance, 0.0))
    shares = np.asarray(np.bincount(labels, weights), dtype=np.float64)
    shares /= shares.sum()
    return shares


def epoch_order(labels: Labels, *, epoch: int, seed: int, balance: Balance = "none") -> npt.NDArray[np.int64]:
    """Return the rows that an epoch shows, in their order; a function of its arguments alone.

    Args:
        labels: Class numbers ≥ 0, int [N].
        epoch: Number of the epoch, from 0.
        seed: Seed of the run, ≥ 0.
        balance: ``sampling`` and ``sqrt`` draw N rows with replacement, so that a row may come
            several times and another not at all. The others give a permutation of all rows.

    Returns:
        int64 [N] of row numbers.

    Raises:
        DataError: There are no cells, or a label is negative.
        SettingError: ``balance`` is unknown, or ``seed`` or ``epoch`` negative.
    """
    labels = _checked(labels)
    if balance not in get_args(Balance):
        raise SettingError(f"balance = {balance!r}: unknown; known: {', '.join(get_args(Balance))}")
    raw = _raw(len(labels), seed, _ORDER, epoch)
    power = _SAMPLING_POWER.get(balance)
    if power is None:
        return np.argsort(raw, kind="stable").astype(np.int64)
    edges = np.cumsum(cell_weights(labels, power=power))
    # The top 53 bits are a uniform number in [0, 1); the last edge is 1 but for rounding.
    share = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    rows: npt.NDArray[np.int64] = np.searchsorted(edges, share * edges[-1], side="right").astype(np.int64)
    return rows.clip(max=len(labels) - 1)


def limit_per_class(labels: Labels, n: int, seed: int) -> npt.NDArray[np.int64]:
    """Return at most ``n`` rows of every class, for experiments with few labels.

    With the same seed a smaller sample is part of a larger one, so that curves over ``n`` are smooth.

    Args:
        labels: Class numbers ≥ 0, int [N].
        n: Greatest number of rows of a class, ≥ 1; a class with fewer gives all it has.
        seed: ≥ 0.

    Returns:
        int64, the chosen rows in increasing order.

    Raises:
        DataError: There are no cells, or a label is negative.
        SettingError: ``n`` is below 1, or ``seed`` negative.
    """
    labels = _checked(labels)
    if n < 1:
        raise SettingError(f"cells per class = {n}: must be at least 1")
    order = np.argsort(_raw(len(labels), seed, _LIMIT), kind="stable")
    chosen = [order[labels[order] == label][:n] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _checked(labels: Labels) -> Labels:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers [N], not {labels.dtype} {list(labels.shape)}")
    if len(labels) == 0:
        raise DataError("there are no cells to choose from; check the data and the split")
    if labels.min() < 0:
        raise DataError(f"label {labels.min()}: classes count from 0; leave unlabelled cells out")
    return labels


def _raw(count: int, seed: int, *purpose: int) -> npt.NDArray[np.uint64]:
    if min(seed, *purpose) < 0:
        raise SettingError(f"seed = {seed}, epoch = {purpose[-1]}: both must be at least 0")
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=purpose)).random_raw(count)
