"""Fitting the probes of :mod:`leukonca.explanation.morphology` to cells whose attributes were described.

WBCAtt (S. Tsutsui et al., *WBCAtt: a white blood cell dataset annotated with detailed morphological
attributes*, NeurIPS 2023) describes 10,298 cells of Acevedo-20 by eleven attributes. Probes are fitted on its
training part; the strength of their regularisation is chosen on its validation part, by macro-F1.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from tqdm import tqdm

from leukonca.cells.manifest import read_table
from leukonca.errors import DataError, ModelError, SettingError
from leukonca.explanation.automaton import automaton_of
from leukonca.explanation.features import SEEDS, CellVectors, vectors_of
from leukonca.explanation.morphology import Morphology, Probe, log_odds
from leukonca.explanation.storage import fingerprint
from leukonca.learning.preparation import read_framed
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id

__all__ = [
    "STRENGTHS",
    "DescribedCells",
    "FileVectors",
    "fit_morphology",
    "probe",
    "read_wbcatt",
    "vectors_of_files",
]

_LOG = logging.getLogger(__name__)

STRENGTHS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Inverse strengths of the regularisation among which one is chosen for each attribute."""

_BATCH: Final = 64
_LEAST_SPREAD: Final = 1e-6
_ITERATIONS: Final = 1000

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DescribedCells:
    """Cells with attributes.

    Attributes:
        paths: The N pictures.
        labels: Their N classes.
        parts: ``train``, ``val`` or ``test`` of each.
        attributes: N values of each attribute, by its name.
    """

    paths: list[str]
    labels: list[str]
    parts: list[str]
    attributes: dict[str, list[str]]

    def part(self, name: str) -> Mask:
        """Bool [N]: the cell belongs to a part."""
        return np.array([part == name for part in self.parts], dtype=bool)


def read_wbcatt(folder: str | os.PathLike[str], pictures: str | os.PathLike[str]) -> DescribedCells:
    """Read WBCAtt.

    Args:
        folder: Where ``pbc_attr_v1_train.csv``, ``…_val.csv`` and ``…_test.csv`` are.
        pictures: The folder of Acevedo-20 with the folders of its classes.

    Raises:
        DataError: A table or a picture is missing, or a table lacks a column.
    """
    frames = []
    for part in ("train", "val", "test"):
        file = Path(folder) / f"pbc_attr_v1_{part}.csv"
        frame = read_table(file)
        if missing := [name for name in ("path", "label", "img_name") if name not in frame]:
            raise DataError(f"{file}: has no column {missing[0]!r}; take the tables of WBCAtt as published")
        frames.append(frame.assign(part=part))
    whole = pd.concat(frames, ignore_index=True)
    # The first folder of a path is that of the published archive, which is not here.
    paths = [str(Path(pictures) / written.split("/", 1)[-1]) for written in whole["path"]]
    if lost := [path for path in paths if not os.path.exists(path)]:
        raise DataError(
            f"{lost[0]}: does not exist (nor do {len(lost) - 1} others of {len(paths)}); name the folder of "
            "Acevedo-20 that holds the folders of its classes"
        )
    names = [name for name in whole.columns if name not in ("path", "label", "img_name", "part")]
    return DescribedCells(
        paths,
        whole["label"].tolist(),
        whole["part"].tolist(),
        {str(name): whole[name].tolist() for name in names},
    )


@dataclass(frozen=True, eq=False)
class FileVectors:
    """The vectors of N files.

    Attributes:
        vectors: Of all N; of a file that could not be read they are NaN.
        images: int64 [N], identities; -1 for such a file.
    """

    vectors: CellVectors
    images: npt.NDArray[np.int64]

    @property
    def ok(self) -> Mask:
        """Bool [N]: the file was read."""
        return self.images >= 0


def vectors_of_files(
    model: TrainedModel, paths: Sequence[str], *, seeds: int = SEEDS, progress: bool = False
) -> FileVectors:
    """Return the vectors of files; one that cannot be read is logged and marked.

    Args:
        model: An automaton.
        paths: Files, or members of archives.
        seeds: Firing seeds to average over, at least 1.
        progress: Whether to show a progress bar.

    Raises:
        DataError: None of the files can be read.
        ModelError: The network is no automaton.
        SettingError: ``seeds`` is below 1.
    """
    images = np.full(len(paths), -1, dtype=np.int64)
    found: list[CellVectors] = []
    reading = read_framed(paths, model.framing)
    with tqdm(total=len(paths), desc="looking at cells", unit=" cells", disable=not progress) as bar:
        for start in range(0, len(paths), _BATCH):
            part = list(islice(reading, _BATCH))
            for row, (_, hash_, error) in enumerate(part, start):
                if error:
                    _LOG.warning("left out: %s: %s", paths[row], error)
                else:
                    images[row] = image_id(hash_)
            framed = [picture for picture, _, _ in part if picture is not None]
            ids = images[start : start + len(part)]
            if framed:
                found.append(vectors_of(model, np.stack(framed), ids[ids >= 0], seeds=seeds))
            bar.update(len(part))
    if not found:
        raise DataError(f"none of the {len(paths)} pictures can be read")
    whole = []
    for name in ("features", "pooled"):
        values = np.concatenate([getattr(one, name) for one in found])
        filled = np.full((len(paths), values.shape[1]), np.nan, dtype=np.float32)
        filled[images >= 0] = values
        whole.append(filled)
    return FileVectors(CellVectors(*whole), images)


