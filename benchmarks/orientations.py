"""What averaging over the orientations of a picture brings at home and in other laboratories.

    python benchmarks/orientations.py acevedo20-base acevedo20-tiny --cells ../shared/data \\
        --out benchmarks/results/orientations.json

The figures are those of ``benchmarks/experiment.py``: of a model's held-out cells, and of the five normal
types elsewhere. One view with four firing seeds and four views with one seed take the same number of runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiment import AWAY, EIGHT, figures
from machine import machine

import leukonca
from leukonca.assessment.evaluate import choose
from leukonca.assessment.metrics import measure
from leukonca.assessment.predict import predict
from leukonca.assessment.views import align, among
from leukonca.cells.scan import scan
from leukonca.learning.trained import TrainedModel
from leukonca.vocabulary import CLASS_SETS
from leukonca.writing import write_text

# Views and firing seeds.
WAYS = ((1, 4), (4, 1), (8, 1), (8, 4))


def tested(model: TrainedModel, spec: str, part: str, seeds: int) -> dict[str, Any]:
    """Figures of a model on the cells of a SPEC, elsewhere over the five normal types."""
    frame = choose(model, scan([spec]), part).manifest.frame
    groups = frame["group"].tolist() if (frame["group"] != "").any() else None
    found = predict(model, frame["path"].tolist(), seeds=seeds)
    predictions, truth, _ = align(found, frame["label"].tolist())
    if part == "all":
        predictions = among(predictions, CLASS_SETS["five"])
    return figures(measure(truth, predictions.probabilities, predictions.classes, groups=groups))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--cells", type=Path, required=True, help="folder with acevedo20, bccd, bcisc, zheng")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    content: dict[str, Any] = {"machine": machine(), "rows": []}
    for name in options.models:
        for views, seeds in WAYS:
            model = leukonca.load(name).views(views).trained
            row: dict[str, Any] = {"model": name, "views": views, "seeds": seeds}
            row["home"] = tested(model, EIGHT.format(cells=options.cells), "test", seeds)
            row["away"] = {
                place: tested(model, spec.format(cells=options.cells), "all", seeds)
                for place, spec in AWAY.items()
            }
            content["rows"].append(row)
            write_text(options.out, json.dumps(content, indent=1) + "\n")
            print(name, views, seeds, row["home"]["accuracy"], *(f["macro_f1"] for f in row["away"].values()))


if __name__ == "__main__":
    main()
