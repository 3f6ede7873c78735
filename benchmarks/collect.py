"""What is worth keeping of a run and its report, as one small JSON without any path of the machine.

    python benchmarks/collect.py runs/acevedo20-base --command "leukonca train ..." \\
        --out benchmarks/results/acevedo20-base.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from machine import machine

from leukonca.learning.run import Run


def collect(folder: Path, command: str) -> dict[str, Any]:
    run = Run.open(folder)
    note = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    cells = run.manifest.frame
    model = run.model()
    history = run.history
    return {
        "command": command,
        "machine": machine(),
        "trained_with": note["versions"],
        "precision": run.precision,
        "settings": run.settings.to_dict(),
        "parameters": model.network.parameter_count,
        "cells": {
            part: {str(name): int(count) for name, count in counts.items()}
            for part, counts in pd.crosstab(cells["label"], cells["split"]).items()
        },
        "best_epoch": model.provenance["epoch"],
        "seconds": float(history["seconds"].sum()),
        "training_cells_per_second_median_epoch": round(
            len(model.seen_training) / float(history["seconds"].median()), 1
        ),
        "history": history.to_dict(orient="records"),
        "test": json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--command", required=True, help="what the run was made with")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps(collect(options.run, options.command), indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
