"""Measures of a classification, one cell and one pair at a time."""

from __future__ import annotations

import numpy as np


def auroc(positive, scores, weights):
    """Every positive against every negative."""
    won = total = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive):
            pair = weights[i] * weights[j]
            total += pair
            won += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return won / total if total else float("nan")


def average_precision(positive, scores, weights):
    """The precision at every threshold, weighted by the recall that it adds."""
    whole = weights[positive].sum()
    if not whole:
        return float("nan")
    area = recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        above = scores >= threshold
        hits = weights[above & positive].sum()
        if weights[above].sum():
            area += (hits / whole - recall) * hits / weights[above].sum()
        recall = hits / whole
    return area


def repeated(values, counts):
    """The cells of one bootstrap draw, written out: each as often as it was drawn."""
    return np.repeat(values, np.asarray(counts, dtype=int), axis=0)