def probe(
    model: TrainedModel, cells: DescribedCells, *, seeds: int = SEEDS, progress: bool = False
) -> Morphology:
    """Fit the probes of a model to described cells: :func:`vectors_of_files` and :func:`fit_morphology`.

    Args:
        model: An automaton whose head sees pooled channels.
        cells: Cells with attributes; those of their part ``test`` are not used.
        seeds: Firing seeds to average over, at least 1.
        progress: Whether to show a progress bar.

    Raises:
        DataError: None of the files can be read, or an attribute never varies.
        ModelError: The network is no automaton, or has a ``conv`` head.
        SettingError: ``seeds`` is below 1.
    """
    if not automaton_of(model, "morphology").pooled_length:
        raise ModelError(
            "morphology asks the head about pooled channels, but this model's 'conv' head sees the grid; "
            "take a model with another head"
        )
    rows = np.flatnonzero(~cells.part("test")).tolist()
    files = vectors_of_files(model, [cells.paths[row] for row in rows], seeds=seeds, progress=progress)
    training, validation = (cells.part(part)[rows] & files.ok for part in ("train", "val"))
    return fit_morphology(
        model,
        files.vectors,
        {name: [values[row] for row in rows] for name, values in cells.attributes.items()},
        [cells.labels[row] for row in rows],
        training,
        validation,
        seeds=seeds,
    )


def fit_morphology(
    model: TrainedModel,
    vectors: CellVectors,
    attributes: Mapping[str, Sequence[str]],
    labels: Sequence[str],
    training: Mask,
    validation: Mask,
    *,
    seeds: int = SEEDS,
    strengths: Sequence[float] = STRENGTHS,
) -> Morphology:
    """Fit a probe for each attribute.

    Args:
        model: The automaton that the vectors come from.
        vectors: Of N cells, averaged over ``seeds`` firing seeds; finite for training and validation cells.
        attributes: N values of each attribute, by its name.
        labels: The N classes, which are held fixed where patterns are measured.
        training: Bool [N], the cells to fit on.
        validation: Bool [N], those to choose the regularisation on, by macro-F1; of equals the stronger.
        seeds: As the vectors were made with.
        strengths: Inverse strengths to choose among.

    Raises:
        DataError: An attribute has only one value among the training cells.
        SettingError: There are no training or no validation cells, or no strengths.
    """
    if not training.any() or not validation.any() or not strengths:
        raise SettingError(
            f"probes are fitted on {int(training.sum())} training and {int(validation.sum())} validation "
            f"cells with {len(strengths)} strengths of regularisation; at least 1 of each is needed"
        )
    features, pooled = (array.astype(np.float64) for array in (vectors.features, vectors.pooled))
    mean = features[training].mean(axis=0)
    spread = np.maximum(features[training].std(axis=0), _LEAST_SPREAD)
    # As the file will hold them, so that what is measured now is what is used later.
    mean, spread = (array.astype(np.float32).astype(np.float64) for array in (mean, spread))
    standardised = (features - mean) / spread
    groups = np.unique(np.array(labels)[training], return_inverse=True)[1]
    probes, chosen = [], {}
    for name, values in attributes.items():
        truth = np.array(values)
        if len(set(truth[training])) < 2:
            raise DataError(
                f"attribute {name!r} has the value {str(truth[training][0])!r} in all training cells"
            )
        best, strength, score = _fit(standardised, truth, training, validation, sorted(strengths))
        weight, bias = _rows(best)
        scores = standardised[training] @ weight.T + bias
        patterns, centres = _patterns(scores, pooled[training], groups)
        probes.append(Probe(name, tuple(map(str, best.classes_)), weight, bias, patterns, centres))
        chosen[name] = {"inverse_strength": strength, "validation_macro_f1": score}
    provenance = {
        "training_cells": int(training.sum()),
        "validation_cells": int(validation.sum()),
        "labels": sorted(set(np.array(labels)[training].tolist())),
        "chosen": chosen,
    }
    return Morphology(tuple(probes), mean, spread, seeds, fingerprint(model), provenance)


def _fit(
    standardised: Floats,
    truth: npt.NDArray[np.str_],
    training: Mask,
    validation: Mask,
    strengths: Sequence[float],
) -> tuple[LogisticRegression, float, float]:
    best: tuple[LogisticRegression, float, float] | None = None
    for strength in strengths:
        # Not weighted by class, so that the probabilities are those of the cells as they come.
        fitted = LogisticRegression(C=strength, max_iter=_ITERATIONS)
        fitted.fit(standardised[training], truth[training])
        said = fitted.predict(standardised[validation])
        score = float(f1_score(truth[validation], said, average="macro", zero_division=0))
        if best is None or score > best[2]:
            best = fitted, strength, score
    assert best is not None  # there is at least one strength
    return best


def _rows(fitted: LogisticRegression) -> tuple[Floats, Floats]:
    """Weight and bias of each value; scikit-learn keeps only one row for two values."""
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate((-weight, weight)) / 2, np.concatenate((-bias, bias)) / 2
    return weight.astype(np.float64), bias.astype(np.float64)


def _patterns(scores: Floats, pooled: Floats, groups: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Patterns [V, P] and centres [V] of a probe's values; see :mod:`leukonca.explanation.morphology`."""
    odds = np.stack([log_odds(scores, np.full(len(scores), k)) for k in range(scores.shape[1])], axis=1)
    counts = np.bincount(groups)[:, None]
    mean_odds, mean_pooled = (_sums(array, groups) / counts for array in (odds, pooled))
    odds_within, pooled_within = odds - mean_odds[groups], pooled - mean_pooled[groups]
    variance = np.square(odds_within).sum(axis=0)
    patterns: Floats = (odds_within.T @ pooled_within) / np.maximum(variance, _LEAST_SPREAD)[:, None]
    return patterns, mean_odds.mean(axis=0)


def _sums(values: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums
