"""The report of an evaluation: files for machines, one page for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from leukonca._version import __version__
from leukonca.assessment.cautions import cautions
from leukonca.assessment.figures import (
    confusion_figure,
    f1_figure,
    history_figure,
    reliability_figure,
    review_figure,
    to_png,
)
from leukonca.assessment.gallery import data_uri, thumbnail, worst_mistakes
from leukonca.assessment.metrics import Metrics, measure
from leukonca.assessment.page import render
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.promises import Promises, ReviewCurve
from leukonca.cells.decode import decode
from leukonca.writing import encode, write_bytes

__all__ = ["Evaluation", "LoadPicture", "as_json", "write_report"]

LoadPicture = Callable[[str], npt.NDArray[np.uint8]]
"""Gives the picture of a path, uint8 [H, W, 3] RGB; raises a LeukoncaError or OSError where there is none."""

_LISTED = 500  # unreadable files named on the page; all are in predictions.csv


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Predictions with their truth, measured and drawn: what every report is made of.

    Attributes:
        predictions: What the model said, with its truth.
        metrics: How good that is.
        confusion: Confusion matrix as PNG.
        reliability: Reliability diagram as PNG.
        review: Accuracy against the share reviewed.
    """

    predictions: Predictions
    metrics: Metrics
    confusion: bytes
    reliability: bytes
    review: ReviewCurve

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        truth: Sequence[str],
        *,
        groups: Sequence[str] | None,
        resamples: int,
        seed: int,
    ) -> Evaluation:
        """Measure and draw.

        Raises:
            DataError: Nothing is left to measure, or a true label is not among the classes.
        """
        metrics = measure(
            truth,
            predictions.probabilities,
            predictions.classes,
            groups=groups,
            resamples=resamples,
            seed=seed,
        )
        compared = [bool(label) and ok for label, ok in zip(truth, predictions.ok, strict=True)]
        shown = replace(predictions, truth=list(truth)).subset(compared)
        names = [shown.classes[index] for index in shown.predicted]
        correct = np.array([name == own for name, own in zip(names, shown.truth or [], strict=True)])
        return cls(
            predictions=replace(predictions, truth=list(truth)),
            metrics=metrics,
            confusion=to_png(confusion_figure(metrics.confusion, metrics.classes)),
            reliability=to_png(reliability_figure(shown.confidence, correct)),
            review=ReviewCurve.of(shown.confidence, correct),
        )

    def write_tables(self, out: Path) -> None:
        """Write ``predictions.csv``, ``confusion.csv``, ``confusion.png`` and ``reliability.png``."""
        self.predictions.write(out / "predictions.csv")
        write_bytes(out / "confusion.csv", encode(self.metrics.confusion_frame().to_csv(lineterminator="\n")))
        write_bytes(out / "confusion.png", self.confusion)
        write_bytes(out / "reliability.png", self.reliability)

    def context(
        self,
        *,
        title: str,
        facts: Mapping[str, str],
        notes: Sequence[str],
        history: pd.DataFrame | None,
        load_picture: LoadPicture | None,
        promises: Promises | None = None,
    ) -> dict[str, Any]:
        """Return what the templates name."""
        truth = self.predictions.truth or []
        load = decode if load_picture is None else load_picture
        course = None if history is None else history_figure(history)
        unreadable = [
            (path, reason)
            for path, reason in zip(self.predictions.paths, self.predictions.errors, strict=True)
            if reason
        ]
        return {
            "title": title,
            "metrics": self.metrics,
            "correct": int(np.trace(self.metrics.confusion)),
            "cautions": cautions(self.metrics, notes),
            "confusion": data_uri(self.confusion),
            "reliability": data_uri(self.reliability),
            "review": self.review.to_dict(),
            "review_figure": data_uri(to_png(review_figure(self.review, promises.sets if promises else ()))),
            "promises": promises,
            "scores": data_uri(to_png(f1_figure(self.metrics))),
            "history": None if course is None else data_uri(to_png(course)),
            "mistakes": [
                {**asdict(mistake), "picture": thumbnail(mistake.path, load)}
                for mistake in worst_mistakes(self.predictions, truth)
            ],
            "unreadable": unreadable[:_LISTED],
            "unlisted": max(0, len(unreadable) - _LISTED),
            "facts": {**facts, "leukonca version": __version__},
        }


def as_json(entry: Mapping[str, Any]) -> bytes:
    """Return ``entry`` as indented JSON; NaN is an error, because JSON has none."""
    return encode(json.dumps(entry, indent=2, allow_nan=False) + "\n")


def write_report(
    out: Path,
    *,
    predictions: Predictions,
    truth: Sequence[str],
    title: str,
    facts: Mapping[str, str],
    groups: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    history: pd.DataFrame | None = None,
    load_picture: LoadPicture | None = None,
    promises: Promises | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Measure predictions against the truth and write what they show.

    Writes into ``out``: ``predictions.csv``, ``confusion.csv``, ``confusion.png``, ``reliability.png``,
    ``report.html`` and ``metrics.json``, each whole or not at all and in this order, so that a folder with a
    ``metrics.json`` has everything. Nothing is written where nothing can be measured.

    Args:
        out: Folder, made where it is missing.
        predictions: What the model said of N cells.
        truth: N true labels among the model's classes (see :func:`leukonca.assessment.align`), ``""`` where
            unknown.
        title: Heading of the page.
        facts: How it was made (model, data, split), shown as a table.
        groups: N groups (patient, slide) for the intervals, ``""`` where unknown.
        notes: Warnings to show first, such as the note of ``align``.
        history: Course of the training, one row a logged moment; see
            :func:`leukonca.assessment.figures.history_figure`.
        load_picture: Gives the picture of a path for the gallery; by default the file is decoded.
        promises: How calibration, prediction sets and flags did, where the model has them.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.

    Raises:
        DataError: No cell can be measured, lengths disagree, or a true label is not among the classes.
        DataError: The folder cannot be written to.
    """
    out = Path(out)
    evaluation = Evaluation.of(predictions, truth, groups=groups, resamples=resamples, seed=seed)
    context = evaluation.context(
        title=title,
        facts=facts,
        notes=notes,
        history=history,
        load_picture=load_picture,
        promises=promises,
    )
    page = render("report.html.j2", context)
    evaluation.write_tables(out)
    write_bytes(out / "report.html", page)
    figures = evaluation.metrics.to_dict() | {
        "review": evaluation.review.to_dict(),
        "trust": promises.to_dict() if promises else None,
        "facts": dict(facts),
    }
    write_bytes(out / "metrics.json", as_json(figures))
    return evaluation.metrics
