"""Fitting a trained model to another laboratory with a few of its cells.

What differs between laboratories (stain, camera, magnification) moves and stretches the pooled features. Both
can be undone without any label, by bringing mean and spread of each feature to what they were on the training
cells (a diagonal form of CORAL; B. Sun, J. Feng, K. Saenko, AAAI 2016). With labels the head is learnt anew
from there, held to the old one. The automaton itself stays as it is, and so the model's size and speed.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from leukonca._version import __version__
from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, ModelError, SettingError
from leukonca.learning.balance import limit_per_class
from leukonca.learning.geometry import SYMMETRIES, views
from leukonca.learning.pooled import PooledStatistics, shrunk
from leukonca.learning.preparation import read_framed
from leukonca.learning.refit import Weights, choose_penalty, fold_in, refit, weights_of
from leukonca.learning.statistics import normalise
from leukonca.learning.trained import TrainedModel
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import image_id
from leukonca.vocabulary import project

__all__ = [
    "FEWEST_LABELS",
    "SOURCE_CELLS",
    "Observed",
    "adapt",
    "can_adapt",
    "choose_cells",
    "describe",
    "fit",
    "observe",
    "source_of",
    "with_pooled_statistics",
]

_LOG = logging.getLogger(__name__)

FEWEST_LABELS: Final = 5
"""Of fewer labels a class nothing can be held out to choose by."""

SOURCE_CELLS: Final = 2000
"""So many training cells at most tell what the pooled features are like at home."""

_FIRING_SEEDS: Final = 2
_FOLDS: Final = 5
_BATCH: Final = 64

Floats = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int64]


def can_adapt(model: TrainedModel) -> bool:
    """Whether a model has what adaptation works on: pooled features and a head of two layers."""
    try:
        _parts(model.network)
    except ModelError:
        return False
    return True


def describe(model: TrainedModel, pictures: Pictures, images: Ids) -> PooledStatistics:
    """Return mean and spread of the pooled features of framed pictures.

    Args:
        model: The model.
        pictures: uint8 [n, S, S, 3], at least one.
        images: int64 [n], their identities.
    """
    return PooledStatistics.of(_pooled(model, pictures, images, symmetries=1, progress=False))


def with_pooled_statistics(
    model: TrainedModel, manifest: Manifest, *, progress: bool = False
) -> TrainedModel:
    """Return the model with the statistics of its features, from those of its training cells among the data.

    For models whose file holds none; training computes them itself.

    Raises:
        DataError: None of its training cells is among the data.
    """
    cells = _read(manifest.frame["path"].tolist(), model, "recognising", progress=progress)
    rows = np.flatnonzero(np.isin(cells.images, model.seen_training))
    if not len(rows):
        raise DataError(
            f"none of the {len(manifest)} cells is one that the model was trained on; name the image set of "
            "its training"
        )
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), SOURCE_CELLS)).round().astype(int)]
    return replace(model, pooled=describe(model, cells.pictures[rows], cells.images[rows]))


def adapt(
    model: TrainedModel,
    manifest: Manifest,
    *,
    labels: int | None = None,
    seed: int = 0,
    name: str = "",
    progress: bool = False,
) -> TrainedModel:
    """Fit a model to another laboratory.

    Each cell is seen in all eight orientations under two firing seeds. Mean and spread of the pooled features
    are brought to those of the training cells, as far as the number of cells can tell them apart from chance
    (:func:`leukonca.learning.pooled.shrunk`). With labels the head is then learnt anew
    (:func:`leukonca.learning.refit.refit`), all labels weighing alike; how strongly it is held to the old one
    is chosen by cross-validation within the given cells, and it stays where that is best.

    Args:
        model: A model with pooled statistics.
        manifest: Cells of the new laboratory, a mixture of types as it comes there. Labels may be coarser or
            finer than the model's classes, or only some of them.
        labels: How many labels of each type to use, at least 5, and all where a type has fewer; ``None`` uses
            all. Cells beyond that are not used at all. 0 uses all cells, and no label is read.
        seed: Chooses the cells, at least 0.
        name: What provenance calls the parent.
        progress: Whether to show a progress bar.

    Returns:
        The adapted model. The cells count as seen in training, so no assessment takes them. It is not
        calibrated: its parent's ``trust`` does not hold for it.

    Raises:
        DataError: There are too few cells, or none that the model can express.
        ModelError: The model has no pooled statistics, or a head that cannot be adapted.
        SettingError: ``labels`` or ``seed`` is out of range.
    """
    source_of(model)
    cells = observe(model, choose_cells(model, manifest, labels, seed), progress=progress)
    return fit(model, cells, labelled=labels != 0, seed=seed, name=name)


def choose_cells(model: TrainedModel, manifest: Manifest, labels: int | None, seed: int) -> Manifest:
    """Return the cells that :func:`adapt` uses.

    Raises:
        DataError: Fewer than two types that the model knows are labelled, where labels are asked for.
        SettingError: ``labels`` or ``seed`` is out of range.
    """
    if labels is not None and labels != 0 and labels < FEWEST_LABELS:
        raise SettingError(f"labels={labels} must be 0, or at least {FEWEST_LABELS} a type")
    if seed < 0:
        raise SettingError(f"seed={seed} must be at least 0")
    if labels == 0:
        return manifest
    manifest = _labelled(manifest, model.classes)
    if labels is None:
        return manifest
    codes = manifest.frame["label"].astype("category").cat.codes.to_numpy(dtype=np.int64)
    return manifest.subset(limit_per_class(codes, labels, seed))


@dataclass(frozen=True, eq=False)
class Observed:
    """Cells as the automaton sees them.

    Attributes:
        manifest: The n readable cells, each picture once.
        images: int64 [n], their identities.
        features: float64 [V, n, P], their pooled features in every orientation and under every firing seed.
    """

    manifest: Manifest
    images: Ids
    features: Floats

    def take(self, manifest: Manifest) -> Observed:
        """Return those of some of the files; files that were left out stay left out."""
        place = {path: row for row, path in enumerate(self.manifest.frame["path"])}
        rows = np.array([place[path] for path in manifest.frame["path"] if path in place], dtype=np.int64)
        return Observed(self.manifest.subset(rows), self.images[rows], self.features[:, rows])


def observe(model: TrainedModel, manifest: Manifest, *, progress: bool = False) -> Observed:
    """Run the automaton on cells in all eight orientations under two firing seeds.

    Raises:
        ModelError: The model cannot be adapted.
    """
    cells = _read(manifest.frame["path"].tolist(), model, "reading", progress=progress)
    features = _pooled(model, cells.pictures, cells.images, symmetries=SYMMETRIES, progress=progress)
    return Observed(manifest.subset(cells.rows), cells.images, features)


def fit(
    model: TrainedModel, cells: Observed, *, labelled: bool, seed: int = 0, name: str = ""
) -> TrainedModel:
    """Fit a model to observed cells; see :func:`adapt`.

    Args:
        model: The model that observed them.
        cells: Of the new laboratory.
        labelled: Whether to learn from their labels.
        seed: What provenance calls the seed.
        name: What provenance calls the parent.

    Raises:
        DataError: There are fewer than two cells.
        ModelError: The model cannot be adapted.
    """
    source, manifest = source_of(model), cells.manifest
    if len(manifest) < 2:
        raise DataError(
            f"{len(manifest)} readable cells are too few to adapt to; give some of each type, better dozens"
        )
    target = shrunk(source, PooledStatistics.of(cells.features), len(manifest))
    network, head = _parts(copy.deepcopy(model.network))
    weights = weights_of(head, source.mean, source.spread)
    note: dict[str, Any] = {
        "parent": name,
        "parent_weights": _fingerprint(model),
        "leukonca": __version__,
        "sources": sorted(manifest.frame["source"].unique()),
        "cells": len(manifest),
        "labels": {},
        "seed": seed,
    }
    if labelled:
        standardised = target.standardised(cells.features)
        weights, learnt = _with_labels(model, weights, standardised, manifest, cells.images)
        note |= learnt
    fold_in(head, weights, target.mean, target.spread)
    # What was fitted on other weights is not taken over: only what is named here.
    return TrainedModel(
        network=network,
        classes=model.classes,
        framing=model.framing,
        normalisation=model.normalisation,
        statistics=model.statistics,
        loss=model.loss,
        provenance={**model.provenance, "adapted": [*model.provenance.get("adapted", []), note]},
        seen_training=np.union1d(model.seen_training, cells.images),
        seen_validation=model.seen_validation,
        pooled=target,
    )


def _with_labels(
    model: TrainedModel, weights: Weights, features: Floats, manifest: Manifest, images: Ids
) -> tuple[Weights, dict[str, Any]]:
    """The head learnt anew, and what provenance says of it."""
    labels = manifest.frame["label"].tolist()
    allowed = _allowed(labels, model.classes)
    found = choose_penalty(weights, features, allowed, _folds(manifest, images), model.loss)
    if found.penalty is None:
        _LOG.info("the old head is kept: no new one was better on held-out cells")
    else:
        _LOG.info("a new head, learnt from %d cells with the penalty %g", len(labels), found.penalty)
        weights = refit(weights, features, allowed, found.penalty, model.loss)
    return weights, {
        "labels": dict(sorted(Counter(labels).items())),
        "penalty": found.penalty,
        "held_out_cost": {str(penalty): round(cost, 6) for penalty, cost in found.costs.items()},
    }


def source_of(model: TrainedModel) -> PooledStatistics:
    """Return what the features of a model are like on its training cells.

    Raises:
        ModelError: It does not know, or cannot be adapted.
    """
    _parts(model.network)
    if model.pooled is None:
        raise ModelError(
            "the model file does not say what its features are like on its training cells; name the image "
            "set that it was trained on as the source"
        )
    return model.pooled


def _parts(network: nn.Module) -> tuple[CellClassifier, nn.Sequential]:
    """The automaton and its head of two layers."""
    # The conv head has layers as well, but it sees the grid.
    if isinstance(network, CellClassifier) and network.architecture.head == "mlp":
        head = network.head
        if isinstance(head, nn.Sequential):
            return network, head
    raise ModelError(
        "this model cannot be adapted: only an automaton can whose head is 'mlp', as in the presets base, "
        "tiny and paper"
    )


def _labelled(manifest: Manifest, classes: Sequence[str]) -> Manifest:
    """The cells with a label that the model can express."""
    labels = manifest.frame["label"]
    usable = {label: bool(_expressions(label, classes)) for label in labels.unique()}
    foreign = Counter(label for label in labels if label and not usable[label])
    for label, count in sorted(foreign.items()):
        _LOG.warning("%d cells labelled %r left out: the model has no class for them", count, label)
    kept = manifest.subset(labels.map(usable).to_numpy(dtype=bool))
    if kept.frame["label"].nunique() < 2:
        raise DataError(
            f"adapting with labels needs cells of at least 2 types that the model knows "
            f"({', '.join(classes)}); these have {', '.join(kept.classes) or 'none'}"
        )
    return kept


def _expressions(label: str, classes: Sequence[str]) -> list[str]:
    """The model's classes that a cell with this label may be called; empty where there is none."""
    if not label:
        return []
    finer = [name for name in classes if project(name, (label,))]
    coarser = project(label, classes)
    return finer or ([coarser] if coarser else [])


