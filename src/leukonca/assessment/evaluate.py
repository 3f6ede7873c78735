"""A model on labelled cells that it has not seen: from a SPEC to the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from leukonca._version import __version__
from leukonca.assessment.expected import expectation
from leukonca.assessment.metrics import Metrics
from leukonca.assessment.predict import FIRING_SEEDS, predict, with_target_statistics
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.promises import Promises
from leukonca.assessment.report import write_report
from leukonca.assessment.views import align
from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, SettingError
from leukonca.learning.recognition import identities, in_groups_of
from leukonca.learning.shapes import BaselineShape, Shape
from leukonca.learning.trained import TrainedModel
from leukonca.writing import require_writable

__all__ = ["Chosen", "Part", "Statistics", "choose", "evaluate", "require_counts", "said_seeds"]

_LOG = logging.getLogger(__name__)

# Five times what is to be expected of cells like those of the calibration.
_MANY_FOREIGN = 0.05

Part = Literal["auto", "train", "val", "test", "all"]
Statistics = Literal["model", "target"]


@dataclass(frozen=True)
class Chosen:
    """The cells of a manifest that an assessment may use.

    Attributes:
        manifest: Those cells.
        notes: What was left out and why, in sentences for the report.
    """

    manifest: Manifest
    notes: tuple[str, ...]


def choose(
    model: TrainedModel,
    manifest: Manifest,
    part: Part = "auto",
    *,
    allow_seen: bool = False,
    progress: bool = False,
) -> Chosen:
    """Choose the cells to assess a model on.

    Where the data have splits of their own, they count. Where they have none, the model knows which pictures
    it was trained on and which chose its best epoch: ``train`` and ``val`` are those, ``test`` all others.
    ``auto`` is ``test``. Whatever the split says, pictures that the model has seen are left out of ``test``
    and ``all``: they are recognised by their content, under any name. So are the other cells of a patient or
    slide (``group``) that the model has seen cells of.

    Args:
        model: The model.
        manifest: Labelled cells; those without label are left out.
        part: Which of them.
        allow_seen: Keep pictures that the model has seen.
        progress: Whether to show a progress bar.

    Raises:
        DataError: No cell is left; the message says why.
        SettingError: ``part`` is unknown.
    """
    if part not in get_args(Part):
        raise SettingError(f"split={part!r} is unknown; known: {', '.join(get_args(Part))}")
    notes = []
    labelled = (manifest.frame["label"] != "").to_numpy()
    if not labelled.all():
        if not labelled.any():
            raise DataError(
                f"none of the {len(manifest)} cells has a label to compare with; name a folder that has a "
                "folder per class, a published set, or a table with the column label"
            )
        notes.append(f"Cells without label, left out: {int((~labelled).sum()):,}.")
        manifest = manifest.subset(labelled)
    total = len(manifest)
    ids = identities(manifest, progress=progress)
    trained, chosen_by = np.isin(ids, model.seen_training), np.isin(ids, model.seen_validation)
    own = manifest.frame["split"].to_numpy()
    has_own = bool((own != "").any())
    wanted = "test" if part == "auto" and (has_own or len(model.seen_training)) else part
    if wanted in ("auto", "all"):
        keep = np.ones(total, dtype=bool)
    elif has_own:
        keep = own == wanted
    else:
        keep = {"train": trained, "val": chosen_by, "test": ~trained & ~chosen_by}[wanted]
    seen = keep & (trained | chosen_by)
    if seen.any() and (allow_seen or wanted in ("train", "val")):
        notes.append(
            f"Cells seen in training, counted all the same as asked: {int(seen.sum()):,}. "
            "Figures on them say nothing about new cells."
        )
    elif seen.any():
        notes.append(f"Cells seen in training, left out: {int(seen.sum()):,}.")
        keep &= ~seen
    if wanted in ("auto", "test", "all") and not allow_seen:
        related = keep & in_groups_of(manifest.frame, trained | chosen_by)
        if related.any():
            notes.append(f"Cells of patients or slides seen in training, left out: {int(related.sum()):,}.")
            keep &= ~related
    if not keep.any():
        raise DataError(
            f"of {total} labelled cells none is left for split={part!r} "
            f"({int((trained | chosen_by).sum())} were seen in training); give other data or another split"
        )
    if wanted != "all" and keep.sum() < total:
        notes.append(f"{int(keep.sum())} of {total} cells were used (split: {wanted}).")
    return Chosen(manifest.subset(keep), tuple(notes))


def evaluate(
    model: TrainedModel,
    manifest: Manifest,
    out: Path,
    *,
    name: str = "model",
    part: Part = "auto",
    allow_seen: bool = False,
    statistics: Statistics = "model",
    seeds: int = FIRING_SEEDS,
    resamples: int = 1000,
    expect: Mapping[str, float] | None = None,
    history: pd.DataFrame | None = None,
    progress: bool = False,
) -> tuple[Metrics, Predictions]:
    """Assess a model and write the report.

    Args:
        model: The model.
        manifest: Labelled cells.
        out: Folder of the report; see :func:`leukonca.assessment.report.write_report` for its files.
        name: What the report calls the model.
        part: See :func:`choose`.
        allow_seen: See :func:`choose`.
        statistics: ``model``: its own. ``target``: those of these cells, the paper's leak, by name only.
        seeds: Firing seeds to average over.
        resamples: Of the bootstrap.
        expect: Shares in which types occur among these cells, where they are not those of the training; see
            :func:`leukonca.assessment.expected.expecting`. Nothing is then said of what the model promises.
        history: Of the training, to be drawn.
        progress: Whether to show progress bars.

    Returns:
        The figures, and the predictions (in the view in which they were compared) with their truth.

    Raises:
        DataError: No cell is left, none can be compared or read, or ``out`` cannot be written to.
        ModelError: Shares are expected, and the model does not say in which it has learnt.
        SettingError: ``part`` or ``statistics`` is unknown, ``seeds`` or ``resamples`` too small, or
            ``expect`` does not fit the model.
    """
    # All that can be known beforehand is said before the work.
    require_counts(seeds, resamples)
    if statistics not in get_args(Statistics):
        raise SettingError(f"statistics={statistics!r} is unknown; known: {', '.join(get_args(Statistics))}")
    told = expectation(expect, model) if expect else None
    require_writable(out)
    chosen = choose(model, manifest, part, allow_seen=allow_seen, progress=progress)
    frame, notes = chosen.manifest.frame, list(chosen.notes)
    paths = frame["path"].tolist()
    if statistics == "target":
        model = with_target_statistics(model, paths, progress=progress)
        notes.append(
            "Inputs were normalised with the mean and spread of these very cells, as the paper's released "
            "code does: a leak of the target set's statistics. Do not compare with figures made without it."
        )
    # Every cell is named and counted, however foreign it looks: what is measured is the model, not its sieve.
    predictions = replace(predict(model, paths, seeds=seeds, foreign=0.0, progress=progress), foreign=None)
    if told:
        predictions = told(predictions)
    aligned, truth, note = align(predictions, frame["label"].tolist())
    if note:
        notes.append(note)
    groups = frame["group"].tolist() if (frame["group"] != "").any() else None
    promises = None
    if model.trust and not told:
        promises = Promises.of(
            model.trust, predictions, frame["label"].tolist(), groups=groups, resamples=resamples
        )
        if promises.foreign > _MANY_FOREIGN:
            notes.append(
                f"{promises.foreign:.0%} of these cells are stranger to the model than 99 % of those that it "
                "was calibrated on. Its probabilities and the coverage of its sets were not made for them."
            )
    for line in notes:
        _LOG.info("%s", line)
    metrics = write_report(
        out,
        predictions=aligned,
        truth=truth,
        title=f"Assessment of the model {name}",
        facts=_facts(model, name, frame, seeds, predictions) | _expectation(expect),
        groups=groups,
        notes=notes,
        history=history,
        promises=promises,
        resamples=resamples,
    )
    return metrics, aligned


def _expectation(expect: Mapping[str, float] | None) -> dict[str, str]:
    if not expect:
        return {}
    total = sum(expect.values())
    return {"Expects": ", ".join(f"{share / total:.1%} {name}" for name, share in expect.items())}


def require_counts(seeds: int, resamples: int) -> None:
    """Check the numbers that an assessment is asked for.

    Raises:
        SettingError: ``seeds`` is below 1 or ``resamples`` below 0.
    """
    for option, value, least in (("seeds", seeds, 1), ("resamples", resamples, 0)):
        if value < least:
            raise SettingError(f"{option}={value} must be at least {least}")


def _facts(
    model: TrainedModel, name: str, frame: pd.DataFrame, seeds: int, predictions: Predictions
) -> dict[str, str]:
    provenance = model.provenance
    facts = {
        "Model": f"{name}, {model.network.parameter_count:,} parameters",
        **_shape_facts(model.network.architecture),
        "Assessed on": f"{_listed(sorted(frame['source'].unique()))}: {len(frame):,} cells",
        "Firing seeds": said_seeds(model, seeds),
        "leukonca": __version__,
    }
    if model.views > 1:
        facts["Views"] = f"{model.views} orientations of each picture, averaged"
    if model.trust:
        facts["Calibration"] = (
            f"temperature {model.trust.temperature:.3f}, from {len(model.trust.scores):,} held-out cells"
        )
    if model.settling is not None and predictions.steps is not None and predictions.ok.any():
        facts["Steps"] = (
            f"{np.nanmean(predictions.steps):.1f} of {model.steps} on average; a picture stops where no "
            f"probability changes by more than {model.settling.tolerance:g}"
        )
    adapted = provenance.get("adapted", [])
    if "sources" in provenance:
        trained = len(model.seen_training) - sum(note["cells"] for note in adapted)
        facts["Trained on"] = f"{_listed(provenance['sources'])}: {trained:,} cells"
        facts["Training seed"] = str(provenance.get("settings", {}).get("seed", "unknown"))
    if adapted:
        facts["Adapted to"] = "; ".join(
            f"{_listed(note['sources'])}: {note['cells']:,} cells {'with' if note['labels'] else 'without'} "
            "labels"
            for note in adapted
        )
    return facts


def _shape_facts(shape: Shape) -> dict[str, str]:
    if isinstance(shape, BaselineShape):
        return {"Network": f"{shape.kind}, a baseline, input {shape.size} px"}
    return {
        "Automaton": f"{shape.grid} × {shape.grid} sites, {shape.channels} channels, {shape.steps} steps, "
        f"firing probability {shape.firing:g}, input {shape.size} px"
    }


def said_seeds(model: TrainedModel, seeds: int) -> str:
    """Return what a report says about its firing seeds."""
    if model.draws:
        return f"{seeds}, averaged"
    return "none, every site fires" if model.steps else "none, nothing fires"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "unknown"
