"""How good a classification is: typed measures, each with its bootstrap interval.

Point values are those of scikit-learn; the draws of the bootstrap go through
:mod:`leukonca.assessment.weighted`, which the tests hold to scikit-learn.

A class of which no cell is at hand cannot be judged: its measures are NaN (``null`` in JSON) and macro means
are taken over the classes present. Calling a cell such a class is still an error and counts as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from leukonca.assessment.intervals import LEVEL, Estimate, cluster_index, draws, percentile_interval
from leukonca.assessment.measured import MeasuredCells
from leukonca.errors import DataError, SettingError

__all__ = ["CLASS_MEASURES", "SUMMARY_MEASURES", "ClassMetrics", "Metrics", "measure"]

SUMMARY_MEASURES: Final = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "macro_auroc",
    "macro_average_precision",
    "ece",
    "brier",
    "nll",
)
CLASS_MEASURES: Final = ("precision", "recall", "f1", "auroc", "average_precision")
_COUNTS: Final = ("n", "unreadable", "unlabelled", "resamples", "seed")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """The measures of one class against all others, each 0–1; NaN where no cell is of the class.

    Attributes:
        name: The class.
        support: Number of cells that truly are of it.
        predicted: Number of cells that were called it.
        precision: Share of the cells called it that are it; 0 where none was called it.
        recall: Share of its cells that were called it.
        f1: Harmonic mean of both.
        auroc: Chance that one of its cells is given a higher probability of it than another cell is.
        average_precision: Mean of the precision over its cells, ranked by its probability.
    """

    name: str
    support: int
    predicted: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    auroc: Estimate
    average_precision: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """How good a classification is.

    Attributes:
        accuracy: Share of cells called by their true class.
        balanced_accuracy: Mean recall over the classes present.
        macro_f1: Mean F1 over the classes present.
        weighted_f1: Mean F1 weighted by support.
        macro_auroc: Mean one-versus-rest AUROC over the classes present.
        macro_average_precision: Mean average precision over the classes present.
        ece: Expected calibration error, 0–1: 15 equal-width bins of the winning class's probability.
        brier: Mean squared distance between probabilities and truth, summed over classes, 0–2.
        nll: Mean negative logarithm of the true class's probability, in nats.
        per_class: The measures of each class, in the order of the classes.
        confusion: int64 [K, K], number of cells of class (row) that were called class (column).
        n: Number of cells measured.
        unreadable: Number of files left out because they could not be read.
        unlabelled: Number of files left out because their true class is unknown.
        clusters: Number of groups drawn by the bootstrap, or ``None`` where it drew single cells.
        resamples: Number of bootstrap draws; 0 leaves the intervals NaN, as does a single cell or group.
        seed: Seed of the draws.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    weighted_f1: Estimate
    macro_auroc: Estimate
    macro_average_precision: Estimate
    ece: Estimate
    brier: Estimate
    nll: Estimate
    per_class: tuple[ClassMetrics, ...]
    confusion: Ints
    n: int
    unreadable: int
    unlabelled: int
    clusters: int | None
    resamples: int
    seed: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the K classes."""
        return tuple(entry.name for entry in self.per_class)

    @property
    def present(self) -> tuple[str, ...]:
        """The classes of which there is a cell: those that macro means are taken over."""
        return tuple(entry.name for entry in self.per_class if entry.support)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it, NaN as ``None``."""
        unit = "cells" if self.clusters is None else "groups"
        return {
            "n": self.n,
            "unreadable": self.unreadable,
            "unlabelled": self.unlabelled,
            "classes": list(self.classes),
            "macro_over": f"macro over the {len(self.present)} classes present",
            "intervals": f"{LEVEL:.0%} percentile bootstrap over {unit}",
            "clusters": self.clusters,
            "resamples": self.resamples,
            "seed": self.seed,
            **{name: getattr(self, name).to_dict() for name in SUMMARY_MEASURES},
            "per_class": {
                entry.name: {"support": entry.support, "predicted": entry.predicted}
                | {name: getattr(entry, name).to_dict() for name in CLASS_MEASURES}
                for entry in self.per_class
            },
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Metrics:
        """Return what :meth:`to_dict` was made of.

        Raises:
            DataError: A field is missing or has another kind of value.
        """
        try:
            per_class = tuple(_class_from_dict(name, entry["per_class"][name]) for name in entry["classes"])
            k = len(per_class)
            summary: dict[str, Any] = {name: Estimate.from_dict(entry[name]) for name in SUMMARY_MEASURES}
            counts: dict[str, Any] = {name: int(entry[name]) for name in _COUNTS}
            return cls(
                **summary,
                **counts,
                per_class=per_class,
                confusion=np.asarray(entry["confusion"], dtype=np.int64).reshape(k, k),
                clusters=None if entry["clusters"] is None else int(entry["clusters"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"these are not the metrics of an evaluation ({type(error).__name__}: {error}); "
                "use a metrics.json that this version wrote"
            ) from None

    def to_frame(self) -> pd.DataFrame:
        """Return a table, one row a class: class, support, predicted, and each measure with its bounds."""
        rows = []
        for entry in self.per_class:
            row: dict[str, Any] = {
                "class": entry.name,
                "support": entry.support,
                "predicted": entry.predicted,
            }
            for name in CLASS_MEASURES:
                estimate: Estimate = getattr(entry, name)
                row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            rows.append(row)
        return pd.DataFrame(rows)

    def confusion_frame(self) -> pd.DataFrame:
        """Return the confusion matrix with its names: rows are the truth, columns what the model said."""
        names = pd.Index(self.classes, name="truth")
        return pd.DataFrame(self.confusion, index=names, columns=list(self.classes))


def measure(
    truth: Sequence[str],
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Measure a classification of N cells into K classes.

    Args:
        truth: N true class names; a cell whose truth is ``""`` is left out and counted.
        probabilities: float [N, K], rows summing to 1; a row of NaN is a file that could not be read, which
            is left out and counted.
        classes: The K names of the columns.
        groups: N groups (patient, slide) that the bootstrap draws whole; ``""`` is a group of its own, and
            without any group single cells are drawn.
        resamples: Number of bootstrap draws, 0 for no intervals.
        seed: Seed of the draws.

    Raises:
        DataError: Lengths disagree, a true name is not among the classes, or no cell is left to measure.
        SettingError: ``resamples`` is negative.
    """
    if resamples < 0:
        raise SettingError(
            f"resamples is {resamples}; give the number of bootstrap draws, or 0 for no intervals"
        )
    cells = MeasuredCells.of(truth, probabilities, classes)
    clusters = np.arange(len(cells.truth))
    grouped = groups is not None and any(groups)
    if groups is not None and len(groups) != len(truth):
        raise DataError(f"{len(groups)} groups were given for {len(truth)} cells; each cell needs one, or ''")
    if groups is not None and grouped:
        clusters = cluster_index([groups[row] for row in cells.rows])
    count = int(clusters.max()) + 1

    bounds: dict[str, tuple[Floats, Floats]] = {}
    # One cell or group drawn again and again shows no spread at all: rather no interval than a false one.
    if resamples and count > 1:
        generator = np.random.default_rng(seed)
        parts = [cells.drawn(weights) for weights in draws(clusters, resamples, generator)]
        bounds = {
            name: percentile_interval(np.concatenate([part[name] for part in parts])) for name in parts[0]
        }

    def estimate(name: str, value: Floats, index: tuple[int, ...] = ()) -> Estimate:
        low, high = bounds.get(name, (np.full_like(value, np.nan),) * 2)
        return Estimate(float(value[index]), float(low[index]), float(high[index]))

    values, matrix = cells.point(), cells.confusion()
    summary: dict[str, Any] = {name: estimate(name, values[name]) for name in SUMMARY_MEASURES}
    per_class = []
    for k, name in enumerate(classes):
        measures: dict[str, Any] = {key: estimate(key, values[key], (k,)) for key in CLASS_MEASURES}
        support, predicted = int(matrix[k].sum()), int(matrix[:, k].sum())
        per_class.append(ClassMetrics(name=name, support=support, predicted=predicted, **measures))
    return Metrics(
        **summary,
        per_class=tuple(per_class),
        confusion=matrix,
        n=len(cells.truth),
        unreadable=cells.unreadable,
        unlabelled=cells.unlabelled,
        clusters=count if grouped else None,
        resamples=resamples,
        seed=seed,
    )


def _class_from_dict(name: str, entry: Mapping[str, Any]) -> ClassMetrics:
    measures: dict[str, Any] = {key: Estimate.from_dict(entry[key]) for key in CLASS_MEASURES}
    counts: dict[str, Any] = {key: int(entry[key]) for key in ("support", "predicted")}
    return ClassMetrics(name=name, **counts, **measures)
