"""Calibration, prediction sets and distances, written slowly and obviously from their definitions."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["averaged", "mahalanobis", "negative_log_likelihood", "prediction_set"]


def averaged(logits: np.ndarray, temperature: float, loss: str) -> np.ndarray:
    """Mean over seeds of the probabilities of logits [S, N, K], one number at a time."""
    seeds, cells, classes = logits.shape
    mean = np.zeros((cells, classes))
    for seed in range(seeds):
        for cell in range(cells):
            scaled = [value / temperature for value in logits[seed, cell]]
            if loss == "bce":
                scores = [1 / (1 + math.exp(-value)) for value in scaled]
            else:
                scores = [math.exp(value - max(scaled)) for value in scaled]
            mean[cell] += np.array(scores) / sum(scores) / seeds
    return mean


def negative_log_likelihood(logits: np.ndarray, truth: np.ndarray, temperature: float, loss: str) -> float:
    """Summed over the cells."""
    mean = averaged(logits, temperature, loss)
    return -sum(math.log(mean[cell, own]) for cell, own in enumerate(truth))


def prediction_set(held_out: list[float], probabilities: list[float], coverage: float) -> list[int]:
    """The classes whose score 1 - p is not above that of enough held-out cells.

    A class is left out only where at least a share ``coverage`` of the held-out cells and the new one, which
    is counted as the strangest, have a smaller score.
    """
    chosen = []
    for k, p in enumerate(probabilities):
        smaller = sum(1 for score in held_out if score < 1 - p)
        if smaller < coverage * (len(held_out) + 1):
            chosen.append(k)
    return chosen


def mahalanobis(feature: np.ndarray, means: list[np.ndarray], covariance: np.ndarray) -> float:
    """Squared distance to the nearest mean."""
    precision = np.linalg.inv(covariance)
    return min(float((feature - mean) @ precision @ (feature - mean)) for mean in means)
