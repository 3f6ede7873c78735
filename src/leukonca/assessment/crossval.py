"""The report of a cross-validation: how much the folds agree, and all their cells together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leukonca.assessment.metrics import CLASS_MEASURES, SUMMARY_MEASURES, Metrics
from leukonca.assessment.page import render
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.report import Evaluation, LoadPicture, as_json
from leukonca.errors import DataError
from leukonca.writing import write_bytes

__all__ = ["over_folds", "write_crossval_report"]


def over_folds(fold_metrics: Sequence[Metrics]) -> dict[str, Any]:
    """Return mean and standard deviation over folds of every measure.

    The standard deviation is that of a sample (n − 1), NaN for one fold; a fold without cells of a class is
    left out of that class's. It says how much the folds differ. It is no standard error: the training cells
    of any two folds overlap.

    Returns:
        ``{measure: {"mean", "sd", "folds"}}`` for the measures of all cells, and the same of each class below
        ``"per_class"``; ``folds`` is the number of folds that had a value.

    Raises:
        DataError: There is no fold, or the folds have different classes.
    """
    if not fold_metrics:
        raise DataError("a cross-validation without folds has no mean; give the metrics of every fold")
    classes = fold_metrics[0].classes
    for number, metrics in enumerate(fold_metrics):
        if metrics.classes != classes:
            raise DataError(
                f"fold {number} has the classes {', '.join(metrics.classes)}, fold 0 {', '.join(classes)}; "
                "folds of one cross-validation must share them"
            )
    summary: dict[str, Any] = {
        name: _spread([getattr(metrics, name).value for metrics in fold_metrics]) for name in SUMMARY_MEASURES
    }
    summary["per_class"] = {
        name: {
            key: _spread([getattr(metrics.per_class[k], key).value for metrics in fold_metrics])
            for key in CLASS_MEASURES
        }
        for k, name in enumerate(classes)
    }
    return summary


def write_crossval_report(
    out: Path,
    fold_metrics: Sequence[Metrics],
    pooled_predictions: Predictions,
    pooled_truth: Sequence[str],
    facts: Mapping[str, str],
    *,
    title: str = "Cross-validation",
    groups: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    load_picture: LoadPicture | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Write what the folds of a cross-validation show, each alone and all their test cells together.

    Writes into ``out``: ``predictions.csv``, ``confusion.csv``, ``confusion.png``, ``reliability.png`` (all
    of the pooled cells), ``crossval.html`` and ``crossval.json``, each whole or not at all and in this order.

    Args:
        out: Folder, made where it is missing.
        fold_metrics: The metrics of each fold's test cells, by the model that had not seen them.
        pooled_predictions: What those models said of all N test cells, each once.
        pooled_truth: N true labels.
        facts: How it was made, shown as a table.
        title: Heading of the page.
        groups: N groups (patient, slide) for the intervals, ``""`` where unknown.
        notes: Warnings to show first.
        load_picture: Gives the picture of a path for the gallery; by default the file is decoded.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.

    Returns:
        The metrics of the pooled cells. Their AUROC and average precision rank probabilities of different
        models against each other; those of the folds do not.

    Raises:
        DataError: There is no fold, folds differ in their classes, or nothing can be measured.
        DataError: The folder cannot be written to.
    """
    out = Path(out)
    summary = over_folds(fold_metrics)
    evaluation = Evaluation.of(
        pooled_predictions, pooled_truth, groups=groups, resamples=resamples, seed=seed
    )
    context = evaluation.context(
        title=title, facts=facts, notes=notes, history=None, load_picture=load_picture
    )
    page = render("crossval.html.j2", {**context, "folds": fold_metrics, "summary": summary})
    evaluation.write_tables(out)
    write_bytes(out / "crossval.html", page)
    entry = {
        "summary": _nulls(summary),
        "folds": [metrics.to_dict() for metrics in fold_metrics],
        "pooled": evaluation.metrics.to_dict(),
    }
    write_bytes(out / "crossval.json", as_json(entry))
    return evaluation.metrics


def _spread(values: list[float]) -> dict[str, float | int]:
    known = np.array([value for value in values if not math.isnan(value)])
    return {
        "mean": float(known.mean()) if len(known) else math.nan,
        "sd": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        "folds": len(known),
    }


def _nulls(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: _nulls(value) for key, value in entry.items()}
    return None if isinstance(entry, float) and math.isnan(entry) else entry
