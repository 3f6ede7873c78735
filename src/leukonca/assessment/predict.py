"""Running a model over files: every one is read once, a broken one becomes a row with its reason."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from leukonca.assessment.prediction import Predictions
from leukonca.errors import ModelError, SettingError
from leukonca.learning.conformal import conformal_quantile, require_coverage
from leukonca.learning.preparation import View, read_framed
from leukonca.learning.statistics import input_statistics
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trust import FIRING_SEEDS, FOREIGN_SHARE
from leukonca.nca.firing import image_id

__all__ = ["FIRING_SEEDS", "join", "predict", "predict_in_parts", "with_target_statistics"]

_LOG = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]


def predict_in_parts(
    model: TrainedModel,
    paths: Sequence[str],
    *,
    seeds: int = FIRING_SEEDS,
    coverage: float | None = None,
    foreign: float = FOREIGN_SHARE,
    batch: int = 64,
    view: View | None = None,
    progress: bool = False,
) -> Iterator[Predictions]:
    """Classify files, some at a time, in their order.

    A cell's result depends on its picture, the model with its ``views``, and ``seeds`` alone: not on the
    other files, their order or the size of the batches (to the rounding of float32 sums).

    Args:
        model: The model.
        paths: Files, or members of archives.
        seeds: Firing seeds 0 … ``seeds`` - 1, over which probabilities are averaged; at least 1. Where every
            site fires, or nothing as in a baseline, the model is run once in each of its views. One run alone
            has no spread.
        coverage: Give each cell the set of classes that holds the true one with this probability, in (0, 1);
            see :meth:`leukonca.learning.trust.Trust.sets`.
        foreign: Do not name pictures of a familiarity below this share, in [0, 1); 0 names every picture. A
            model that cannot tell names every picture, too.
        batch: Files a part.
        view: How a picture is framed where not as the model says: a spoilt one, for instance.
        progress: Whether to show a progress bar.

    Yields:
        Predictions of ``batch`` files, the last of what is left.

    Raises:
        SettingError: ``seeds`` or ``batch`` is below 1, or a share is out of its range.
        ModelError: A coverage is asked of a model that was not calibrated.
    """
    for name, value in (("seeds", seeds), ("batch", batch)):
        if value < 1:
            raise SettingError(f"{name}={value} must be at least 1")
    if not 0 <= foreign < 1:
        raise SettingError(f"foreign={foreign!r} must be at least 0 and below 1, such as {FOREIGN_SHARE}")
    if coverage is not None:
        require_coverage(coverage)
        if model.trust is None:
            raise ModelError(
                f"coverage={coverage}: this model is not calibrated; 'leukonca calibrate' adds what it needs"
            )
        if math.isinf(conformal_quantile(model.trust.scores, coverage)):
            _LOG.warning(
                "a coverage of %g needs more than the %d cells that the model is calibrated on: every set "
                "holds all classes",
                coverage,
                len(model.trust.scores),
            )
    if model.trust and model.trust.views != model.views:
        _LOG.warning(
            "views=%d, but the model is calibrated with %d: probabilities, sets and foreign pictures are a "
            "little off; 'leukonca calibrate --views %d' fits them",
            model.views,
            model.trust.views,
            model.views,
        )
    return _parts(model, paths, seeds, coverage, foreign, batch, view, progress)


def _parts(
    model: TrainedModel,
    paths: Sequence[str],
    seeds: int,
    coverage: float | None,
    foreign: float,
    batch: int,
    view: View | None,
    progress: bool,
) -> Iterator[Predictions]:
    cells = read_framed(paths, model.framing, view=view)
    with tqdm(total=len(paths), desc="classifying", unit=" cells", disable=not progress) as bar:
        for start in range(0, len(paths), batch):
            part = list(islice(cells, batch))
            errors = [error for _, _, error in part]
            good = [row for row, error in enumerate(errors) if not error]
            columns = _unknown(model, len(part))
            if good:
                pictures = np.stack([picture for picture, _, _ in part if picture is not None])
                images = np.array([image_id(part[row][1]) for row in good], dtype=np.int64)
                for name, values in _average(model, pictures, images, seeds).items():
                    columns[name][good] = values
            if model.trust and coverage is not None:
                columns["sets"] = model.trust.sets(columns["probabilities"], coverage)
            if "familiarity" in columns:
                columns["foreign"] = columns["familiarity"] < foreign
            named = list(paths[start : start + batch])
            yield Predictions(classes=model.classes, paths=named, errors=errors, **columns)
            bar.update(len(part))


def _unknown(model: TrainedModel, count: int) -> dict[str, Any]:
    """The columns that this model can fill, NaN for every file."""
    columns = {
        "probabilities": np.full((count, len(model.classes)), np.nan),
        "spread": np.full(count, np.nan),
    }
    if model.trust:
        columns["uncalibrated"] = np.full_like(columns["probabilities"], np.nan)
        if model.trust.familiarity:
            columns["familiarity"] = np.full(count, np.nan)
    if model.settling:
        columns["steps"] = np.full(count, np.nan)
    return columns


def _average(
    model: TrainedModel, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seeds: int
) -> dict[str, Floats]:
    observed = model.observe(pictures, images, seeds)
    every = model.stated(observed.logits)
    mean = every.mean(axis=0)
    columns = {"probabilities": mean}
    if len(every) > 1:
        columns["spread"] = every[:, np.arange(len(mean)), mean.argmax(axis=1)].std(axis=0)
    if model.trust:
        columns["uncalibrated"] = model.stated(observed.logits, temperature=1.0).mean(axis=0)
        if model.trust.familiarity:
            columns["familiarity"] = model.trust.familiarity.of(observed.features)
    if model.settling:
        columns["steps"] = observed.steps
    return columns


def join(parts: Sequence[Predictions], classes: tuple[str, ...]) -> Predictions:
    """Return the rows of all parts in their order; no part gives no rows.

    What some parts do not know (a truth, sets) is not known of the whole.
    """
    empty = Predictions(classes, [], np.empty((0, len(classes))), np.empty(0), [])
    if not parts:
        return empty
    columns: dict[str, Any] = {}
    for entry in fields(Predictions):
        values = [getattr(part, entry.name) for part in parts]
        if entry.name == "classes" or any(value is None for value in values):
            continue
        columns[entry.name] = list(chain(*values)) if isinstance(values[0], list) else np.concatenate(values)
    return replace(empty, **columns)


def predict(
    model: TrainedModel,
    paths: Sequence[str],
    *,
    seeds: int = FIRING_SEEDS,
    coverage: float | None = None,
    foreign: float = FOREIGN_SHARE,
    batch: int = 64,
    view: View | None = None,
    progress: bool = False,
) -> Predictions:
    """Classify files; see :func:`predict_in_parts`."""
    parts = predict_in_parts(
        model,
        paths,
        seeds=seeds,
        coverage=coverage,
        foreign=foreign,
        batch=batch,
        view=view,
        progress=progress,
    )
    return join(list(parts), model.classes)


def with_target_statistics(
    model: TrainedModel, paths: Sequence[str], *, progress: bool = False
) -> TrainedModel:
    """Return the model normalising by the mean and spread of the very cells that it is to classify.

    The paper's released code does so without saying (a leak of the target set's statistics); this is here to
    reproduce its figures, and every report that uses it says so.
    """
    cells = read_framed(paths, model.framing)
    shown = tqdm(cells, total=len(paths), desc="statistics", unit=" cells", disable=not progress)
    return model.with_statistics(
        input_statistics(picture[None] for picture, _, _ in shown if picture is not None)
    )
