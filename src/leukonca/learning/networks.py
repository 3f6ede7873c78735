"""The networks that are trained, tested and used by the same code."""

from __future__ import annotations

from leukonca.learning.baselines import Baseline, require_monai
from leukonca.learning.shapes import BaselineShape, Shape
from leukonca.nca.classifier import CellClassifier

__all__ = ["Network", "build", "require_buildable"]

Network = CellClassifier | Baseline
"""A classifier: called with pictures, their identities and a seed, it returns logits."""


def build(shape: Shape, classes: int) -> Network:
    """Return a network with start weights from PyTorch's stream.

    Raises:
        SettingError: The shape does not fit the number of classes, or a package for it is missing.
    """
    if isinstance(shape, BaselineShape):
        return Baseline(shape, classes)
    return CellClassifier(shape, classes)


def require_buildable(shape: Shape) -> None:
    """Find out before the work whether a network of this shape can be built here.

    Raises:
        SettingError: A package for it is missing.
    """
    if isinstance(shape, BaselineShape):
        require_monai(shape.kind)
