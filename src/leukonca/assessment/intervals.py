"""Bootstrap confidence intervals: a number, and how far chance could have moved it.

Cells are drawn with replacement as often as there are cells, the statistic is computed anew, and the
2.5th and 97.5th percentile over many draws bound the interval (Efron and Tibshirani, *An Introduction to
the Bootstrap*, 1993, chapter 13). A draw is held as *how often each cell was drawn*, its weight, so that
every statistic is computed for many draws at once and nothing is copied.

Cells of one patient or slide resemble each other. Where groups are known whole groups are drawn instead
(the cluster bootstrap; Field and Welsh, J. R. Stat. Soc. B 69 (2007) 369): drawing single cells would
make the intervals too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LEVEL", "Estimate", "cluster_index", "draws", "percentile_interval"]

LEVEL = 0.95
_CHUNK = 1 << 20  # weights held at once: 8 MB, so that memory does not grow with the number of draws


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number with its 95 % interval; NaN stands for what cannot be told.

    Attributes:
        value: The number measured on all cells.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    def to_dict(self) -> dict[str, float | None]:
        """Return ``{"value", "low", "high"}``, NaN as ``None``."""
        return {name: _null(getattr(self, name)) for name in ("value", "low", "high")}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Estimate:
        """Return what :meth:`to_dict` was made of.

        Raises:
            KeyError, TypeError, ValueError: ``entry`` is no such dictionary.
        """
        return cls(
            *(math.nan if entry[name] is None else float(entry[name]) for name in ("value", "low", "high"))
        )


def _null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def cluster_index(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return int64 [N], the number of the cluster of each cell: its group, or itself where that is ``""``."""
    numbers: dict[tuple[str, int], int] = {}
    keys = [(group, -1) if group else ("", row) for row, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def draws(
    clusters: npt.NDArray[np.int64], resamples: int, generator: np.random.Generator
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the weights of bootstrap draws, some at a time.

    Args:
        clusters: int64 [N], the cluster of each cell, numbered from 0 without gaps; ``arange(N)`` to draw
            single cells.
        resamples: Number of draws R in all.
        generator: Where randomness comes from.

    Yields:
        float64 [N, r], how often each cell was drawn in each of the next r draws; the r sum to R. The
        draws do not depend on how they are divided.
    """
    count = int(clusters.max()) + 1
    at_once = max(1, _CHUNK // len(clusters))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield np.ascontiguousarray(weights.T, dtype=np.float64)[clusters]


def percentile_interval(
    values: npt.NDArray[np.float64], level: float = LEVEL
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the bounds that hold the middle ``level`` of the draws.

    Args:
        values: float64 [R, ...], the statistic in each draw; NaN where a draw could not tell.
        level: Share of the draws between the bounds, 0–1.

    Returns:
        Two float64 [...]: lower and upper bound over the draws that could tell, NaN where none could.
    """
    flat = values.reshape(len(values), -1)
    low, high = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        known = flat[~np.isnan(flat[:, column]), column]
        if len(known):
            low[column], high[column] = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])
