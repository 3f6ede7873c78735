"""The published automata (Deutges et al., MICCAI 2024), slowly, in float64 NumPy, one picture at a time.

The state is [rows, columns, channels], as in the released layout. The released convolutions see the grid
with rows and columns swapped; so do these. Weights come under the names of the released state dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]
FiresAt = Callable[[int], np.ndarray]


def reflected(index: int, length: int) -> int:
    """The index that a place beside the grid stands for: -1 → 1, length → length - 2."""
    if index < 0:
        return -index
    if index >= length:
        return 2 * (length - 1) - index
    return index


def depthwise(grid: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Cross-correlate each channel of grid [n, m, C] with its own weight [C, 1, 3, 3], reflecting borders."""
    n, m, _ = grid.shape
    result = np.zeros_like(grid) + bias
    for i in range(3):
        for j in range(3):
            first = [reflected(place + i - 1, n) for place in range(n)]
            second = [reflected(place + j - 1, m) for place in range(m)]
            result += grid[first][:, second] * weight[:, 0, i, j]
    return result


def perception(state: np.ndarray, weights: Weights) -> np.ndarray:
    """[rows, columns, 3·C]: own state, convolution p0, convolution p1."""
    swapped = state.swapaxes(0, 1)
    a = depthwise(swapped, weights["p0.weight"], weights["p0.bias"])
    b = depthwise(swapped, weights["p1.weight"], weights["p1.bias"])
    return np.concatenate([swapped, a, b], axis=2).swapaxes(0, 1)


def step(state: np.ndarray, fires: np.ndarray, weights: Weights) -> np.ndarray:
    hidden = perception(state, weights) @ weights["fc0.weight"].T + weights["fc0.bias"]
    hidden = np.maximum(hidden, 0)
    change = hidden @ weights["fc1.weight"].T
    after = state + change * fires[:, :, np.newaxis]
    after[:, :, :3] = state[:, :, :3]
    return after


def run(picture: np.ndarray, weights: Weights, steps: int, fires_at: FiresAt | None = None) -> np.ndarray:
    """The last state; ``picture`` is [rows, columns, 3] and ``fires_at`` gives the mask of a step (all)."""
    rows, columns, _ = picture.shape
    state = np.zeros((rows, columns, len(weights["p0.bias"])))
    state[:, :, :3] = picture
    for number in range(steps):
        fires = np.ones((rows, columns)) if fires_at is None else fires_at(number)
        state = step(state, fires, weights)
    return state


def linear(vector: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return weights[f"{name}.weight"] @ vector + weights[f"{name}.bias"]


def max_head(state: np.ndarray, weights: Weights) -> np.ndarray:
    """MaxNCA."""
    pooled = state.max(axis=(0, 1))
    return linear(np.maximum(linear(pooled, weights, "fc2"), 0), weights, "fc3")


def simple_head(state: np.ndarray, weights: Weights) -> np.ndarray:
    """SimpleNCA: no weights of its own."""
    return state.mean(axis=(0, 1))[3:16]


def halved(grid: np.ndarray) -> np.ndarray:
    """Maximum of each 2×2 square of [C, rows, columns]."""
    return np.max([grid[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)


def convolved(grid: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Cross-correlate [C, rows, columns] with [D, C, 3, 3] beside a border of zeros, then ReLU."""
    _, rows, columns = grid.shape
    around = np.pad(grid, ((0, 0), (1, 1), (1, 1)))
    result = np.zeros((len(weight), rows, columns)) + bias[:, np.newaxis, np.newaxis]
    for i in range(3):
        for j in range(3):
            window = around[:, i : i + rows, j : j + columns]
            result += np.tensordot(weight[:, :, i, j], window, axes=1)
    return np.maximum(result, 0)


def conv_head(state: np.ndarray, weights: Weights) -> np.ndarray:
    """ConvNCA; its head sees rows and columns as they are."""
    grid = halved(state.transpose(2, 0, 1))
    for name in ("conv1", "conv2", "conv3"):
        grid = halved(convolved(grid, weights[f"{name}.weight"], weights[f"{name}.bias"]))
    return linear(np.maximum(linear(grid.flatten(), weights, "fc2"), 0), weights, "fc3")
