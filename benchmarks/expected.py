"""What it brings in other laboratories to know how often each type occurs in blood.

    python benchmarks/expected.py acevedo20-base acevedo20-tiny --cells ../shared/data \\
        --out benchmarks/results/expected.json

Each model is tested as in ``benchmarks/experiment.py``, on the five normal types elsewhere: once as it is,
and once told to expect these types as often as they occur in the blood of adults
(``leukonca.assessment.expected.BLOOD``); by one view of each picture, and by four. No share is taken from a
tested set: two of them are of blood, and one was collected to have as many cells of each type, so that there
the expectation is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

from experiment import AWAY, assessed, of_five
from machine import machine

import leukonca
from leukonca.assessment.expected import BLOOD, expectation
from leukonca.assessment.predict import FIRING_SEEDS
from leukonca.writing import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names, files or folders of runs")
    parser.add_argument("--cells", type=Path, required=True, help="folder with bccd, bcisc and zheng")
    parser.add_argument("--views", nargs="+", type=int, default=[1, 4], help="orientations averaged")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    content: dict[str, Any] = {"machine": machine(), "blood": dict(BLOOD), "rows": []}
    for name, views in itertools.product(options.models, options.views):
        model = leukonca.load(name).views(views).trained
        told = expectation(BLOOD, model)
        expecting = {"training": of_five, "blood": lambda said, told=told: of_five(told(said))}
        # Four views with one seed take as many runs as one view with four.
        seeds = max(1, FIRING_SEEDS // views)
        places = {
            place: assessed(model, spec.format(cells=options.cells), expecting, seeds=seeds)
            for place, spec in AWAY.items()
        }
        row: dict[str, Any] = {"model": Path(name).name, "parameters": model.network.parameter_count}
        row |= {"views": views, "away": places}
        content["rows"].append(row)
        write_text(options.out, json.dumps(content, indent=1) + "\n")
        for shares in expecting:
            print(row["model"], views, shares, *(found[shares]["macro_f1"] for found in places.values()))


if __name__ == "__main__":
    main()
