"""Comparing a model of one class set with data of another.

A model of thirteen classes may meet data labelled in five, or the other way round. Both are then seen in the
finest classes that both can express: ``neutrophil_banded`` and ``neutrophil_segmented`` become ``neutrophil``
where either side knows no more than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from leukonca.assessment.prediction import Predictions
from leukonca.errors import DataError
from leukonca.vocabulary import CELL_TYPES, project

__all__ = ["align", "among"]


def align(predictions: Predictions, truth: Sequence[str]) -> tuple[Predictions, list[str], str]:
    """Bring a model's classes and the data's labels into one view.

    Where every label is among the model's classes nothing changes. Otherwise each name is replaced by the
    coarsest type that it belongs to among the names that the model or the data use; probabilities of classes
    that become one are summed. The model's classes that the data lack stay columns of their own, and calling
    a cell one of them stays an error. Types that are only siblings are never merged: a model that knows
    ``myelocyte`` alone is not said to know ``promyelocyte``.

    A cell whose label the model cannot express stays a row, so that groups keep their places, but its truth
    becomes ``""``: :func:`~leukonca.assessment.metrics.measure` leaves it out.

    Args:
        predictions: What the model said of N cells.
        truth: N labels, ``""`` where unknown.

    Returns:
        The predictions in the view, with the new truth; the new truth; and a note for people that says what
        was merged and what was left out, ``""`` where nothing was. ``spread`` becomes NaN where the winning
        class was merged of several, since the spread of a sum is not known from its parts.

    Raises:
        DataError: Lengths disagree, or the model can express none of the labels.
    """
    labels = list(truth)
    if len(labels) != len(predictions):
        raise DataError(
            f"{len(labels)} true labels were given for {len(predictions)} predictions; give one each"
        )
    model, data = set(predictions.classes), set(labels) - {""}
    if data <= model:
        return replace(predictions, truth=labels), labels, ""

    view = {name: _coarsest(name, model | data) for name in model | data}
    classes = tuple(dict.fromkeys(view[name] for name in predictions.classes))
    foreign = Counter(label for label in labels if label and view[label] not in classes)
    if not data - set(foreign):
        raise DataError(
            f"the model's classes ({', '.join(predictions.classes)}) can express none of the data's labels "
            f"({', '.join(sorted(data))}); evaluate on cells of the types that the model was trained for"
        )
    aligned = ["" if not label or label in foreign else view[label] for label in labels]
    merged = _merge(predictions, classes, [classes.index(view[name]) for name in predictions.classes])
    return replace(merged, truth=aligned), aligned, _note(view, foreign)


def among(predictions: Predictions, classes: Sequence[str]) -> Predictions:
    """Return what a model says where it is known that only some types can occur.

    Probabilities of classes that are, or are kinds of, one of ``classes`` are summed; those of all others are
    left out, and what remains is scaled to sum 1 (Bayes' rule with a prior of 0 for the others).

    Args:
        predictions: What the model said of N cells.
        classes: The types that can occur.

    Returns:
        The predictions over those of ``classes`` that the model knows, in their order; ``spread`` is NaN.

    Raises:
        DataError: The model knows fewer than two of them.
    """
    places = [project(name, classes) for name in predictions.classes]
    known = tuple(name for name in classes if name in places)
    if len(known) < 2:
        raise DataError(
            f"of {', '.join(classes)} the model knows {', '.join(known) or 'none'}; it needs two to choose"
        )
    indicator = np.array([[float(place == name) for name in known] for place in places])
    # A floor instead of 0 / 0 where everything was given to the others.
    summed = np.maximum(predictions.probabilities @ indicator, np.finfo(np.float64).tiny)
    return Predictions(
        known,
        predictions.paths,
        summed / summed.sum(axis=1, keepdims=True),
        np.full(len(predictions), np.nan),
        predictions.errors,
        predictions.truth,
    )


def _lineage(name: str) -> Iterator[str]:
    current: str | None = name
    while current is not None:
        yield current
        kind = CELL_TYPES.get(current)
        current = kind.parent if kind else None


def _coarsest(name: str, names: set[str]) -> str:
    return [ancestor for ancestor in _lineage(name) if ancestor in names][-1]


def _merge(predictions: Predictions, classes: tuple[str, ...], places: list[int]) -> Predictions:
    indicator = np.zeros((len(places), len(classes)))
    indicator[np.arange(len(places)), places] = 1.0
    sets, before = predictions.sets, predictions.uncalibrated
    merged = replace(
        predictions,
        classes=classes,
        probabilities=predictions.probabilities @ indicator,
        # A set of parts is a set of the wholes that they belong to: it holds the truth as often, or more.
        sets=None if sets is None else sets @ (indicator > 0),
        uncalibrated=None if before is None else before @ indicator,
    )
    several = indicator.sum(axis=0) > 1
    return replace(merged, spread=np.where(several[merged.predicted], np.nan, predictions.spread))


def _note(view: dict[str, str], foreign: Counter[str]) -> str:
    sentences = []
    children: dict[str, list[str]] = {}
    for name in sorted(view):
        if view[name] != name and name not in foreign:
            children.setdefault(view[name], []).append(name)
    if children:
        merged = "; ".join(f"{' and '.join(names)} as {parent}" for parent, names in sorted(children.items()))
        sentences.append(
            f"Model and data name cells in different detail and are compared coarsely: {merged}."
        )
    if foreign:
        counts = ", ".join(f"{label} ({count})" for label, count in sorted(foreign.items()))
        total = sum(foreign.values())
        cells = "1 cell was" if total == 1 else f"{total} cells were"
        sentences.append(f"{cells} left out because the model has no class for them: {counts}.")
    return " ".join(sentences)
