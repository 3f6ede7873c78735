"""Learning how far a model can be trusted, from cells that it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import multiclass_calibration_error
from tqdm import tqdm

from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, SettingError
from leukonca.learning.augmentation import PRESETS, augment, picture_seeds
from leukonca.learning.calibration import fit_temperature
from leukonca.learning.familiarity import FEWEST_HELD_OUT, Familiarity
from leukonca.learning.preparation import read_framed
from leukonca.learning.recognition import identities, in_groups_of
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trust import FIRING_SEEDS, Trust
from leukonca.nca.firing import image_id
from leukonca.vocabulary import project

__all__ = ["calibrate"]

_LOG = logging.getLogger(__name__)

_BATCH = 64
_VARIED = 2000  # so many training cells at most show what another appearance does to the features
_BINS = 15  # of the calibration error, as in every report

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def calibrate(
    model: TrainedModel, manifest: Manifest, *, seeds: int = FIRING_SEEDS, progress: bool = False
) -> TrainedModel:
    """Return the model with a :class:`~leukonca.learning.trust.Trust` fitted on held-out cells.

    These are the model's own validation cells where some of them are among the data, recognised by their
    content. Otherwise they are all cells that it was not trained on, without those that the data keep for a
    test (``split``) and without the patients and slides of its training cells. What its training cells are
    like is learnt from those among the data. No other cell has a say.

    Args:
        model: The model, with the ``views`` that it will be used with; a trust that it has is replaced.
        manifest: Labelled cells.
        seeds: Firing seeds to average over, at least 1: as many as it will be used with.
        progress: Whether to show progress bars.

    Returns:
        The model. Cells that were not its validation cells before are now: no later assessment counts them.

    Raises:
        DataError: No cell to calibrate on is left, or none can be read.
        SettingError: ``seeds`` is below 1.
    """
    if seeds < 1:
        raise SettingError(f"seeds={seeds} must be at least 1")
    manifest = _expressible(model, manifest)
    frame = manifest.frame
    ids = identities(manifest, progress=progress)
    trained, own = np.isin(ids, model.seen_training), np.isin(ids, model.seen_validation)
    if own.any():
        held_out, kind = own, "the model's validation cells"
    else:
        held_out = (ids != 0) & ~trained & ~in_groups_of(frame, trained) & frame["split"].isin(("", "val"))
        kind = "cells that the model was not trained on"
        if not held_out.any():
            raise DataError(
                f"none of the {len(frame)} labelled cells can be calibrated on: the model's validation cells "
                f"are not among them, and {int(trained.sum())} are of its training; name other cells"
            )
    number = {name: index for index, name in enumerate(model.classes)}
    labels = np.array([number[label] for label in frame["label"]], dtype=np.int64)
    paths = frame["path"].to_numpy(dtype=object)
    seen = _observe(model, paths[held_out].tolist(), labels[held_out], seeds, progress=progress)
    if not len(seen.labels):
        raise DataError(f"none of the {int(held_out.sum())} cells to calibrate on can be read")
    temperature = fit_temperature(seen.logits, seen.labels, model.loss)
    familiarity = None
    if len(seen.labels) >= FEWEST_HELD_OUT and trained.any():
        # One run is enough for means and a covariance; the held-out cells show what more of them change.
        once = model.with_views(1)
        known = _observe(once, paths[trained].tolist(), labels[trained], 1, progress=progress)
        if len(known.labels):
            # An identity is a hash: the smallest of them are as good as drawn.
            varied = np.flatnonzero(trained)[np.argsort(ids[trained], kind="stable")[:_VARIED]]
            shifts = _shifts(once, paths[varied].tolist(), progress=progress)
            familiarity = Familiarity.fit(known.features[0], known.labels, seen.features, shifts)
    if familiarity is None:
        _LOG.info("what training cells are like cannot be learnt: foreign pictures will not be recognised")
    before, after = (model.stated(seen.logits, temperature=t).mean(axis=0) for t in (1.0, temperature))
    scores = np.sort((1 - after[np.arange(len(after)), seen.labels]).clip(0, 1).astype(np.float32))
    errors = {name: _ece(p, seen.labels) for name, p in (("before", before), ("after", after))}
    fitted = {
        "cells": len(seen.labels),
        "kind": kind,
        "training_cells": int(trained.sum()) if familiarity else 0,
        "seeds": seeds,
        **({"views": model.views} if model.views > 1 else {}),
        "ece": errors,
    }
    _LOG.info(
        "calibrated on %d cells (%s): temperature %.3f, calibration error of these cells %.4f, was %.4f",
        len(seen.labels),
        kind,
        temperature,
        errors["after"],
        errors["before"],
    )
    return replace(
        model,
        trust=Trust(temperature, scores, familiarity, fitted),
        seen_validation=np.union1d(model.seen_validation, ids[held_out]),
    )


def _expressible(model: TrainedModel, manifest: Manifest) -> Manifest:
    """The cells whose label the model has a class for, labelled by it."""
    labels = manifest.frame["label"].map(lambda label: project(label, model.classes) or "")
    kept = (labels != "").to_numpy()
    if not kept.any():
        raise DataError(
            f"none of the {len(labels)} cells has a label among the model's classes "
            f"({', '.join(model.classes)}); name labelled cells of these types"
        )
    if not kept.all():
        _LOG.info("%d cells without a label among the model's classes: left out", int((~kept).sum()))
    return manifest.with_column("label", labels).subset(kept)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the network made of the n readable files: logits [R, n, K], features [V, n, F], labels [n]."""

    logits: Floats
    features: Floats
    labels: Ints


