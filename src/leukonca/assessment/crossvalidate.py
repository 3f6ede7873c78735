"""Cross-validation: a fresh model for every fold, resumable, then means and the pooled confusion."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from leukonca.assessment.crossval import write_crossval_report
from leukonca.assessment.evaluate import evaluate, require_counts, said_seeds
from leukonca.assessment.metrics import Metrics
from leukonca.assessment.predict import FIRING_SEEDS, join
from leukonca.assessment.prediction import Predictions
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.errors import DataError, SettingError
from leukonca.learning.run import Run
from leukonca.learning.settings import Settings
from leukonca.learning.training import resume, train
from leukonca.writing import write_text

__all__ = ["crossvalidate"]

_LOG = logging.getLogger(__name__)

# In the folder of a fold's run: it was trained to its end, and assessed so.
_ASSESSED = "assessed.json"


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
        SettingError: ``settings.folds`` is 0, or ``seeds`` or ``resamples`` too small.
        DataError: The data cannot be divided so, or have a split of their own; or ``out`` holds runs of other
            data or settings.
    """
    if not settings.folds:
        raise SettingError("folds=0: cross-validation needs at least 2")
    require_counts(seeds, resamples)
    if not Run.is_run(out / "fold-0"):
        _require_undivided(data)
    figures: list[Metrics] = []
    parts: list[Predictions] = []
    truth: list[str] = []
    groups: list[str] = []
    for fold in range(settings.folds):
        _LOG.info("fold %d of %d", fold + 1, settings.folds)
        folder = out / f"fold-{fold}"
        run = _trained(data, folder, replace(settings, fold=fold), progress=progress)
        test = run.manifest.subset((run.manifest.frame["split"] == "test").to_numpy())
        metrics, predictions = _assessed(run, test, seeds=seeds, resamples=resamples, progress=progress)
        # Decoded pictures of a finished fold are of no more use, and large.
        shutil.rmtree(folder / "prepared", ignore_errors=True)
        if predictions.truth is None or len(predictions) != len(test):
            raise DataError(
                f"{folder}: its predictions are not those of its test cells; delete {folder / _ASSESSED} "
                "and run it again"
            )
        figures.append(metrics)
        parts.append(predictions)
        truth += predictions.truth
        groups += test.frame["group"].tolist()
    pooled = join(parts, parts[0].classes)
    model = Run.open(out / "fold-0").model()
    return write_crossval_report(
        out,
        figures,
        pooled,
        truth,
        {
            "Data": ", ".join(data),
            "Folds": f"{settings.folds}, stratified, seed {settings.seed}",
            "Model": f"preset {settings.preset}, {model.network.parameter_count:,} parameters",
            "Firing seeds": said_seeds(model, seeds),
        },
        groups=groups if any(groups) else None,
        resamples=resamples,
    )


def _trained(data: Sequence[str], folder: Path, settings: Settings, *, progress: bool) -> Run:
    if not Run.is_run(folder):
        return train(data, folder, settings, progress=progress)
    run = Run.open(folder)
    if run.settings != settings or run.data != tuple(data):
        raise DataError(f"{folder}: holds a run of other data or settings; choose another folder")
    return run if (folder / _ASSESSED).is_file() else resume(folder, progress=progress)


def _require_undivided(data: Sequence[str]) -> None:
    # Their own split would be kept by every fold: the same model again and again, tested on the same cells.
    if (scan(data).frame["split"] != "").any():
        raise DataError(
            f"{', '.join(data)}: these cells have a split of their own, which folds would ignore; train once "
            "with it, or name a table of the cells without the column split"
        )


def _assessed(
    run: Run, test: Manifest, *, seeds: int, resamples: int, progress: bool
) -> tuple[Metrics, Predictions]:
    """Assess a fold, or take what an earlier call found, if it was asked for the same."""
    report, note = run.folder / "report", run.folder / _ASSESSED
    if note.is_file() and note.read_text(encoding="utf-8") == _seal(report, seeds, resamples):
        metrics = Metrics.from_dict(json.loads((report / "metrics.json").read_text(encoding="utf-8")))
        return metrics, Predictions.read(report / "predictions.csv")
    metrics, predictions = evaluate(
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
    write_text(note, _seal(report, seeds, resamples))
    return metrics, predictions


def _seal(report: Path, seeds: int, resamples: int) -> str:
    """Text that tells whether a report is the one of these options, or somebody wrote another there since."""
    files = {}
    for name in ("metrics.json", "predictions.csv"):
        file = report / name
        files[name] = sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    return json.dumps({"seeds": seeds, "resamples": resamples, "files": files}, indent=2) + "\n"
