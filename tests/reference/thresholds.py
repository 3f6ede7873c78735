"""Otsu's threshold by its definition: every cut is tried."""

from __future__ import annotations

import numpy as np


def variance_between(values: np.ndarray, threshold: float) -> float:
    """Variance of the values if each were replaced by the mean of its part."""
    above = values >= threshold
    if above.all() or not above.any():
        return 0.0
    means = np.where(above, values[above].mean(), values[~above].mean())
    return float(means.var())


def best_cut(values: np.ndarray) -> float:
    """The greatest variance between parts that any cut gives."""
    return max(variance_between(values, value) for value in values)
