"""What a person calls: train, load, classify, evaluate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from leukonca.assessment.evaluate import Part, Statistics
from leukonca.assessment.evaluate import evaluate as _evaluate
from leukonca.assessment.metrics import Metrics
from leukonca.assessment.predict import FIRING_SEEDS, predict
from leukonca.assessment.prediction import Predictions
from leukonca.cells.listing import walk
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.delivery.shipped import find_shipped
from leukonca.errors import DataError, ModelError
from leukonca.explanation.companions import find_index, find_probes
from leukonca.explanation.explained import Explainer
from leukonca.explanation.explained_files import explain_files
from leukonca.explanation.explained_folder import ExplainedFolder
from leukonca.explanation.relevance import SEEDS as RELEVANCE_SEEDS
from leukonca.learning.adaptation import adapt as _adapt
from leukonca.learning.adaptation import with_pooled_statistics
from leukonca.learning.bundle import load_bundle, save_bundle
from leukonca.learning.run import Run
from leukonca.learning.settings import ArchitectureChanges, Settings
from leukonca.learning.trained import TrainedModel
from leukonca.learning.training import resume as _resume
from leukonca.learning.training import train as _train
from leukonca.learning.trust import FOREIGN_SHARE
from leukonca.learning.trusting import calibrate as _calibrate
from leukonca.nca.settling import Settling

__all__ = ["Model", "Training", "evaluate", "files_of", "load", "resume", "train"]

PathLike = str | os.PathLike[str]


def files_of(paths: PathLike | Sequence[PathLike]) -> list[str]:
    """Return the picture files that paths name: files as they are, folders with all pictures below them.

    Raises:
        DataError: A folder holds no picture, or there is nothing at all.
    """
    files: list[str] = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        text = os.fspath(path)
        if not os.path.isdir(text):
            files.append(text)
            continue
        inside = [found.path for found in walk(Path(text)) if found.kind == "picture"]
        if not inside:
            raise DataError(f"{text}: the folder holds no pictures")
        files += inside
    if not files:
        raise DataError("there is no picture to classify; name files or folders")
    return files


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, ready to classify.

    Attributes:
        name: What reports call it.
        trained: The network with its preprocessing and provenance.
        run: The run that it comes from, where it was loaded from one.
        file: The file that it comes from; what explanations need is looked for beside it.
    """

    name: str
    trained: TrainedModel
    run: Run | None = None
    file: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes, in the order of its outputs."""
        return self.trained.classes

    def settling(self, tolerance: float | None) -> Model:
        """Return the same model, which stops a picture where its probabilities have settled.

        Args:
            tolerance: The largest change that counts as none; ``None``: take all steps. See
                :class:`leukonca.nca.settling.Settling`.

        Raises:
            SettingError: ``tolerance`` is outside [0, 1].
        """
        settling = None if tolerance is None else Settling(tolerance)
        return replace(self, trained=self.trained.with_settling(settling))

    def views(self, views: int | None) -> Model:
        """Return the same model, which sees every picture in several orientations and averages.

        Its trust should be fitted for them; :meth:`calibrate` does so with the views of the model.

        Args:
            views: 1 (as it is) to 8; see :meth:`leukonca.learning.trained.TrainedModel.with_views`. ``None``:
                as many as before.

        Raises:
            SettingError: ``views`` is out of this range.
        """
        return self if views is None else replace(self, trained=self.trained.with_views(views))

    def classify(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        seeds: int = FIRING_SEEDS,
        coverage: float | None = None,
        foreign: float = FOREIGN_SHARE,
        progress: bool = False,
    ) -> Predictions:
        """Name the cell of every picture.

        Args:
            paths: A picture, a folder, or several of them.
            seeds: Firing seeds to average over; see ``Predictions.spread``.
            coverage: Give each cell the set of classes that holds the true one with this probability, in
                (0, 1); see ``Predictions.sets``.
            foreign: Do not name pictures so unlike the training cells that less than this share of held-out
                cells is; 0 names every picture.
            progress: Whether to show a progress bar.

        Returns:
            One row a file in their order; ``to_frame()`` makes it a table. A broken file is a row with its
            reason in ``errors``.

        Raises:
            DataError: There is no picture.
            ModelError: A coverage is asked of a model that was not calibrated.
            SettingError: A number is out of its range.
        """
        return predict(
            self.trained,
            files_of(paths),
            seeds=seeds,
            coverage=coverage,
            foreign=foreign,
            progress=progress,
        )

    def calibrate(
        self,
        data: PathLike | Sequence[PathLike] | Manifest,
        *,
        seeds: int = FIRING_SEEDS,
        progress: bool = False,
    ) -> Model:
        """Return the model with calibrated probabilities, prediction sets and a sense of foreign pictures.

        A trained model has all that. This is for models from before, and for other ``seeds`` or views; see
        :func:`leukonca.learning.trusting.calibrate`.

        Args:
            data: SPECs or a manifest: its training and validation cells, or other labelled cells of the same
                laboratory.
            seeds: Firing seeds to average over.
            progress: Whether to show progress bars.

        Raises:
            DataError: No cell to calibrate on is among the data.
        """
        manifest = data if isinstance(data, Manifest) else scan(_specs(data), progress=progress)
        return replace(self, trained=_calibrate(self.trained, manifest, seeds=seeds, progress=progress))

    def evaluate(
        self,
        data: PathLike | Sequence[PathLike] | Manifest | None,
        out: PathLike,
        *,
        split: Part = "auto",
        allow_seen: bool = False,
        statistics: Statistics = "model",
        seeds: int = FIRING_SEEDS,
        resamples: int = 1000,
        expect: Mapping[str, float] | None = None,
        progress: bool = False,
    ) -> Metrics:
        """Measure how good it is on labelled cells, and write a report.

        Args:
            data: SPECs or a manifest; ``None`` takes the test cells of the run that the model comes from.
            out: Folder of the report.
            split: ``auto``, ``train``, ``val``, ``test`` or ``all``; see
                :func:`leukonca.assessment.evaluate.choose`.
            allow_seen: Count cells that the model has seen in training.
            statistics: ``model`` or, to reproduce the paper's leak, ``target``.
            seeds: Firing seeds to average over.
            resamples: Of the bootstrap for the intervals.
            expect: Shares in which types occur among these cells, where they are not those of the training;
                ``leukonca.assessment.expected.BLOOD`` are those of blood.
            progress: Whether to show progress bars.

        Raises:
            DataError: No cell is left to measure on, or ``data`` is missing.
        """
        if data is None:
            if self.run is None:
                raise DataError(
                    f"{self.name}: is not the folder of a training run; name the cells with --data"
                )
            manifest = self.run.manifest
            if not (manifest.frame["split"] == "test").any():
                raise DataError(f"{self.name}: its run kept no test cells; name other cells with --data")
        else:
            manifest = _cells(data, progress)
        metrics, _ = _evaluate(
            self.trained,
            manifest,
            Path(out),
            name=self.name,
            part=split,
            allow_seen=allow_seen,
            statistics=statistics,
            seeds=seeds,
            resamples=resamples,
            expect=expect,
            history=self.run.history if self.run else None,
            progress=progress,
        )
        return metrics

    def adapt(
        self,
        data: PathLike | Sequence[PathLike] | Manifest,
        *,
        labels: int | None = None,
        seed: int = 0,
        source: PathLike | Sequence[PathLike] | Manifest | None = None,
        progress: bool = False,
    ) -> Model:
        """Fit it to another laboratory with a few of its cells.

        Args:
            data: SPECs or a manifest of the new laboratory's cells.
            labels: How many labels of each type to use; ``None``: all there are; 0: none, all cells are used
                unlabelled. See :func:`leukonca.learning.adaptation.adapt`.
            seed: Chooses the cells.
            source: The image set that it was trained on; needed only by models whose file does not know what
                their features are like on it.
            progress: Whether to show progress bars.

        Returns:
            The adapted model; this one stays as it is.

        Raises:
            DataError: There are too few cells, or none that the model can express.
            ModelError: The model cannot be adapted, or needs ``source``.
            SettingError: ``labels`` or ``seed`` is out of range.
        """
        trained = self.trained
        if source is not None:
            trained = with_pooled_statistics(trained, _cells(source, progress), progress=progress)
        adapted = _adapt(
            trained, _cells(data, progress), labels=labels, seed=seed, name=self.name, progress=progress
        )
        return Model(f"{self.name}-adapted", adapted)

    def explain(
        self,
        paths: PathLike | Sequence[PathLike],
        out: PathLike,
        *,
        explained: str | None = None,
        against: str | None = None,
        seeds: int = RELEVANCE_SEEDS,
        probes: PathLike | None = None,
        similar: PathLike | None = None,
        animation: bool = True,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Say why cells are called what they are called: a page and arrays for each, and a table.

        What the folder holds says :mod:`leukonca.explanation.explained_folder`. Interrupted with Ctrl-C, it
        holds what is done by then.

        Args:
            paths: A picture, a folder, or several of them.
            out: Folder to write into; a page of the same name is replaced.
            explained: The class to explain; ``None``: for each cell what it is called.
            against: The class to hold it against; ``None``: the most probable of the others.
            seeds: Firing seeds to average relevance over.
            probes: Probes of morphology; ``None``: those beside the model's file, if there are any.
            similar: Index of cells; ``None``: that beside the model's file, if there is one.
            animation: Whether pages have a film, which takes half of their bytes.
            progress: Whether to show a progress bar.

        Returns:
            The table, one row a file in their order. A broken file is a row with its reason in ``error``.

        Raises:
            DataError: There is no picture, or the folder cannot be written to.
            ModelError: The network is no automaton, or probes or index are not of this model.
            SettingError: A class is none of the model's, or a value is out of its range.
        """
        files = files_of(paths)
        explainer = Explainer(
            self.trained,
            explained=explained,
            against=against,
            seeds=seeds,
            morphology=find_probes(self.trained, self.file, probes),
            index=find_index(self.trained, self.file, similar),
        )
        folder = ExplainedFolder(out, explainer, name=self.name, animation=animation)
        try:
            for cell in explain_files(explainer, files, progress=progress):
                folder.add(cell)
        except KeyboardInterrupt:
            done = len(folder.rows)
            if not done:
                raise KeyboardInterrupt("no file was done, nothing is written") from None
            page = folder.write_overview(missing=len(files) - done)
            raise KeyboardInterrupt(f"{done} of {len(files)} files are done and in {page}") from None
        folder.write_overview()
        return folder.to_frame()

    def save(self, path: PathLike) -> None:
        """Write the model as one file."""
        save_bundle(self.trained, path)