def _observe(model: TrainedModel, paths: Sequence[str], labels: Ints, seeds: int, *, progress: bool) -> _Seen:
    logits: list[Floats] = []
    features: list[Floats] = []
    readable: list[bool] = []
    cells = read_framed(paths, model.framing)
    with tqdm(total=len(paths), desc="calibrating", unit=" cells", disable=not progress) as bar:
        while part := list(islice(cells, _BATCH)):
            readable += [picture is not None for picture, _, _ in part]
            pictures = [picture for picture, _, _ in part if picture is not None]
            if pictures:
                images = np.array([image_id(hash_) for _, hash_, error in part if not error], dtype=np.int64)
                observed = model.observe(np.stack(pictures), images, seeds)
                logits.append(observed.logits)
                features.append(observed.features)
            bar.update(len(part))
    return _Seen(
        np.concatenate(logits, axis=1) if logits else np.empty((seeds, 0, len(model.classes))),
        np.concatenate(features, axis=1) if features else np.empty((1, 0, 0)),
        labels[np.array(readable, dtype=bool)],
    )


def _shifts(model: TrainedModel, paths: Sequence[str], *, progress: bool) -> Floats | None:
    """By how much the features move, float64 [n, F], where stain, camera and focus vary as in the training.

    ``None`` for a model whose training is not known, or varied none of them: it was not taught to bear it.
    """
    settings = model.provenance.get("settings")
    name = settings.get("augmentation") if isinstance(settings, dict) else None
    appearance = PRESETS.get(str(name), PRESETS["none"]).appearance()
    if appearance == PRESETS["none"]:
        return None
    shifts: list[Floats] = []
    cells = read_framed(paths, model.framing)
    with tqdm(total=len(paths), desc="varying", unit=" cells", disable=not progress) as bar:
        while part := list(islice(cells, _BATCH)):
            bar.update(len(part))
            readable = [(picture, image_id(hash_)) for picture, hash_, _ in part if picture is not None]
            if not readable:
                continue
            pictures = np.stack([picture for picture, _ in readable])
            images = np.array([image for _, image in readable], dtype=np.int64)
            canvas = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
            seeds = picture_seeds(0, 0, torch.from_numpy(images))
            varied = augment(canvas, appearance, model.framing.size, seeds=seeds)
            changed = (varied * 255).round().byte().permute(0, 2, 3, 1).numpy()
            # The same sites fire for both, so that only the appearance moves the features.
            before, after = (model.observe(each, images, 1).features[0] for each in (pictures, changed))
            shifts.append(after - before)
    return np.concatenate(shifts) if shifts else None


def _ece(probabilities: Floats, labels: Ints) -> float:
    stated: Any = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), probabilities.shape[1], n_bins=_BINS
    )
    return float(stated)
