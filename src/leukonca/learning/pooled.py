"""Mean and spread of the pooled features, and how far those of new cells are to be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from leukonca.errors import ModelError

__all__ = ["PooledStatistics", "shrunk"]

Floats = npt.NDArray[np.float64]

# A feature that hardly varies in a few cells must not be blown up: nothing is stretched more than fivefold.
_SMALLEST_RATIO: Final = 0.2
_SMALLEST_SPREAD: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class PooledStatistics:
    """Mean and standard deviation of each pooled feature over the cells of one laboratory.

    Attributes:
        mean: float64 [P].
        spread: float64 [P], at least 1e-6 (smaller ones are raised).

    Raises:
        ModelError: Lengths disagree or a value is not finite.
    """

    mean: Floats
    spread: Floats

    def __post_init__(self) -> None:
        for name in ("mean", "spread"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.mean.ndim != 1 or self.mean.shape != self.spread.shape:
            raise ModelError(
                f"pooled statistics of shapes {list(self.mean.shape)} and {list(self.spread.shape)} do not "
                "fit together"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.spread).all()):
            raise ModelError("pooled statistics have values that are not finite")
        object.__setattr__(self, "spread", np.maximum(self.spread, _SMALLEST_SPREAD))

    @classmethod
    def of(cls, features: Floats) -> PooledStatistics:
        """Return those of features, float64 [..., P], over all but the last axis."""
        flat = features.reshape(-1, features.shape[-1])
        return cls(flat.mean(axis=0), flat.std(axis=0))

    def standardised(self, features: Floats) -> Floats:
        """Return ``(features - mean) / spread``, float64 [..., P]."""
        return (features - self.mean) / self.spread


def shrunk(source: PooledStatistics, target: PooledStatistics, cells: int) -> PooledStatistics:
    """Return the statistics of a new laboratory as far as so many of its cells can tell them.

    The distance from source to target is kept in the share in which it exceeds what chance alone would bring
    (the positive part of James and Stein's estimator; W. James, C. Stein, 4th Berkeley Symposium, 1961): for
    means in units of the source's spread, for spreads as logarithms, each over all features together. A few
    cells of the source's own laboratory change little; those of one whose features lie several spreads away
    count nearly in full.

    Args:
        source: Of the training cells.
        target: Of the new cells, as measured.
        cells: How many these are.
    """
    # One cell has a place but no spread.
    measured = target.spread if cells > 1 else source.spread
    spread = np.maximum(measured, _SMALLEST_RATIO * source.spread)
    ratio = spread / source.spread
    moved, stretched = (target.mean - source.mean) / source.spread, np.log(ratio)
    believed = _beyond_chance(moved, float(np.square(ratio).mean()) / cells)
    # The logarithm of a standard deviation of n Gaussian numbers has the variance 1 / (2 (n - 1)).
    believed_spread = _beyond_chance(stretched, 0.5 / max(cells - 1, 1))
    return PooledStatistics(
        source.mean + believed * moved * source.spread, source.spread * np.exp(believed_spread * stretched)
    )


def _beyond_chance(distances: Floats, chance: float) -> float:
    found = float(np.square(distances).mean())
    return max(0.0, 1.0 - chance / found) if found else 0.0