def load(path: PathLike) -> Model:
    """Load a model: from its file, from the folder of a run (its best), or one of the package by name.

    A file or folder of that name counts first; ``leukonca models`` lists the names.

    Raises:
        ModelError: There is no such model, or the file is foreign, broken or newer.
    """
    source = Path(path)
    if not source.exists() and not source.suffix and source.name == os.fspath(path):
        shipped = find_shipped(source.name).file
        return Model(source.name, load_bundle(shipped), file=shipped)
    if Run.is_run(source):
        run = Run.open(source)
        if not (source / "best.safetensors").is_file():
            raise ModelError(f"{source}: this run has no model yet, no epoch has finished; resume it first")
        return Model(source.name or str(source), run.model(), run, source / "best.safetensors")
    if source.is_dir():
        raise ModelError(f"{source}: is a folder, but not that of a training run; name a model file")
    # A run's own file names say nothing; the run's does.
    of_run = source.stem in ("best", "last") and Run.is_run(source.parent)
    name = f"{source.absolute().parent.name} ({source.stem})" if of_run else source.stem
    return Model(name, load_bundle(source), file=source)


@dataclass(frozen=True, eq=False)
class Training:
    """What a training run gave.

    Attributes:
        run: The run's folder and settings.
        model: Its best model.
    """

    run: Run
    model: Model

    def to_frame(self) -> pd.DataFrame:
        """Return the history, one row an epoch."""
        return self.run.history


