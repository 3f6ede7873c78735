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

from experiment import AWAY, EIGHT, assessed, of_five
from machine import machine

import leukonca
from leukonca.writing import write_text

# Views and firing seeds; where no seed matters, one of them.
WAYS = ((1, 4), (4, 1), (8, 1), (8, 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--cells", type=Path, required=True, help="folder with acevedo20, bccd, bcisc, zheng")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    content: dict[str, Any] = {"machine": machine(), "rows": []}
    five = {"five": of_five}
    for name in options.models:
        loaded = leukonca.load(name)
        ways = [(views, len(loaded.trained.firing_seeds(seeds))) for views, seeds in WAYS]
        for views, seeds in dict.fromkeys(ways):
            model = loaded.views(views).trained
            row: dict[str, Any] = {"model": name, "views": views, "seeds": seeds}
            home = EIGHT.format(cells=options.cells)
            row["home"] = assessed(model, home, {"open": lambda said: said}, part="test", seeds=seeds)["open"]
            row["away"] = {
                place: assessed(model, spec.format(cells=options.cells), five, seeds=seeds)["five"]
                for place, spec in AWAY.items()
            }
            content["rows"].append(row)
            write_text(options.out, json.dumps(content, indent=1) + "\n")
            print(name, views, seeds, row["home"]["accuracy"], *(f["macro_f1"] for f in row["away"].values()))


if __name__ == "__main__":
    main()
