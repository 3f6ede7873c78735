"""What a model promised of its answers, and what came true: calibration, coverage, and what review buys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from leukonca.assessment.intervals import Estimate, cluster_index, draws, percentile_interval
from leukonca.assessment.measured import MeasuredCells
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.views import align
from leukonca.learning.trust import FOREIGN_SHARE, Trust

__all__ = ["COVERAGES", "REVIEWED", "Promises", "ReviewCurve", "SetFigures"]

COVERAGES: Final = (0.8, 0.9, 0.95, 0.99)
"""What is asked of the prediction sets in a report."""

REVIEWED: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Shares of the cells at which ``metrics.json`` gives the accuracy of the others."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ReviewCurve:
    """Accuracy of the cells left to the model where a person names those of which it is least sure.

    The risk-coverage curve of Y. Geifman and R. El-Yaniv ("Selective classification for deep neural
    networks", NeurIPS 2017), seen from the other side.

    Attributes:
        accuracy: float64 [N]; entry r is the accuracy of the N - r cells left where r were reviewed.
    """

    accuracy: Floats

    @classmethod
    def of(cls, confidence: Floats, correct: Bools) -> ReviewCurve:
        """Draw it from the winning class's probability and whether it was right, each [N], N at least 1."""
        surest_first = np.argsort(-confidence, kind="stable")
        kept = np.arange(1, len(correct) + 1)
        return cls((np.cumsum(correct[surest_first]) / kept)[::-1])

    def at(self, share: float) -> float:
        """Return the accuracy of the others where this share, in [0, 1), was reviewed."""
        return float(self.accuracy[math.floor(share * len(self.accuracy))])

    def to_dict(self) -> dict[str, Any]:
        """Return the curve at :data:`REVIEWED`, and the mean error over all shares."""
        return {
            "reviewed": list(REVIEWED),
            "accuracy_of_the_others": [self.at(share) for share in REVIEWED],
            "mean_error": float(1 - self.accuracy.mean()),
        }


@dataclass(frozen=True, slots=True)
class SetFigures:
    """Prediction sets of one coverage.

    Attributes:
        asked: The coverage that was asked for.
        reached: Share of the cells whose set holds the true class.
        lowest: The same for the class with the lowest such share: what is promised holds over all classes
            together.
        lowest_class: That class.
        size: Mean number of classes in a set.
        single: Share of the sets with exactly one class; the others are for review.
        accuracy_of_single: Share of those that are right; NaN where there is none.
        empty: Share of the sets with none.
    """

    asked: float
    reached: Estimate
    lowest: float
    lowest_class: str
    size: float
    single: float
    accuracy_of_single: float
    empty: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, NaN as ``None``."""
        entry = {name: getattr(self, name) for name in self.__slots__}
        single = self.accuracy_of_single
        return entry | {
            "reached": self.reached.to_dict(),
            "accuracy_of_single": None if math.isnan(single) else single,
        }


@dataclass(frozen=True, slots=True)
class Promises:
    """How a calibrated model's probabilities, sets and flags did on labelled cells.

    Attributes:
        temperature: What logits were divided by.
        fitted: What the calibration comes from; see :class:`leukonca.learning.trust.Trust`.
        ece: Expected calibration error before and after calibration.
        nll: Negative log-likelihood before and after, in nats.
        sets: Prediction sets of each of :data:`COVERAGES`.
        foreign: Share of the cells less familiar than a hundredth of the held-out cells; NaN where the model
            cannot tell.
    """

    temperature: float
    fitted: dict[str, Any]
    ece: tuple[float, float]
    nll: tuple[float, float]
    sets: tuple[SetFigures, ...]
    foreign: float

    @classmethod
    def of(
        cls,
        trust: Trust,
        predictions: Predictions,
        labels: Sequence[str],
        *,
        groups: Sequence[str] | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Promises:
        """Compare what was promised with what came true.

        Args:
            trust: Of the model.
            predictions: What it said of N cells, in its own classes.
            labels: N labels as in the data, ``""`` where unknown; brought into one view with the model's
                classes by :func:`leukonca.assessment.align`.
            groups: N groups for the intervals; see :func:`leukonca.assessment.measure`.
            resamples: Number of bootstrap draws.
            seed: Seed of the draws.

        Raises:
            DataError: The model can express none of the labels, or no cell is left.
        """
        seen, truth, _ = align(predictions, labels)
        after = MeasuredCells.of(truth, seen.probabilities, seen.classes)
        before = (
            after if seen.uncalibrated is None else MeasuredCells.of(truth, seen.uncalibrated, seen.classes)
        )
        clusters = cluster_index([groups[row] if groups else "" for row in after.rows.tolist()])
        sets = []
        for coverage in COVERAGES:
            asked = replace(predictions, sets=trust.sets(predictions.probabilities, coverage))
            chosen = align(asked, labels)[0].sets
            if chosen is not None:
                sets.append(
                    _set_figures(coverage, chosen[after.rows], after, seen.classes, clusters, resamples, seed)
                )
        measured = before.point(), after.point()
        known = None if predictions.familiarity is None else predictions.familiarity[after.rows]
        return cls(
            temperature=trust.temperature,
            fitted=trust.fitted,
            ece=(float(measured[0]["ece"]), float(measured[1]["ece"])),
            nll=(float(measured[0]["nll"]), float(measured[1]["nll"])),
            sets=tuple(sets),
            foreign=math.nan if known is None else float((known < FOREIGN_SHARE).mean()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, NaN as ``None``."""
        return {
            "temperature": self.temperature,
            "fitted": self.fitted,
            "ece": dict(zip(("before", "after"), self.ece, strict=True)),
            "nll": dict(zip(("before", "after"), self.nll, strict=True)),
            "sets": [figures.to_dict() for figures in self.sets],
            "foreign": None if math.isnan(self.foreign) else self.foreign,
        }


def _set_figures(
    asked: float,
    chosen: Bools,
    cells: MeasuredCells,
    classes: Sequence[str],
    clusters: npt.NDArray[np.int64],
    resamples: int,
    seed: int,
) -> SetFigures:
    hit = chosen[np.arange(len(chosen)), cells.truth]
    sizes = chosen.sum(axis=1)
    single = sizes == 1
    each = {k: float(hit[cells.truth == k].mean()) for k in np.unique(cells.truth).tolist()}
    lowest = min(each, key=each.__getitem__)
    return SetFigures(
        asked=asked,
        reached=_share(hit, clusters, resamples, seed),
        lowest=each[lowest],
        lowest_class=classes[lowest],
        size=float(sizes.mean()),
        single=float(single.mean()),
        accuracy_of_single=float(hit[single].mean()) if single.any() else math.nan,
        empty=float((sizes == 0).mean()),
    )


def _share(hit: Bools, clusters: npt.NDArray[np.int64], resamples: int, seed: int) -> Estimate:
    if not resamples or clusters.max() == 0:
        return Estimate(float(hit.mean()))
    parts = draws(clusters, resamples, np.random.default_rng(seed))
    drawn = np.concatenate([hit @ weights / weights.sum(axis=0) for weights in parts])
    low, high = percentile_interval(drawn)
    return Estimate(float(hit.mean()), float(low), float(high))
