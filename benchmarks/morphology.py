"""How well the attributes of WBCAtt are read from an automaton's channels: macro-F1 of each on test cells.

    python benchmarks/morphology.py MODEL --wbcatt DIR --acevedo20 DIR --out FILE.json [--probes FILE]

Probes are fitted on WBCAtt's training part, their regularisation is chosen on its validation part.
``unseen`` are the test cells that took no part in the training of the model, neither of its weights nor in
choosing its epoch; ``all`` are all test cells, some of which the model was trained on (by their class; no
attribute was ever seen). Baselines: the most frequent value, and the same logistic regression on mean,
standard deviation and an 8-bin histogram of each colour, of what the model sees (``colour_seen``) and of
the whole picture (``colour_whole``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from machine import machine

import leukonca
from leukonca.assessment.intervals import Estimate, draws, percentile_interval
from leukonca.cells.framing import Framing
from leukonca.explanation.features import CellVectors
from leukonca.explanation.morphology import Morphology
from leukonca.explanation.probing import fit_morphology, read_wbcatt, vectors_of_files
from leukonca.learning.preparation import read_framed
from leukonca.writing import write_text

RESAMPLES = 1000
BINS = 8


def colours(paths: Sequence[str], framing: Framing) -> npt.NDArray[np.float32]:
    """Mean, deviation and histogram of each colour, [N, 30]; NaN where a picture cannot be read."""
    rows = []
    for picture, _, _ in read_framed(paths, framing):
        if picture is None:
            rows.append(np.full(3 * (2 + BINS), np.nan))
            continue
        pixels = picture.reshape(-1, 3) / 255
        counts = [np.histogram(channel, BINS, (0, 1))[0] / len(pixels) for channel in pixels.T]
        rows.append(np.concatenate((pixels.mean(axis=0), pixels.std(axis=0), *counts)))
    return np.array(rows, dtype=np.float32)


def macro_f1(truth: npt.NDArray[Any], said: npt.NDArray[Any], weights: npt.NDArray[np.float64]) -> Any:
    """Macro-F1 over the values that occur in the truth, for each column of weights [n, R]; float64 [R]."""
    scores = []
    for value in np.unique(truth):
        is_, called = truth == value, said == value
        both = weights[is_ & called].sum(axis=0)
        either = weights[is_].sum(axis=0) + weights[called].sum(axis=0)
        scores.append(np.divide(2 * both, either, out=np.full(len(either), np.nan), where=either > 0))
    return np.nanmean(scores, axis=0)


def figures(truths: dict[str, Any], sayings: dict[str, Any], chosen: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Macro-F1 of every attribute and their mean, with 95 % bootstrap intervals over the chosen cells."""
    count = int(chosen.sum())
    weights = np.concatenate(list(draws(np.arange(count), RESAMPLES, np.random.default_rng(0))), axis=1)
    whole, drawn = {}, {}
    for name, truth in truths.items():
        pair = truth[chosen], sayings[name][chosen]
        whole[name] = float(macro_f1(*pair, np.ones((count, 1)))[0])
        drawn[name] = macro_f1(*pair, weights)
    whole["mean"], drawn["mean"] = float(np.mean(list(whole.values()))), np.mean(list(drawn.values()), axis=0)
    return {
        name: Estimate(value, *map(float, percentile_interval(drawn[name]))).to_dict()
        for name, value in whole.items()
    }


def said_by(morphology: Morphology, features: npt.NDArray[np.float32]) -> dict[str, Any]:
    standardised = morphology.standardised(features)
    return {
        probe.attribute: np.array(probe.values)[probe.scores(standardised).argmax(axis=1)]
        for probe in morphology.probes
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--wbcatt", required=True, metavar="DIR")
    parser.add_argument("--acevedo20", required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--probes", type=Path, help="also write the probes, for explanations")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = leukonca.load(options.model).trained
    cells = read_wbcatt(options.wbcatt, options.acevedo20)
    files = vectors_of_files(model, cells.paths, seeds=options.seeds, progress=sys.stderr.isatty())
    training, validation, test = (cells.part(part) & files.ok for part in ("train", "val", "test"))
    known = np.concatenate((model.seen_training, model.seen_validation))
    sets = {"unseen": test & ~np.isin(files.images, known), "all": test}
    seen = {
        "automaton": files.vectors.features,
        "colour_seen": colours(cells.paths, model.framing),
        "colour_whole": colours(cells.paths, Framing(64)),
    }
    truths = {name: np.array(values) for name, values in cells.attributes.items()}
    sayings: dict[str, dict[str, Any]] = {
        "majority": {
            name: np.full(len(truth), Counter(truth[training].tolist()).most_common(1)[0][0])
            for name, truth in truths.items()
        }
    }
    result: dict[str, Any] = {
        "machine": machine(),
        "model": Path(options.model).name,
        "framing": repr(model.framing),
        "seeds": options.seeds,
        "cells": {"training": int(training.sum()), "validation": int(validation.sum())},
        "chosen": {},
    }
    for name, features in seen.items():
        vectors = CellVectors(features, files.vectors.pooled)
        fitted = fit_morphology(
            model, vectors, cells.attributes, cells.labels, training, validation, seeds=options.seeds
        )
        sayings[name] = said_by(fitted, features)
        result["chosen"][name] = fitted.provenance["chosen"]
        if name == "automaton" and options.probes:
            fitted.save(options.probes)
    for part, chosen in sets.items():
        result["cells"][part] = int(chosen.sum())
        result[part] = {name: figures(truths, said, chosen) for name, said in sayings.items()}
        for name, found in result[part].items():
            mean = found["mean"]
            print(
                f"{part:7} {name:13} {mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f})",
                flush=True,
            )
    write_text(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
