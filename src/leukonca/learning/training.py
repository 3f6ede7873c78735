"""Training from a SPEC to a run folder with its best model."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.cells.source import known_sources
from leukonca.cells.splits import PARTS
from leukonca.errors import DataError, LeukoncaError, SettingError, TrainingError
from leukonca.learning.adaptation import SOURCE_CELLS, can_adapt, describe
from leukonca.learning.augmentation import preset as augmentation_preset
from leukonca.learning.balance import class_weights
from leukonca.learning.batches import Cells, CellsModule
from leukonca.learning.bundle import save_bundle
from leukonca.learning.callbacks import AtomicCheckpoints, History, Patience, Progress
from leukonca.learning.distillation import Teachers, described, load_teachers
from leukonca.learning.division import divide, with_classes
from leukonca.learning.losses import make_loss
from leukonca.learning.networks import build, require_buildable
from leukonca.learning.preparation import Prepared, prepare, shared_folder
from leukonca.learning.run import Run, versions
from leukonca.learning.settings import Precision, Settings
from leukonca.learning.standardisation import folded, standardise
from leukonca.learning.statistics import input_statistics
from leukonca.learning.task import ClassificationTask
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trusting import calibrate
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import image_id
from leukonca.vocabulary import class_set_of
from leukonca.writing import replacing

__all__ = ["resolved_precision", "resume", "train"]

_LOG = logging.getLogger(__name__)

# How much more than the input the prepared pictures show, so that turning and shifting need not invent.
# A found cell lies in the middle and fills the input, so that its surroundings have to reach farther.
_MARGIN, _MARGIN_OF_CELL = 1.25, 1.4


def train(
    data: Sequence[str] | Manifest,
    out: Path,
    settings: Settings | None = None,
    *,
    cache: Path | None = None,
    progress: bool = False,
) -> Run:
    """Train a new model.

    Args:
        data: SPECs, or a manifest.
        out: Folder of the run, new or empty.
        settings: See :class:`leukonca.learning.settings.Settings`.
        cache: Folder in which several runs share their prepared pictures; by default each keeps its own.
        progress: Whether to show progress bars.

    Returns:
        The run; ``run.model()`` is its best model.

    Raises:
        DataError: The data cannot be trained on, or the folder is not empty.
        SettingError: A setting does not fit.
        TrainingError: The training diverged, or its files cannot be written.
        KeyboardInterrupt: Ctrl-C; the run can be resumed.
    """
    settings = settings or Settings()
    require_buildable(settings.architecture())
    manifest = data if isinstance(data, Manifest) else scan(data, progress=progress)
    specs = () if isinstance(data, Manifest) else tuple(data)
    manifest = with_classes(manifest, settings.classes)
    run = Run(out, settings, specs, resolved_precision(settings.precision))
    run.create()
    try:
        return _begin(run, manifest, cache, progress=progress)
    except LeukoncaError as error:
        begun = any((out / name).is_file() for name in ("history.csv", "resume.ckpt"))
        if not (out / "cells.csv").is_file() or (isinstance(error, SettingError) and not begun):
            # The data do not fit the settings: leave the folder free for the next attempt.
            shutil.rmtree(out, ignore_errors=True)
        raise


def _begin(run: Run, manifest: Manifest, cache: Path | None, *, progress: bool) -> Run:
    prepared = _prepare(run, manifest, cache, progress=progress)
    skipped = pd.DataFrame({"path": manifest.frame["path"], "reason": prepared.errors})[~prepared.ok]
    with replacing(run.folder / "skipped.csv") as draft:
        skipped.to_csv(draft, index=False, encoding="utf-8", errors="surrogateescape")
    manifest = manifest.with_column("hash", prepared.hashes)
    # Unreadable files stay in the table, in no part, so that its rows are those of the prepared pictures.
    split = np.full(len(manifest), "", dtype=object)
    split[prepared.ok] = divide(manifest.subset(prepared.ok), run.settings).frame["split"]
    manifest = manifest.with_column("split", split)
    manifest.write(run.folder / "cells.csv")
    return _fit(run, manifest, prepared, progress=progress)


def resume(folder: Path, *, cache: Path | None = None, progress: bool = False) -> Run:
    """Go on with an interrupted run, to the same weights as if it had not been interrupted.

    Raises:
        DataError: The folder is not that of a run, or its pictures have changed since.
        SettingError: The run is of a baseline, and MONAI is not installed.
        TrainingError: The training diverged, or its files are damaged or cannot be written.
        KeyboardInterrupt: Ctrl-C; the run can be resumed again.
    """
    run = Run.open(folder)
    require_buildable(run.settings.architecture())
    if not (folder / "cells.csv").is_file():
        # Killed before the cells were divided: nothing to lose, begin again in the same folder.
        if not run.data:
            raise DataError(
                f"{folder}: was interrupted before its cells were divided; train again from the manifest"
            )
        manifest = with_classes(scan(run.data, progress=progress), run.settings.classes)
        return _begin(run, manifest, cache, progress=progress)
    manifest = run.manifest
    prepared = _prepare(run, manifest, cache, progress=progress)
    changed = np.flatnonzero(np.array(prepared.hashes) != manifest.frame["hash"].to_numpy())
    if len(changed):
        raise DataError(
            f"{len(changed)} pictures have changed since the run began, the first: "
            f"{manifest.frame['path'].iloc[changed[0]]}; restore them or train anew"
        )
    return _fit(run, manifest, prepared, progress=progress)


def resolved_precision(wanted: Precision) -> Precision:
    """Return what ``auto`` means on this machine."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def _prepare(run: Run, manifest: Manifest, cache: Path | None, *, progress: bool) -> Prepared:
    framing = run.settings.framing()
    canvas = framing.with_margin(_MARGIN_OF_CELL if framing.fit == "cell" else _MARGIN)
    paths = manifest.frame["path"].tolist()
    if cache is None:
        return prepare(paths, canvas, run.folder / "prepared", progress=progress)
    return prepare(paths, canvas, shared_folder(cache, paths, canvas), shared=True, progress=progress)


