"""How far a model can be trusted: calibration, coverage, review, and whether it notices what is no cell.

    python benchmarks/trust.py acevedo20-base \\
        --data acevedo20:../shared/data/acevedo20 \\
        --away bccd:../shared/data/bccd bcisc:../shared/data/bcisc \\
        --out benchmarks/results/trust-acevedo20-base.json

``home`` are the cells of ``--data`` that the model has not seen; its validation cells among them calibrate a
model that is not calibrated yet. Nothing of ``away`` is used for anything but the figures stated, except that
the score was chosen with an eye on how many of its cells are flagged. What is no cell is made of held-out
pictures of ``--data`` or comes with installed packages, see ``noncells.py``: by the kinds in ``DEVELOPED_ON``
the score was chosen, on pictures made of validation cells; ``TESTED_ON`` were looked at afterwards.
``--foreign NAME=FOLDER`` adds a kind, such as platelets for a model without such a class.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from noncells import DEVELOPED_ON, TESTED_ON, Picture
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from leukonca import api
from leukonca.assessment.evaluate import choose
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.promises import Promises, ReviewCurve
from leukonca.assessment.views import align
from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import frame
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trust import FIRING_SEEDS, FOREIGN_SHARE, Trust
from leukonca.nca.firing import image_id

BATCH = 64
MOST_PICTURES = 400  # of a kind of what is no cell


@dataclass(frozen=True)
class Seen:
    """What the network made of some pictures."""

    logits: np.ndarray
    features: np.ndarray

    def scores(self, model: TrainedModel, trust: Trust) -> dict[str, np.ndarray]:
        """How foreign each picture looks, by several measures; the first is the one that leukonca uses."""
        found = {}
        if trust.familiarity:
            found["distance"] = trust.familiarity.distance(self.features)
        probabilities = model.stated(self.logits).mean(axis=0)
        found["max_probability"] = -probabilities.max(axis=1)
        found["entropy"] = -(probabilities * np.log(probabilities.clip(1e-300))).sum(axis=1)
        found["energy"] = -np.logaddexp.reduce(self.logits, axis=2).mean(axis=0)
        return found


def look(model: TrainedModel, pictures: Iterable[Picture], total: int, what: str) -> Seen:
    logits, features, batch = [], [], []

    def run() -> None:
        framed = np.stack([frame(picture, model.framing) for picture in batch])
        ids = np.array([image_id(content_hash(picture)) for picture in batch], dtype=np.int64)
        observed = model.observe(framed, ids, FIRING_SEEDS)
        logits.append(observed.logits)
        features.append(observed.features)
        batch.clear()

    for picture in tqdm(pictures, total=total, desc=what):
        batch.append(np.ascontiguousarray(picture))
        if len(batch) == BATCH:
            run()
    if batch:
        run()
    return Seen(np.concatenate(logits, axis=1), np.concatenate(features, axis=1))


def stated(model: TrainedModel, trust: Trust, cells: Manifest, what: str) -> tuple[Seen, dict[str, Any]]:
    """What was promised of labelled cells, and what came true."""
    frame_ = cells.frame
    paths, labels = frame_["path"].tolist(), frame_["label"].tolist()
    seen = look(model, map(decode, paths), len(paths), what)
    known = trust.familiarity
    predictions = Predictions(
        classes=model.classes,
        paths=paths,
        probabilities=model.stated(seen.logits).mean(axis=0),
        spread=np.full(len(paths), np.nan),
        errors=[""] * len(paths),
        familiarity=known.of(seen.features) if known else None,
        uncalibrated=model.stated(seen.logits, temperature=1.0).mean(axis=0),
    )
    aligned, truth, _ = align(predictions, labels)
    compared = np.array([bool(label) for label in truth])
    correct = np.array([name == own for name, own in zip(aligned.labels, truth, strict=True)])
    groups = frame_["group"].tolist() if (frame_["group"] != "").any() else None
    promises = Promises.of(trust, predictions, labels, groups=groups)
    return seen, {
        "cells": int(compared.sum()),
        "accuracy": float(correct[compared].mean()),
        **promises.to_dict(),
        "review": ReviewCurve.of(aligned.confidence[compared], correct[compared]).to_dict(),
    }


def foreign(
    model: TrainedModel, trust: Trust, home: Seen, kinds: dict[str, Callable[[], list[Picture]]]
) -> dict[str, Any]:
    """AUROC against the held-out cells of home, and the share flagged, for each kind of what is no cell."""
    own, rows = home.scores(model, trust), {}
    for name, make in kinds.items():
        pictures = make()[:MOST_PICTURES]
        if not pictures:
            continue
        seen = look(model, pictures, len(pictures), name)
        rows[name] = {"pictures": len(pictures), "auroc": {}}
        for measure, scores in seen.scores(model, trust).items():
            truth = np.repeat([0, 1], [len(own[measure]), len(scores)])
            rows[name]["auroc"][measure] = float(roc_auc_score(truth, np.concatenate([own[measure], scores])))
        if trust.familiarity:
            flagged = trust.familiarity.of(seen.features) < FOREIGN_SHARE
            rows[name]["flagged"] = float(flagged.mean())
    return rows


def some(paths: Sequence[str], count: int) -> list[Picture]:
    chosen = np.random.default_rng(0).permutation(len(paths))[:count]
    return [decode(paths[row]) for row in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="model file, or folder of a training run")
    parser.add_argument("--data", nargs="+", required=True, help="the laboratory that it comes from")
    parser.add_argument("--away", nargs="*", default=[], help="other laboratories, a SPEC each")
    parser.add_argument("--foreign", nargs="*", default=[], metavar="NAME=FOLDER", help="further non-cells")
    parser.add_argument("--cells", type=int, default=0, help="so many cells of a set at most, to try it out")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    loaded, data = api.load(options.model), scan(options.data)
    was_calibrated = loaded.trained.trust is not None
    model = (loaded if was_calibrated else loaded.calibrate(data, progress=True)).trained
    trust = model.trust
    assert trust is not None

    def limited(cells: Manifest) -> Manifest:
        count = options.cells or len(cells)
        return cells.subset(np.sort(np.random.default_rng(0).permutation(len(cells))[:count]))

    test = limited(choose(model, data, "test", progress=True).manifest)
    home, figures = stated(model, trust, test, "home")
    result: dict[str, Any] = {
        "model": loaded.name,
        "machine": machine(),
        "calibrated": "with the model" if was_calibrated else "here, on its validation cells",
        "firing_seeds": len(model.firing_seeds(FIRING_SEEDS)),
        "views": model.views,
        "foreign_below": FOREIGN_SHARE,
        "home": figures,
        "away": {},
    }
    for spec in options.away:
        cells = limited(choose(model, scan([spec]), "all").manifest)
        name = cells.frame["source"].iloc[0]
        result["away"][name] = stated(model, trust, cells, name)[1]
    held_out = some(test.frame["path"].tolist(), MOST_PICTURES)
    result["developed_on"] = foreign(
        model, trust, home, {name: (lambda kind=kind: kind(held_out)) for name, kind in DEVELOPED_ON.items()}
    )
    tested = {name: (lambda kind=kind: kind(held_out)) for name, kind in TESTED_ON.items()}
    for entry in options.foreign:
        name, _, folder = entry.partition("=")
        tested[name] = lambda folder=folder: some(api.files_of(folder), MOST_PICTURES)
    result["tested_on"] = foreign(model, trust, home, tested)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
