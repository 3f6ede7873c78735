"""The cells of an evaluation as numbers, and their measures: once plainly, once under many weightings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from leukonca.assessment.weighted import (
    confusion_matrices,
    expected_calibration_error,
    mean_known,
    ranking,
    ratio,
)
from leukonca.errors import DataError

__all__ = ["MeasuredCells"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCells:
    """The n of N cells that can be measured, as numbers.

    Attributes:
        truth: int64 [n], true class.
        predicted: int64 [n], winning class.
        probabilities: float64 [n, K].
        rows: int64 [n], their places among all N.
        unreadable: Number of cells left out because their probabilities are NaN.
        unlabelled: Number of readable cells left out because their truth is ``""``.
    """

    truth: Ints
    predicted: Ints
    probabilities: Floats
    rows: Ints
    unreadable: int
    unlabelled: int

    @classmethod
    def of(cls, truth: Sequence[str], probabilities: npt.ArrayLike, classes: Sequence[str]) -> MeasuredCells:
        """Take the cells that were read and whose truth is known.

        Raises:
            DataError: Lengths disagree, a true name is not among the classes, or no cell is left.
        """
        table = np.asarray(probabilities, dtype=np.float64)
        if table.shape != (len(truth), len(classes)):
            raise DataError(
                f"{len(truth)} true labels and {len(classes)} classes came with probabilities of shape "
                f"{table.shape}; expected ({len(truth)}, {len(classes)})"
            )
        foreign = sorted(set(truth) - set(classes) - {""})
        if foreign:
            raise DataError(
                f"the true labels {', '.join(map(repr, foreign))} are not among the model's classes "
                f"{', '.join(classes)}; bring both into one view with leukonca.assessment.align"
            )
        readable = ~np.isnan(table).any(axis=1)
        labelled = np.array([label != "" for label in truth], dtype=bool)
        rows = np.flatnonzero(readable & labelled)
        if not len(rows):
            raise DataError(
                f"no cell is left to measure: of {len(truth)} files {int((~readable).sum())} could not be "
                f"read and {int((~labelled).sum())} have no true label; check the data's paths and labels"
            )
        number = {name: index for index, name in enumerate(classes)}
        return cls(
            truth=np.array([number[truth[row]] for row in rows.tolist()], dtype=np.int64),
            predicted=table[rows].argmax(axis=1),
            probabilities=table[rows],
            rows=rows,
            unreadable=int((~readable).sum()),
            unlabelled=int((readable & ~labelled).sum()),
        )

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return int(self.probabilities.shape[1])

    def confusion(self) -> Ints:
        """int64 [K, K], number of cells of class (row) that were called class (column)."""
        matrix = confusion_matrices(self.truth, self.predicted, self.classes, np.ones((len(self.truth), 1)))
        return np.asarray(matrix[0], dtype=np.int64)

    def _costs(self) -> tuple[Floats, Floats]:
        # Brier score and negative log-likelihood of each cell.
        target = np.eye(self.classes)[self.truth]
        # The same bound as scikit-learn's log_loss, so that a probability of 0 is costly, not infinite.
        own = np.maximum(self.probabilities[np.arange(len(self.truth)), self.truth], np.finfo(np.float64).eps)
        return ((self.probabilities - target) ** 2).sum(axis=1), -np.log(own)

    def point(self) -> dict[str, Floats]:
        """The measures on all cells: arrays [] and, of classes, [K]."""
        labels = np.arange(self.classes)
        present = np.isin(labels, self.truth)
        precision, recall, f1, support = precision_recall_fscore_support(
            self.truth, self.predicted, labels=labels, zero_division=0
        )
        auroc, average_precision = np.full((2, self.classes), math.nan)
        for k in labels[present]:
            positive, scores = self.truth == k, self.probabilities[:, k]
            average_precision[k] = average_precision_score(positive, scores)
            if not positive.all():
                auroc[k] = roc_auc_score(positive, scores)
        per_class = {"precision": precision, "recall": recall, "f1": f1}
        per_class = {name: np.where(present, value, math.nan) for name, value in per_class.items()}
        per_class |= {"auroc": auroc, "average_precision": average_precision}
        ones = np.ones((len(self.truth), 1))
        return per_class | {
            "accuracy": np.asarray((self.truth == self.predicted).mean()),
            "weighted_f1": np.asarray(f1 @ support / support.sum()),
            **self._macro(per_class),
            **{name: value[0] for name, value in self._calibration(ones).items()},
        }

    def drawn(self, weights: Floats) -> dict[str, Floats]:
        """The same under each of R weightings, float64 [n, R]: arrays [R] and, of classes, [R, K]."""
        matrices = confusion_matrices(self.truth, self.predicted, self.classes, weights)
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        support, called = matrices.sum(axis=2), matrices.sum(axis=1)
        recall = ratio(hits, support)
        f1 = np.where(support > 0, ratio(2 * hits, support + called), np.nan)
        ranked = [
            ranking(self.truth == k, self.probabilities[:, k], weights)
            if (self.truth == k).any()
            else np.full((2, weights.shape[1]), math.nan)
            for k in range(self.classes)
        ]
        per_class = {
            "precision": np.where(support > 0, ratio(hits, called, otherwise=0.0), np.nan),
            "recall": recall,
            "f1": f1,
            "auroc": np.stack([auroc for auroc, _ in ranked], axis=1),
            "average_precision": np.stack([precision for _, precision in ranked], axis=1),
        }
        total = weights.sum(axis=0)
        return per_class | {
            "accuracy": ratio(hits.sum(axis=1), total),
            "weighted_f1": ratio(np.nansum(f1 * support, axis=1), total),
            **self._macro(per_class),
            **self._calibration(weights),
        }

    def _macro(self, per_class: dict[str, Floats]) -> dict[str, Floats]:
        return {
            "balanced_accuracy": mean_known(per_class["recall"]),
            "macro_f1": mean_known(per_class["f1"]),
            "macro_auroc": mean_known(per_class["auroc"]),
            "macro_average_precision": mean_known(per_class["average_precision"]),
        }

    def _calibration(self, weights: Floats) -> dict[str, Floats]:
        brier, nll = self._costs()
        total = weights.sum(axis=0)
        correct = self.truth == self.predicted
        confidence = self.probabilities.max(axis=1)
        return {
            "ece": expected_calibration_error(confidence, correct, weights),
            "brier": ratio(brier @ weights, total),
            "nll": ratio(nll @ weights, total),
        }
