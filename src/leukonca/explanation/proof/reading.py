"""How well the attributes of WBCAtt are read from an automaton's channels: macro-F1 of each on test cells.

Probes are fitted on WBCAtt's training part, their regularisation is chosen on its validation part. ``unseen``
are the test cells that took no part in the training of the model, neither of its weights nor in choosing its
epoch; ``all`` are all test cells, some of which the model was trained on (by their class; no attribute was
ever seen). Baselines: the most frequent value, and the same logistic regression on mean, standard deviation
and an 8-bin histogram of each colour, of what the model sees (``colour_seen``) and of the whole picture
(``colour_whole``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from leukonca.assessment.intervals import Estimate, draws, percentile_interval
from leukonca.cells.framing import Framing
from leukonca.explanation.features import SEEDS, CellVectors
from leukonca.explanation.morphology import Morphology
from leukonca.explanation.probing import (
    STRENGTHS,
    DescribedCells,
    FileVectors,
    fit_morphology,
    vectors_of_files,
)
from leukonca.explanation.proof.keeping import Arrays
from leukonca.explanation.proof.settings import Bench
from leukonca.learning.preparation import read_framed

__all__ = ["SETS", "macro_f1", "morphology", "morphology_work"]

SETS: Final = ("unseen", "all")
"""Of test cells."""

_AT_ONCE: Final = 512
_BINS: Final = 8
_SIDE: Final = 64  # px to which the whole picture is brought for its colours

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def morphology_work(cells: int) -> int:
    """Return how many units of work :func:`morphology` tells of."""
    return 3 * cells


def morphology(
    bench: Bench,
    cells: DescribedCells,
    *,
    seeds: int = SEEDS,
    strengths: Sequence[float] = STRENGTHS,
    probes: Path | None = None,
) -> dict[str, Any]:
    """Fit probes and baselines, and measure them on test cells.

    Args:
        bench: The model, an automaton, and sizes.
        cells: The described cells.
        seeds: Firing seeds to average over.
        strengths: Inverse strengths of regularisation to choose among.
        probes: File to write the automaton's probes to, for explanations.

    Returns:
        JSON values: by set of test cells and by reader, macro-F1 of every attribute and their ``mean``.

    Raises:
        DataError: No picture can be read, or an attribute never differs in training.
        SettingError: There are no training or validation cells.
    """
    model, size = bench.model, len(cells.paths)
    files = _vectors(bench, cells.paths, seeds)
    seen = {
        "automaton": files.vectors.features,
        "colour_seen": _colours(bench, cells.paths, model.framing),
        "colour_whole": _colours(bench, cells.paths, Framing(_SIDE)),
    }
    training, validation, test = (cells.part(part) & files.ok for part in ("train", "val", "test"))
    known = np.concatenate((model.seen_training, model.seen_validation))
    sets = dict(zip(SETS, (test & ~np.isin(files.images, known), test), strict=True))
    truths = {name: np.array(values) for name, values in cells.attributes.items()}
    said: dict[str, dict[str, Any]] = {
        "majority": {
            name: np.full(size, Counter(truth[training].tolist()).most_common(1)[0][0])
            for name, truth in truths.items()
        }
    }
    result: dict[str, Any] = {
        "seeds": seeds,
        "cells": {"training": int(training.sum()), "validation": int(validation.sum())},
        "chosen": {},
    }
    for name, features in seen.items():
        write = probes if name == "automaton" else None

        def fit(features: npt.NDArray[np.float32] = features, write: Path | None = write) -> dict[str, Any]:
            vectors = CellVectors(features, files.vectors.pooled)
            fitted = fit_morphology(
                model,
                vectors,
                cells.attributes,
                cells.labels,
                training,
                validation,
                seeds=seeds,
                strengths=strengths,
            )
            if write:
                fitted.save(write)
            return {"chosen": fitted.provenance["chosen"], "said": _said(fitted, features)}

        key = {"reader": name, "seeds": seeds, "strengths": list(strengths), "paths": cells.paths}
        # What was kept would not write the file.
        kept = fit() if write else bench.kept.note("readers", key, fit)
        result["chosen"][name] = kept["chosen"]
        said[name] = {attribute: np.array(values) for attribute, values in kept["said"].items()}
    for part, chosen in sets.items():
        result["cells"][part] = int(chosen.sum())
        if chosen.any():
            result[part] = {
                name: _figures(truths, values, chosen, bench.sizes.resamples) for name, values in said.items()
            }
    return result


def _vectors(bench: Bench, paths: list[str], seeds: int) -> FileVectors:
    pieces = []
    for start in range(0, len(paths), _AT_ONCE):
        few = paths[start : start + _AT_ONCE]

        def make(few: list[str] = few) -> Arrays:
            found = vectors_of_files(bench.model, few, seeds=seeds)
            return {
                "features": found.vectors.features,
                "pooled": found.vectors.pooled,
                "images": found.images,
            }

        pieces.append(bench.kept.arrays("vectors", {"seeds": seeds, "paths": few}, make))
        bench.step(len(few))
    whole = {name: np.concatenate([one[name] for one in pieces]) for name in ("features", "pooled", "images")}
    return FileVectors(CellVectors(whole["features"], whole["pooled"]), whole["images"])


def _colours(bench: Bench, paths: list[str], framing: Framing) -> npt.NDArray[np.float32]:
    """Mean, deviation and histogram of each colour, [N, 30]; NaN where a picture cannot be read."""
    pieces = []
    for start in range(0, len(paths), _AT_ONCE):
        few = paths[start : start + _AT_ONCE]

        def make(few: list[str] = few) -> Arrays:
            return {"colours": np.stack([_colour(picture) for picture, _, _ in read_framed(few, framing)])}

        pieces.append(bench.kept.arrays("colours", {"framing": repr(framing), "paths": few}, make)["colours"])
        bench.step(len(few))
    return np.concatenate(pieces)


def _colour(picture: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
    if picture is None:
        return np.full(3 * (2 + _BINS), np.nan, dtype=np.float32)
    pixels = picture.reshape(-1, 3) / 255
    counts = [np.histogram(channel, _BINS, (0, 1))[0] / len(pixels) for channel in pixels.T]
    whole: npt.NDArray[np.float32] = np.concatenate(
        (pixels.mean(axis=0), pixels.std(axis=0), *counts)
    ).astype(np.float32)
    return whole


def _said(fitted: Morphology, features: npt.NDArray[np.float32]) -> dict[str, list[str]]:
    standardised = fitted.standardised(features)
    return {
        probe.attribute: np.array(probe.values)[probe.scores(standardised).argmax(axis=1)].tolist()
        for probe in fitted.probes
    }


def macro_f1(truth: npt.NDArray[Any], said: npt.NDArray[Any], weights: Floats) -> Floats:
    """Return macro-F1 over the values that occur in the truth, for each column of weights.

    Args:
        truth: [n] values.
        said: [n] values.
        weights: float64 [n, R], how often each cell counts.

    Returns:
        float64 [R].
    """
    scores = []
    for value in np.unique(truth):
        is_, called = truth == value, said == value
        both = weights[is_ & called].sum(axis=0)
        either = weights[is_].sum(axis=0) + weights[called].sum(axis=0)
        scores.append(np.divide(2 * both, either, out=np.full(len(either), np.nan), where=either > 0))
    mean: Floats = np.nanmean(scores, axis=0)
    return mean


def _figures(
    truths: Mapping[str, npt.NDArray[Any]],
    said: Mapping[str, npt.NDArray[Any]],
    chosen: Mask,
    resamples: int,
) -> dict[str, Any]:
    """Macro-F1 of every attribute and their mean, with 95 % bootstrap intervals over the chosen cells."""
    count = int(chosen.sum())
    weights = np.concatenate(
        list(draws(np.arange(count, dtype=np.int64), resamples, np.random.default_rng(0))), axis=1
    )
    whole, drawn = {}, {}
    for name, truth in truths.items():
        pair = truth[chosen], said[name][chosen]
        whole[name] = float(macro_f1(*pair, np.ones((count, 1)))[0])
        drawn[name] = macro_f1(*pair, weights)
    whole["mean"], drawn["mean"] = float(np.mean(list(whole.values()))), np.mean(list(drawn.values()), axis=0)
    return {
        name: Estimate(value, *map(float, percentile_interval(drawn[name]))).to_dict()
        for name, value in whole.items()
    }
