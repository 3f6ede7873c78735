"""Cross-validation: a fresh model for every fold, resumable, then means and the pooled confusion."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from leukonca.assessment.crossval import write_crossval_report
from leukonca.assessment.evaluate import evaluate
from leukonca.assessment.metrics import Metrics
from leukonca.assessment.predict import FIRING_SEEDS, join
from leukonca.assessment.prediction import Predictions
from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, SettingError
from leukonca.learning.run import Run
from leukonca.learning.settings import Settings
from leukonca.learning.training import resume, train

__all__ = ["crossvalidate"]

_LOG = logging.getLogger(__name__)


def crossvalidate(
    data: Sequence[str],
    out: Path,
    settings: Settings,
    *,
    seeds: int = FIRING_SEEDS,
    resamples: int = 1000,
    progress: bool = False,
) -> Metrics:
    """Train and assess a model for every fold, and report them together.

    Folder ``fold-K`` of ``out`` holds the run of fold K, with its report in ``fold-K/report``. Called again
    with the same arguments it goes on where it was interrupted: finished folds are kept.

    Args:
        data: SPECs.
        out: Folder of the cross-validation.
        settings: Of every fold; ``folds`` says how many, ``fold`` is not used.
        seeds: Firing seeds to average over in the assessment.
        resamples: Of the bootstrap.
        progress: Whether to show progress bars.

    Returns:
        The figures of all folds' test cells together.

    Raises:
        SettingError: ``settings.folds`` is 0.
        DataError: The data cannot be divided so, or ``out`` holds runs of other settings.
    """
    if not settings.folds:
        raise SettingError("folds=0: cross-validation needs at least 2")
    figures: list[Metrics] = []
    parts: list[Predictions] = []
    truth: list[str] = []
    groups: list[str] = []
    for fold in range(settings.folds):
        _LOG.info("fold %d of %d", fold + 1, settings.folds)
        folder = out / f"fold-{fold}"
        run = _trained(data, folder, replace(settings, fold=fold), progress=progress)
        metrics, predictions = _assessed(run, seeds=seeds, resamples=resamples, progress=progress)
        # Decoded pictures of a finished fold are of no more use, and large.
        shutil.rmtree(folder / "prepared", ignore_errors=True)
        if predictions.truth is None:
            raise DataError(
                f"{folder}: its predictions have no truth; delete {folder / 'report'} and run it again"
            )
        figures.append(metrics)
        parts.append(predictions)
        truth += predictions.truth
        group_of = run.manifest.frame.set_index("path")["group"]
        groups += group_of.loc[predictions.paths].tolist()
    pooled = join(parts, parts[0].classes)
    return write_crossval_report(
        out,
        figures,
        pooled,
        truth,
        {
            "Data": ", ".join(data),
            "Folds": f"{settings.folds}, stratified, seed {settings.seed}",
            "Model": f"preset {settings.preset}, {_parameters(out)} parameters",
            "Firing seeds": f"{seeds}, averaged",
        },
        groups=groups if any(groups) else None,
        resamples=resamples,
    )


def _parameters(out: Path) -> str:
    return f"{Run.open(out / 'fold-0').model().network.parameter_count:,}"


def _trained(data: Sequence[str], folder: Path, settings: Settings, *, progress: bool) -> Run:
    if not Run.is_run(folder):
        return train(data, folder, settings, progress=progress)
    run = Run.open(folder)
    if run.settings != settings or run.data != tuple(data):
        raise DataError(f"{folder}: holds a run of other data or settings; choose another folder")
    if (folder / "report" / "metrics.json").is_file():
        return run
    return resume(folder, progress=progress)


def _assessed(run: Run, *, seeds: int, resamples: int, progress: bool) -> tuple[Metrics, Predictions]:
    report = run.folder / "report"
    if (report / "metrics.json").is_file():
        metrics = Metrics.from_dict(json.loads((report / "metrics.json").read_text(encoding="utf-8")))
        return metrics, Predictions.read(report / "predictions.csv")
    test: Manifest = run.manifest.subset((run.manifest.frame["split"] == "test").to_numpy())
    return evaluate(
        run.model(),
        test,
        report,
        name=f"fold {run.settings.fold}",
        part="test",
        history=run.history,
        seeds=seeds,
        resamples=resamples,
        progress=progress,
    )
