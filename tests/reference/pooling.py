"""The kinds of pooling in NumPy, one picture [C, rows, columns] at a time."""

from __future__ import annotations

import numpy as np


def maximum(state: np.ndarray) -> np.ndarray:
    return np.array([channel.max() for channel in state])


def mean(state: np.ndarray) -> np.ndarray:
    return np.array([channel.mean() for channel in state])


def maximum_and_mean(state: np.ndarray) -> np.ndarray:
    return np.concatenate([maximum(state), mean(state)])


def attention(state: np.ndarray, weight: np.ndarray, bias: float, share: float = 0.1) -> np.ndarray:
    """Sigmoid map from ``weight`` [C] and ``bias``; mean of each attended channel's highest ``share``."""
    _, rows, columns = state.shape
    places = [(row, column) for row in range(rows) for column in range(columns)]
    attended = [
        state[:, row, column] / (1 + np.exp(-(weight @ state[:, row, column] + bias)))
        for row, column in places
    ]
    count = max(1, round(share * len(places)))
    return np.array([np.mean(sorted(channel)[-count:]) for channel in np.transpose(attended)])
