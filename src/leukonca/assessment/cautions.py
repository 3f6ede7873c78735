"""What a reader of an evaluation must know before believing its numbers."""

from __future__ import annotations

from collections.abc import Iterable

from leukonca.assessment.figures import title_of
from leukonca.assessment.metrics import Metrics
from leukonca.assessment.page import count

__all__ = ["FEW_CELLS", "FEW_GROUPS", "cautions"]

FEW_CELLS = 30
"""Below this support a class's measures and their intervals are called uncertain."""

FEW_GROUPS = 20
"""Below this number of groups the cluster bootstrap is known to give intervals that are too narrow
(Cameron, Gelbach and Miller, Rev. Econ. Stat. 90 (2008) 414)."""


def cautions(metrics: Metrics, notes: Iterable[str] = ()) -> list[str]:
    """Return the warnings that belong to an evaluation, each a sentence or two.

    Args:
        metrics: The evaluation.
        notes: Further warnings of the caller, such as the note of :func:`leukonca.assessment.align`; they
            come first.
    """
    found = [note for note in notes if note]
    if metrics.unreadable:
        total = metrics.n + metrics.unreadable + metrics.unlabelled
        found.append(
            f"{metrics.unreadable:,} of {count(total, 'file')} could not be read and are in none of the "
            "numbers; they are listed below with their reasons."
        )
    if metrics.unlabelled:
        found.append(
            f"{count(metrics.unlabelled, 'file has', 'files have')} no true label that could be compared, "
            "and so are in none of the numbers."
        )
    found += _about_classes(metrics)
    found += _about_intervals(metrics)
    return found


def _about_classes(metrics: Metrics) -> list[str]:
    found = []
    rare = [entry for entry in metrics.per_class if 0 < entry.support < FEW_CELLS]
    if rare:
        names = ", ".join(f"{title_of(entry.name)} ({entry.support})" for entry in rare)
        found.append(
            f"Fewer than {FEW_CELLS} cells of: {names}. Their numbers may change much with other cells, and "
            "their intervals are rather too narrow."
        )
    absent = [entry for entry in metrics.per_class if not entry.support]
    if absent:
        names = ", ".join(title_of(entry.name) for entry in absent)
        called = sum(entry.predicted for entry in absent)
        mistakes = f" {count(called, 'cell was', 'cells were')} wrongly called one of them." if called else ""
        over = count(len(metrics.present), "class", "classes")
        found.append(
            f"No cells of: {names}. The model knows them, this data cannot show how well.{mistakes} "
            f"Averages over classes are over the {over} present."
        )
    return found


def _about_intervals(metrics: Metrics) -> list[str]:
    if not metrics.resamples:
        return ["Intervals were not computed (resamples is 0)."]
    if metrics.n == 1 or metrics.clusters == 1:
        unit = "group (patient or slide)" if metrics.clusters == 1 else "cell"
        return [f"There is a single {unit}: how far chance could move the numbers cannot be told."]
    if metrics.clusters is None:
        return [
            "Which cells share a patient or slide is not known. Such cells resemble each other, so the "
            "intervals, which take every cell as independent, are likely too narrow."
        ]
    if metrics.clusters < FEW_GROUPS:
        return [
            f"The cells come from {metrics.clusters} groups (patients or slides) only; with fewer than "
            f"{FEW_GROUPS} the intervals are rather too narrow."
        ]
    return []