def _allowed(labels: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    known = {label: _expressions(label, classes) for label in set(labels)}
    return np.array([[name in known[label] for name in classes] for label in labels], dtype=bool)


def _folds(manifest: Manifest, images: Ids) -> Ids:
    """A fold for each cell: every label spread over all, groups whole; rare labels may miss some."""
    frame = manifest.frame
    units = frame["group"].where(frame["group"] != "", [f"cell {image}" for image in images]).to_numpy()
    fold: dict[str, int] = {}
    # An identity is a hash, so that their order is as good as drawn.
    for row in np.lexsort((images, frame["label"].to_numpy().astype(str))):
        fold.setdefault(units[row], len(fold) % _FOLDS)
    return np.array([fold[unit] for unit in units], dtype=np.int64)


class _Read(NamedTuple):
    """The readable files, each picture once."""

    pictures: Pictures  # uint8 [n, S, S, 3]
    images: Ids  # int64 [n]
    rows: Ids  # int64 [n], places among the files


def _read(paths: list[str], model: TrainedModel, doing: str, *, progress: bool) -> _Read:
    found: dict[int, tuple[int, Pictures]] = {}
    cells = read_framed(paths, model.framing)
    for row, (picture, hash_, error) in enumerate(
        tqdm(cells, total=len(paths), desc=doing, unit=" cells", disable=not progress)
    ):
        if picture is None:
            _LOG.warning("left out: %s: %s", paths[row], error)
        else:
            found.setdefault(image_id(hash_), (row, picture))
    size = model.framing.size
    return _Read(
        np.array([picture for _, picture in found.values()], np.uint8).reshape(-1, size, size, 3),
        np.array(list(found), dtype=np.int64),
        np.array([row for row, _ in found.values()], dtype=np.int64),
    )


@torch.inference_mode()
def _pooled(
    model: TrainedModel, pictures: Pictures, images: Ids, *, symmetries: int, progress: bool
) -> Floats:
    """The pooled features of some orientations under some firing seeds, float64 [V, n, P]."""
    network, _ = _parts(model.network)
    network.eval()
    size = model.framing.size
    parts = []
    with tqdm(total=len(pictures), desc="adapting", unit=" cells", disable=not progress) as bar:
        for start in range(0, len(pictures), _BATCH):
            batch = torch.from_numpy(pictures[start : start + _BATCH]).to(model.device)
            ids = torch.from_numpy(images[start : start + _BATCH]).to(model.device)
            canvas = batch.permute(0, 3, 1, 2).float() / 255
            turned = views(canvas, size, "dihedral" if symmetries > 1 else "none")[:symmetries]
            parts.append(
                torch.stack(
                    [
                        network.rollout(
                            normalise(view, model.normalisation, model.statistics), ids, seed=seed
                        ).pooled.double()
                        for view in turned
                        for seed in model.firing_seeds(_FIRING_SEEDS)
                    ]
                ).cpu()
            )
            bar.update(len(batch))
    features: Floats = torch.cat(parts, dim=1).numpy()
    return features


def _fingerprint(model: TrainedModel) -> str:
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
