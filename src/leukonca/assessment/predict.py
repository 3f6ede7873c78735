"""Running a model over files: every one is read once, a broken one becomes a row with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from leukonca.assessment.prediction import Predictions
from leukonca.errors import SettingError
from leukonca.learning.preparation import View, read_framed
from leukonca.learning.statistics import input_statistics
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id

__all__ = ["FIRING_SEEDS", "join", "predict", "predict_in_parts", "with_target_statistics"]

FIRING_SEEDS = 4
"""Over how many firing seeds a prediction is averaged where nothing else is said."""


def predict_in_parts(
    model: TrainedModel,
    paths: Sequence[str],
    *,
    seeds: int = FIRING_SEEDS,
    batch: int = 64,
    view: View | None = None,
    progress: bool = False,
) -> Iterator[Predictions]:
    """Classify files, some at a time, in their order.

    A cell's result depends on its picture, the model and ``seeds`` alone: not on the other files, their order
    or the size of the batches (to the rounding of float32 sums).

    Args:
        model: The model.
        paths: Files, or members of archives.
        seeds: Firing seeds 0 … ``seeds`` - 1, over which probabilities are averaged; at least 1. With 1 the
            spread is not known. A baseline fires nothing: it is run once, and has no spread.
        batch: Files a part.
        view: How a picture is framed where not as the model says: a spoilt one, for instance.
        progress: Whether to show a progress bar.

    Yields:
        Predictions of ``batch`` files, the last of what is left.

    Raises:
        SettingError: ``seeds`` or ``batch`` is below 1.
    """
    for name, value in (("seeds", seeds), ("batch", batch)):
        if value < 1:
            raise SettingError(f"{name}={value} must be at least 1")
    return _parts(model, paths, seeds, batch, view, progress)


def _parts(
    model: TrainedModel, paths: Sequence[str], seeds: int, batch: int, view: View | None, progress: bool
) -> Iterator[Predictions]:
    cells = read_framed(paths, model.framing, view=view)
    with tqdm(total=len(paths), desc="classifying", unit=" cells", disable=not progress) as bar:
        for start in range(0, len(paths), batch):
            part = list(islice(cells, batch))
            errors = [error for _, _, error in part]
            good = [row for row, error in enumerate(errors) if not error]
            probabilities = np.full((len(part), len(model.classes)), np.nan)
            spread, steps = np.full(len(part), np.nan), np.full(len(part), np.nan)
            if good:
                pictures = np.stack([picture for picture, _, _ in part if picture is not None])
                images = np.array([image_id(part[row][1]) for row in good], dtype=np.int64)
                probabilities[good], spread[good], steps[good] = _average(model, pictures, images, seeds)
            yield Predictions(
                model.classes,
                list(paths[start : start + batch]),
                probabilities,
                spread,
                errors,
                steps=None if model.settling is None else steps,
            )
            bar.update(len(part))


def _average(
    model: TrainedModel, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seeds: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not model.draws:
        seeds = 1
    runs = [model.probabilities_and_steps(pictures, images, seed) for seed in range(seeds)]
    every = np.stack([probabilities for probabilities, _ in runs])
    steps = np.mean([taken for _, taken in runs], axis=0)
    mean = every.mean(axis=0)
    if seeds == 1:
        return mean, np.full(len(mean), np.nan), steps
    winners = mean.argmax(axis=1)
    return mean, every[:, np.arange(len(mean)), winners].std(axis=0), steps


def join(parts: Sequence[Predictions], classes: tuple[str, ...]) -> Predictions:
    """Return the rows of all parts in their order; no part gives no rows."""
    steps = [part.steps for part in parts if part.steps is not None]
    return Predictions(
        classes=classes,
        paths=[path for part in parts for path in part.paths],
        probabilities=np.concatenate([np.empty((0, len(classes))), *(part.probabilities for part in parts)]),
        spread=np.concatenate([np.empty(0), *(part.spread for part in parts)]),
        errors=[error for part in parts for error in part.errors],
        steps=np.concatenate(steps) if steps else None,
    )


def predict(
    model: TrainedModel,
    paths: Sequence[str],
    *,
    seeds: int = FIRING_SEEDS,
    batch: int = 64,
    view: View | None = None,
    progress: bool = False,
) -> Predictions:
    """Classify files; see :func:`predict_in_parts`."""
    parts = predict_in_parts(model, paths, seeds=seeds, batch=batch, view=view, progress=progress)
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
