"""What it brings in other laboratories to know how often each type occurs in blood.

    python benchmarks/expected.py acevedo20-base acevedo20-tiny --cells ../shared/data \\
        --out benchmarks/results/expected.json

Each model is tested as in ``benchmarks/experiment.py``, on the five normal types elsewhere: once as it is,
and once told to expect these types as often as they occur in the blood of adults
(``leukonca.assessment.expected.BLOOD``). No share is taken from a tested set: two of them are of blood, and
one was collected to have as many cells of each type, so that there the expectation is wrong.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiment import AWAY, figures
from machine import machine

import leukonca
from leukonca.assessment.evaluate import choose
from leukonca.assessment.expected import BLOOD, expecting, learnt_shares
from leukonca.assessment.metrics import measure
from leukonca.assessment.predict import predict
from leukonca.assessment.views import align, among
from leukonca.cells.scan import scan
from leukonca.learning.trained import TrainedModel
from leukonca.vocabulary import CLASS_SETS
from leukonca.writing import write_text


def tested(model: TrainedModel, spec: str) -> dict[str, Any]:
    """Figures of a model on the cells of a SPEC with either expectation."""
    frame = choose(model, scan([spec]), "all").manifest.frame
    groups = frame["group"].tolist() if (frame["group"] != "").any() else None
    said = predict(model, frame["path"].tolist())
    found = {}
    for name, predictions in (
        ("training", said),
        ("blood", expecting(said, BLOOD, learnt_shares(model))),
    ):
        aligned, truth, _ = align(predictions, frame["label"].tolist())
        five = among(aligned, CLASS_SETS["five"])
        found[name] = figures(measure(truth, five.probabilities, five.classes, groups=groups))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names, files or folders of runs")
    parser.add_argument("--cells", type=Path, required=True, help="folder with bccd, bcisc and zheng")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    content: dict[str, Any] = {"machine": machine(), "blood": dict(BLOOD), "rows": []}
    for name in options.models:
        model = leukonca.load(name).trained
        places = {place: tested(model, spec.format(cells=options.cells)) for place, spec in AWAY.items()}
        row = {"model": Path(name).name, "parameters": model.network.parameter_count, "away": places}
        content["rows"].append(row)
        write_text(options.out, json.dumps(content, indent=1) + "\n")
        for expectation in ("training", "blood"):
            print(row["model"], expectation, *(found[expectation]["macro_f1"] for found in places.values()))


if __name__ == "__main__":
    main()
