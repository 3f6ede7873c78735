"""Small automata that do something, as after training, and pictures for them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier

SMALL = Architecture(size=16, channels=12, hidden=10, steps=6, head_hidden=8)
VARIANTS = {
    "max": SMALL,
    "mean": replace(SMALL, pooling="mean"),
    "max_mean": replace(SMALL, pooling="max_mean", steps=7),
    "attention": replace(SMALL, pooling="attention"),
    "channels": replace(SMALL, pooling="mean", head="channels"),
    "patch": replace(SMALL, patch=2, channels=20, pooling="max_mean"),
    "one_step": replace(SMALL, steps=1),
}
CLASSES = 5


def lively(architecture: Architecture) -> CellClassifier:
    draw = torch.Generator().manual_seed(0)
    classifier = CellClassifier(architecture, CLASSES)
    with torch.no_grad():
        for parameter in classifier.parameters():
            bound = max(1, parameter[0].numel()) ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.uniform_(-bound, bound, generator=draw)
        # Stronger than at the start, so that ReLUs switch and maxima move.
        classifier.rule.update_weight *= 2
    return classifier.eval().requires_grad_(False)


def pictures(batch: int, size: int) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def identities(batch: int) -> Tensor:
    return torch.arange(batch) * 7 + 3
