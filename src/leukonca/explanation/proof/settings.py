"""What the measurements share: how large they are, what they work on, and how they tell how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from leukonca.assessment.intervals import Estimate
from leukonca.explanation.comparison import require_at_least_one
from leukonca.explanation.faithfulness import mean_areas
from leukonca.explanation.proof.keeping import Kept
from leukonca.explanation.relevance import SEEDS
from leukonca.learning.trained import TrainedModel

__all__ = ["Bench", "Sizes", "Step", "mean_of"]

Step = Callable[[int], Any]
"""Told how many units of work are done."""

_OTHER_SEEDS: Final = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        cells: Cells of each image set.
        sanity_cells: Of these, cells that are explained again with shuffled weights and with other seeds.
        seeds: Firing seeds that relevance averages.
        other_seeds: Firing seeds that the other methods average.
        points: Of a flipping curve; of fewer where there are few patches.
        patches: Sides in px of the patches that are flipped.
        resamples: Bootstrap draws for the intervals.

    Raises:
        SettingError: A number is below 1.
    """

    cells: int = 200
    sanity_cells: int = 48
    seeds: int = SEEDS
    other_seeds: int = _OTHER_SEEDS
    points: int = 32
    patches: tuple[int, ...] = (4, 8)
    resamples: int = 1000

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in self.__slots__ if name != "patches"}
        require_at_least_one(**numbers, patches=min(self.patches))


@dataclass(frozen=True, eq=False)
class Bench:
    """What a part of the measurement is given.

    Attributes:
        model: The model, ready to be run.
        kept: Where pieces are kept.
        sizes: How much is measured.
        step: Told how many units of the part are done.
    """

    model: TrainedModel
    kept: Kept
    sizes: Sizes
    step: Step


def mean_of(
    values: npt.NDArray[Any], groups: Sequence[str] | None, resamples: int
) -> dict[str, float | int | None]:
    """Return the mean of what is known of cells, with its interval and how many cells it is known of."""
    good = ~np.isnan(values)
    if not good.any():
        return {**Estimate(float("nan")).to_dict(), "cells": 0}
    known = None if groups is None else [group for group, one in zip(groups, good, strict=True) if one]
    found = mean_areas({"": values[good].astype(np.float64)}, groups=known, resamples=resamples)[""]
    return {**found.to_dict(), "cells": int(good.sum())}
