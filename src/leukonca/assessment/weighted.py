"""Measures of a classification under many weightings of the same cells at once.

A bootstrap draw is a weighting (see :mod:`leukonca.assessment.intervals`); scikit-learn takes one at a time
and sorts anew for each. Here scores are sorted once. ``weights`` is always float64 [N, R]: N cells, R
weightings.
With R = 1 each function gives what scikit-learn gives for ``sample_weight``; the tests hold them to it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "BINS",
    "calibration_bin",
    "confusion_matrices",
    "expected_calibration_error",
    "mean_known",
    "ranking",
    "ratio",
]

BINS = 15  # of confidence, as in Guo et al. 2017

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike, otherwise: float = np.nan) -> Floats:
    """Return ``part / whole``, and ``otherwise`` where ``whole`` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result: Floats = np.divide(part, whole, out=np.full(part.shape, otherwise), where=whole != 0)
    return result


def mean_known(values: Floats) -> Floats:
    """Return the mean over the last axis of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def confusion_matrices(truth: Ints, predicted: Ints, classes: int, weights: Floats) -> Floats:
    """Return float64 [R, K, K], the weight of cells of class (row) that were called class (column).

    Args:
        truth: int64 [N], true class, 0 ≤ truth < K.
        predicted: int64 [N], predicted class.
        classes: K.
        weights: float64 [N, R].
    """
    pair = truth * classes + predicted
    order = np.argsort(pair, kind="stable")
    found, starts = np.unique(pair[order], return_index=True)
    matrices = np.zeros((classes * classes, weights.shape[1]))
    matrices[found] = np.add.reduceat(weights[order], starts, axis=0)
    return matrices.T.reshape(-1, classes, classes)


def ranking(positive: Bools, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the area under the ROC curve and the average precision, each float64 [R].

    With w the weights and the sums over cells,

    - AUROC is the chance that a positive outranks a negative, ties counting half;
    - average precision is Σ (recallₙ − recallₙ₋₁) precisionₙ over the distinct scores, not interpolated:
      the mean over positives of the precision among all cells that score at least as high.

    Args:
        positive: bool [N], the cell is of the class.
        scores: float64 [N], the higher the likelier.
        weights: float64 [N, R].

    Returns:
        AUROC, NaN where a weighting has no positive or no negative; average precision, NaN where it has no
        positive.
    """
    order = np.argsort(scores, kind="stable")
    scores, positive, weights = scores[order], positive[order], weights[order]
    own, own_scores = weights[positive], scores[positive]
    # below[i] is the weight of the i lowest cells, so that ties are found by looking up both their ends.
    below, own_below = _running(weights), _running(own)
    left, right = (np.searchsorted(scores, own_scores, side) for side in ("left", "right"))
    own_left, own_right = (np.searchsorted(own_scores, own_scores, side) for side in ("left", "right"))
    total, positives = below[-1], own_below[-1]
    lower, up_to = below[left], below[right]
    own_lower, own_up_to = own_below[own_left], own_below[own_right]
    outranked = 0.5 * (lower - own_lower + up_to - own_up_to)
    auroc = ratio((own * outranked).sum(axis=0), positives * (total - positives))
    precision = ratio(positives - own_lower, total - lower, otherwise=0.0)
    return auroc, ratio((own * precision).sum(axis=0), positives)


def _running(weights: Floats) -> Floats:
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def calibration_bin(confidence: Floats, bins: int = BINS) -> Ints:
    """Return int64 [N], the number of the bin (a/bins, (a+1)/bins] that each confidence in 0–1 falls into."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def expected_calibration_error(
    confidence: Floats, correct: Bools, weights: Floats, bins: int = BINS
) -> Floats:
    """Return float64 [R], the mean distance between confidence and accuracy over equal-width bins.

    Σ over bins of |Σ w (correct − confidence)| / Σ w, with the confidence of the winning class (Guo et al.,
    *On Calibration of Modern Neural Networks*, ICML 2017, equation 5).
    """
    gap = np.zeros((len(confidence), bins))
    gap[np.arange(len(confidence)), calibration_bin(confidence, bins)] = correct - confidence
    return ratio(np.abs(weights.T @ gap).sum(axis=1), weights.sum(axis=0))
