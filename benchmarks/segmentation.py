"""How well cells are outlined by an automaton that never saw a mask: Dice and IoU on sets that have masks.

    python benchmarks/segmentation.py MODEL --data bcisc:DIR zheng1:DIR --out FILE.json

No mask takes part in anything but the measuring. The method and its constants were chosen by looking at the
figures of BCISC; those of Zheng 1 were not looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from machine import machine
from PIL import Image

import leukonca
from leukonca.assessment.intervals import Estimate, cluster_index, draws, percentile_interval
from leukonca.cells.decode import decode
from leukonca.cells.scan import scan
from leukonca.explanation.segmentation import segment
from leukonca.writing import write_text

METHODS: dict[str, dict[str, Any]] = {
    "discriminant": {},
    "discriminant of the picture alone (no step)": {"step": 0},
    "component, as published": {"method": "component"},
}
Mask = npt.NDArray[np.bool_]


def bcisc_mask(path: Path) -> dict[str, Mask]:
    file = path.parent.parent / "masks" / f"{path.stem}.png"
    return {"cell": np.asarray(Image.open(file).convert("L")) > 127}


def zheng_mask(path: Path) -> dict[str, Mask]:
    grey = np.asarray(Image.open(path.with_suffix(".png")).convert("L"))
    # 0, 128 and 255, if it were not for whatever a viewer made of them.
    return {"cell": grey > 64, "nucleus": grey > 192}


MASKS: dict[str, Callable[[Path], dict[str, Mask]]] = {"bcisc": bcisc_mask, "zheng1": zheng_mask}


def mean_with_interval(
    values: npt.NDArray[np.float64], groups: list[str], resamples: int = 1000
) -> dict[str, Any]:
    """The mean and its 95 % bootstrap interval, drawing whole groups where they are known."""
    generator = np.random.default_rng(0)
    means = [
        values @ weights / weights.sum(axis=0)
        for weights in draws(cluster_index(groups), resamples, generator)
    ]
    low, high = percentile_interval(np.concatenate(means))
    return Estimate(float(values.mean()), float(low), float(high)).to_dict()


def measure(
    model: Any, cells: pd.DataFrame, source: str, seeds: int, options: dict[str, Any]
) -> dict[str, Any]:
    rows = []
    for start in range(0, len(cells), 16):
        paths = [Path(path) for path in cells["path"][start : start + 16]]
        pictures = [decode(path) for path in paths]
        for path, found in zip(paths, segment(model, pictures, seeds=seeds, **options), strict=True):
            row = {}
            for part, truth in MASKS[source](path).items():
                mask = getattr(found, part)
                both, either = (mask & truth).sum(), (mask | truth).sum()
                row |= {f"{part}_dice": 2 * both / (mask.sum() + truth.sum()), f"{part}_iou": both / either}
            rows.append(row)
    table, groups = pd.DataFrame(rows), cells["group"].tolist()
    labels = cells["label"].to_numpy()
    return {
        name: {
            **mean_with_interval(table[name].to_numpy(), groups),
            "median": float(table[name].median()),
            "tenth_percentile": float(table[name].quantile(0.1)),
            "by_class": {label: float(table[name][labels == label].mean()) for label in sorted(set(labels))},
        }
        for name in table
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="take only every n-th cell, to try it out")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = leukonca.load(options.model).trained
    result: dict[str, Any] = {
        "machine": machine(),
        "model": Path(options.model).name,
        "framing": repr(model.framing),
        "seeds": options.seeds,
        "sets": {},
    }
    cells = scan(options.data).frame
    for source, part in cells.groupby("source"):
        part = part.iloc[:: options.every].reset_index(drop=True)
        result["sets"][source] = {"cells": len(part)}
        for name, how in METHODS.items():
            figures = measure(model, part, str(source), options.seeds, how)
            result["sets"][source][name] = figures
            print(source, name, {key: round(value["value"], 3) for key, value in figures.items()}, flush=True)
    write_text(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
