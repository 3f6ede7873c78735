"""The README's picture: what a trained model says of cells that it has not seen, and its confusion matrix.

    python benchmarks/picture.py runs/acevedo20-base --out docs/images/acevedo20-base.webp

Takes the run's own report (``leukonca evaluate RUN``) and, of each class, the first held-out cell by file
name, right or wrong: nothing is picked by hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from leukonca.assessment.figures import title_of
from leukonca.assessment.prediction import Predictions
from leukonca.cells.decode import decode


def draw(report: Path, out: Path) -> None:
    predictions = Predictions.read(report / "predictions.csv")
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    confusion = pd.read_csv(report / "confusion.csv", index_col=0)
    truth = np.array(predictions.truth)
    order = np.argsort([Path(path).name for path in predictions.paths], kind="stable")
    shown = [next(row for row in order if truth[row] == name) for name in predictions.classes]
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    left.suptitle("Held-out cells, and what the model says", fontsize=10)
    for axes, row in zip(left.subplots(2, 4).flat, shown, strict=True):
        axes.imshow(decode(predictions.paths[row]))
        label, sure = predictions.labels[row], predictions.confidence[row]
        right_ = label == truth[row]
        axes.set_title(
            f"{title_of(label)}\n{sure:.0%} ± {predictions.spread[row]:.0%}",
            fontsize=8,
            color="#222222" if right_ else "#b2182b",
        )
        axes.set_xlabel("" if right_ else f"truly {title_of(truth[row])}", fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])
    accuracy, macro = metrics["accuracy"], metrics["macro_f1"]
    right.suptitle(
        f"All {metrics['n']:,} of them: accuracy {accuracy['value']:.3f} "
        f"({accuracy['low']:.3f}–{accuracy['high']:.3f}), macro-F1 {macro['value']:.3f}",
        fontsize=10,
    )
    axes = right.subplots()
    counts = confusion.to_numpy(dtype=float)
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [title_of(name) for name in predictions.classes]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "#222222"
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_ylabel("true", fontsize=8)
    axes.set_xlabel("called by the model", fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    draw(options.run / "report", options.out)


if __name__ == "__main__":
    main()