def train(
    data: PathLike | Sequence[PathLike] | Manifest,
    out: PathLike,
    settings: Settings | None = None,
    *,
    cache: PathLike | None = None,
    progress: bool = False,
    **changes: Any,
) -> Training:
    """Train a model.

    Args:
        data: SPECs (a folder with a folder for each class, a table, a published set) or a manifest.
        out: Folder of the run, new or empty.
        settings: See :class:`leukonca.learning.settings.Settings`; the defaults where there are none.
        cache: Folder in which several runs share their prepared pictures; by default each keeps its own.
        progress: Whether to show progress bars.
        **changes: Single settings by name, such as ``preset="tiny", epochs=5, change={"steps": 8}``.

    Raises:
        DataError: The data cannot be trained on, or the folder is not empty.
        SettingError: A setting is unknown or does not fit.
        TrainingError: The training diverged.
    """
    settings = _changed(settings or Settings(), changes)
    cells = data if isinstance(data, Manifest) else _specs(data)
    run = _train(cells, Path(out), settings, cache=Path(cache) if cache else None, progress=progress)
    return Training(run, load(run.folder))


def _specs(data: PathLike | Sequence[PathLike]) -> list[str]:
    return [os.fspath(spec) for spec in ([data] if isinstance(data, (str, os.PathLike)) else data)]


def _cells(data: PathLike | Sequence[PathLike] | Manifest, progress: bool) -> Manifest:
    return data if isinstance(data, Manifest) else scan(_specs(data), progress=progress)


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    change = changes.get("change")
    if isinstance(change, ArchitectureChanges):
        changes = {**changes, "change": asdict(change)}
    return Settings.from_dict({**settings.to_dict(), **changes})


def resume(out: PathLike, *, cache: PathLike | None = None, progress: bool = False) -> Training:
    """Go on with an interrupted training run; see :func:`train`."""
    return Training(_resume(Path(out), cache=Path(cache) if cache else None, progress=progress), load(out))


def evaluate(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike] | Manifest | None,
    out: PathLike,
    **options: Any,
) -> Metrics:
    """Measure a model; see :meth:`Model.evaluate` for the options."""
    return (model if isinstance(model, Model) else load(model)).evaluate(data, out, **options)