def _fit(run: Run, manifest: Manifest, prepared: Prepared, *, progress: bool) -> Run:
    settings, frame = run.settings, manifest.frame
    classes = class_set_of(frame["label"][frame["split"] != ""])
    number = {name: index for index, name in enumerate(classes)}
    images = np.array([image_id(hash_) if hash_ else 0 for hash_ in prepared.hashes], dtype=np.int64)

    def part(name: str) -> Cells:
        rows = np.flatnonzero((frame["split"] == name).to_numpy())
        labels = np.array([number[label] for label in frame["label"].iloc[rows]], dtype=np.int64)
        return Cells(prepared.pictures, images, rows, labels)

    training, validation = part("train"), part("val")
    held_out = np.concatenate([validation.rows, part("test").rows])
    teachers = load_teachers(
        settings.teachers,
        settings.distill_temperature,
        classes=classes,
        framing=settings.framing(),
        held_out=images[held_out],
    )
    statistics = input_statistics(training.blocks())
    # Only the start weights come from a stream, and that stream is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build(settings.architecture(), len(classes))
        parameters = network.parameter_count  # of the model that is kept, without what only helps training
        if isinstance(network, CellClassifier):
            if settings.start == "random":
                network.rule.stir()
            if settings.pooled_norm == "batch" and network.architecture.head == "mlp":
                standardise(network)
    weights = None
    if settings.balance == "weights":
        weights = class_weights(training.labels, len(classes), scheme=settings.weight_scheme).tolist()
    task = ClassificationTask(
        network,
        make_loss(
            settings.loss,
            class_weights=weights,
            label_smoothing=settings.label_smoothing,
            gamma=settings.focal_gamma,
        ),
        settings,
        augmentation_preset(settings.augmentation),
        settings.framing(),
        statistics,
        frame["path"].tolist(),
        teachers,
    )
    module = CellsModule(
        training, validation, batch=settings.batch, seed=settings.seed, balance=settings.balance
    )
    _LOG.info(
        "%d training and %d validation cells of %d classes; %d parameters; %s",
        len(training),
        len(validation),
        len(classes),
        parameters,
        run.precision,
    )

    def keep(which: str, row: dict[str, float]) -> None:
        model = TrainedModel(
            network=folded(task.best_network),
            classes=classes,
            framing=settings.framing(),
            normalisation=settings.normalisation,
            statistics=statistics,
            loss=settings.loss,
            provenance=_provenance(run, manifest, row, teachers),
            seen_training=np.sort(images[training.rows]),
            seen_validation=np.sort(images[validation.rows]),
        )
        save_bundle(model, run.folder / f"{which}.safetensors")

    monitor = f"val/{settings.monitor}"
    callbacks: list[Callback] = [
        History(run.folder / "history.csv", monitor, keep),
        ModelCheckpoint(
            run.folder, "resume", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
        ),
    ]
    if settings.patience:
        mode = "min" if settings.monitor == "loss" else "max"
        callbacks.append(Patience(monitor, patience=settings.patience, mode=mode))
    if progress:
        callbacks.append(Progress(len(training), -(-len(training) // settings.batch)))
    with _quiet_lightning(), _own_interrupt():
        trainer = Trainer(
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=1,
            precision="bf16-mixed" if run.precision == "bfloat16" else "32-true",
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip or None,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            plugins=[AtomicCheckpoints()],
            logger=TensorBoardLogger(run.folder, name="tensorboard", version=""),
            log_every_n_steps=1 << 30,
            enable_progress_bar=progress,
            enable_model_summary=False,
        )
        checkpoint = run.folder / "resume.ckpt"
        try:
            trainer.fit(
                task,
                datamodule=module,
                ckpt_path=checkpoint if checkpoint.is_file() else None,
                weights_only=True,
            )
        except OSError as error:
            raise TrainingError(
                f"{run.folder}: the run cannot be written: {error}; free some space and resume it"
            ) from error
    _describe_features(run, training)
    best = run.model()
    if best.trust is None:
        save_bundle(calibrate(best, manifest, progress=progress), run.folder / "best.safetensors")
    return run


def _describe_features(run: Run, training: Cells) -> None:
    """Let the best model know what its features are like at home, so that it can be adapted elsewhere."""
    model = run.model()
    if model.pooled is not None or not can_adapt(model):
        return
    some = np.linspace(0, len(training) - 1, min(len(training), SOURCE_CELLS)).round().astype(np.int64)
    rows = np.sort(training.rows[some])
    border = (training.pictures.shape[1] - model.framing.size) // 2
    inner = slice(border, border + model.framing.size)
    pictures = np.ascontiguousarray(training.pictures[rows][:, inner, inner])
    described = replace(model, pooled=describe(model, pictures, training.images[rows]))
    save_bundle(described, run.folder / "best.safetensors")


def _provenance(
    run: Run, manifest: Manifest, row: dict[str, float], teachers: Teachers | None
) -> dict[str, Any]:
    frame, settings = manifest.frame, run.settings
    counts = pd.crosstab(frame["label"], frame["split"])
    known = [source for name, source in known_sources().items() if name in set(frame["source"])]
    return {
        "sources": sorted(frame["source"].unique()),
        "citations": sorted({source.citation for source in known}),
        "licences": sorted({source.licence for source in known}),
        "cells": {
            part: {str(name): int(count) for name, count in counts[part].items()}
            for part in PARTS
            if part in counts
        },
        "epoch": int(row["epoch"]),
        "validation": {name: row[f"val/{name}"] for name in ("loss", "accuracy", "macro_f1")},
        "settings": settings.to_dict(),
        **({"teachers": described(teachers)} if teachers else {}),
        "precision": run.precision,
        "versions": versions(settings.architecture()),
    }


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice (workers, accelerators, products) from the user of leukonca."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            # The folder of a run may be moved or renamed before it is resumed.
            warnings.filterwarnings("ignore", "The dirpath has changed")
            # Lightning's own use of a name that PyTorch has retired.
            warnings.filterwarnings("ignore", ".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Let Ctrl-C be a ``KeyboardInterrupt``: Lightning ends the process, and stays deaf to further ones."""
    here = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if here and handler is not None:
            signal.signal(signal.SIGINT, handler)
