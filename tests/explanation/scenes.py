"""Made-up smears whose cells are known to the pixel, and automata that were never trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from leukonca.cells.framing import Framing
from leukonca.learning.trained import TrainedModel
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier

CLASSES = ("eosinophil", "lymphocyte", "monocyte")
FIELD, RED, PLASMA, NUCLEUS = (244, 238, 232), (226, 176, 168), (182, 172, 214), (96, 64, 150)


def disc(shape: tuple[int, int], row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.hypot(rows - row, columns - column) < radius


def smear(
    side: int = 96,
    *,
    cell: tuple[float, float, float] = (48, 48, 22),
    nucleus: float = 0.7,
    red: tuple[tuple[float, float, float], ...] = ((18, 20, 16), (20, 74, 17), (76, 16, 16), (78, 78, 17)),
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a picture, uint8 [side, side, 3], the mask of its white cell and that of the nucleus.

    A cell is (row, column, radius); ``nucleus`` is the share of the white cell's radius.
    """
    shape = (side, side)
    picture = np.empty((side, side, 3))
    picture[:] = FIELD
    for place in red:
        picture[disc(shape, *place)] = RED
    mask, inner = disc(shape, *cell), disc(shape, cell[0], cell[1], cell[2] * nucleus)
    picture[mask], picture[inner] = PLASMA, NUCLEUS
    noisy = picture + np.random.default_rng(seed).normal(0, 4, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8), mask, inner


def model(framing: Framing | None = None, *, seed: int = 3, **shape: Any) -> TrainedModel:
    """Return a small automaton that does something: with start weights it would leave its state alone."""
    framing = framing or Framing(32)
    values = {"patch": 2, "channels": 16, "hidden": 12, "steps": 4, "head_hidden": 8, "pooling": "max_mean"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CellClassifier(Architecture(**{**values, "size": framing.size, **shape}), len(CLASSES))
        torch.nn.init.normal_(network.rule.update_weight, std=0.2)
    return TrainedModel(network.eval(), CLASSES, framing, "picture", None, "cross_entropy")


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))
