"""Explaining files, one after another, as ``classify`` calls them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tqdm import tqdm

from leukonca.assessment.predict import FIRING_SEEDS, predict_in_parts
from leukonca.assessment.prediction import Predictions
from leukonca.cells.decode import decode
from leukonca.errors import PictureError
from leukonca.explanation.explained import Call, CellExplanation, Explainer
from leukonca.learning.trust import FOREIGN_SHARE

__all__ = ["COVERAGE", "ExplainedCell", "explain_files"]

COVERAGE: Final = 0.95
"""Of the prediction sets that are shown."""

_BATCH: Final = 16


@dataclass(frozen=True, eq=False)
class ExplainedCell:
    """A file, and what is said of it.

    Attributes:
        path: As it was named by the user.
        found: Its explanation; ``None`` where it could not be read.
        error: Why not; ``""`` where it was.
    """

    path: str
    found: CellExplanation | None
    error: str = ""


def explain_files(
    explainer: Explainer, paths: Sequence[str], *, progress: bool = False
) -> Iterator[ExplainedCell]:
    """Explain files in their order; one that cannot be read gives its reason.

    Args:
        explainer: What to explain, and how.
        paths: Files, or members of archives.
        progress: Whether to show a progress bar.
    """
    calls = predict_in_parts(
        explainer.model,
        paths,
        seeds=FIRING_SEEDS,
        coverage=COVERAGE if explainer.model.trust else None,
        foreign=FOREIGN_SHARE,
        batch=_BATCH,
    )
    with tqdm(total=len(paths), desc="explaining", unit=" cells", disable=not progress) as bar:
        for part in calls:
            for row, path in enumerate(part.paths):
                yield _explained(explainer, part, row, path)
                bar.update()


def _explained(explainer: Explainer, part: Predictions, row: int, path: str) -> ExplainedCell:
    if part.errors[row]:
        return ExplainedCell(path, None, part.errors[row])
    try:
        picture = decode(path)
    except PictureError as error:  # it was there a moment ago
        return ExplainedCell(path, None, error.reason)
    call = Call(
        probabilities=part.probabilities[row],
        spread=float(part.spread[row]),
        likely=None if part.sets is None else tuple(np.flatnonzero(part.sets[row]).tolist()),
        familiarity=None if part.familiarity is None else float(part.familiarity[row]),
        foreign=part.foreign is not None and bool(part.foreign[row]),
    )
    return ExplainedCell(path, explainer.explain(picture, call))
