"""What stopping early costs: accuracy and steps of a model on held-out cells over tolerances.

    python benchmarks/settling.py acevedo20-base \\
        --data acevedo20:../shared/data/acevedo20 --out benchmarks/results/settling.json

Cells that the model has seen are left out, by their content. Every cell runs to its last step once for each
firing seed; where each tolerance would have stopped it follows from the answers on the way. The seconds are
those of really stopping, without reading the pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import machine
from sklearn.metrics import f1_score
from tqdm import tqdm

from leukonca.api import load
from leukonca.assessment.evaluate import choose
from leukonca.cells.scan import scan
from leukonca.learning.preparation import read_framed
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id
from leukonca.nca.settling import Settling

TOLERANCES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
BATCH = 64

Cells = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def answers(model: TrainedModel, cells: Cells, looks: list[int], seed: int) -> npt.NDArray[np.float64]:
    """Return the probabilities after each of ``looks``, [looks, B, K]."""
    pictures, images = cells
    with torch.inference_mode():
        states = model.network.rollout(
            model.normalised(pictures), torch.from_numpy(images), seed=seed, record=frozenset(looks)
        ).states
        logits = torch.stack([model.network.decide(states[look])[0] for look in looks])
    return model.stated(logits.double().numpy())


def stops(found: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.int64]:
    """Return at which look each cell stops, of answers [looks, N, K]."""
    settled = np.abs(np.diff(found, axis=0)).max(axis=2) <= tolerance
    settled[-1] = True
    return settled.argmax(axis=0) + 1


def seconds(model: TrainedModel, cells: Cells, settling: Settling | None) -> float:
    """Return how long one firing seed takes."""
    settled, start = model.with_settling(settling), time.perf_counter()
    for first in range(0, len(cells[1]), BATCH):
        part = slice(first, first + BATCH)
        settled.probabilities(cells[0][part], cells[1][part], 0)
    return time.perf_counter() - start


def measure(
    model: TrainedModel, cells: Cells, truth: npt.NDArray[np.int64], seeds: range
) -> list[dict[str, Any]]:
    steps = model.network.architecture.steps
    looks = Settling(0).looks(steps)
    parts = [slice(first, first + BATCH) for first in range(0, len(truth), BATCH)]
    found = np.stack(
        [
            np.concatenate(
                [answers(model, (cells[0][part], cells[1][part]), looks, seed) for part in parts], axis=1
            )
            for seed in tqdm(seeds, desc="seeds")
        ]
    )
    full = found[:, -1].mean(axis=0).argmax(axis=1)
    rows = []
    for tolerance in (None, *TOLERANCES):
        if tolerance is None:
            places = np.full(found.shape[:1] + found.shape[2:3], len(looks) - 1)
        else:
            places = np.stack([stops(one, tolerance) for one in found])
        taken = np.array(looks)[places]
        settled = np.take_along_axis(found, places[:, None, :, None], axis=1)[:, 0]
        named = settled.mean(axis=0).argmax(axis=1)
        right, before = named == truth, full == truth
        rows.append(
            {
                "tolerance": tolerance,
                "steps": round(float(taken.mean()), 3),
                "steps_saved": round(1 - float(taken.mean()) / steps, 4),
                "stopped_early": round(float((taken < steps).mean()), 4),
                "accuracy": round(float(right.mean()), 5),
                "macro_f1": round(float(f1_score(truth, named, average="macro")), 5),
                "named_otherwise": int((named != full).sum()),
                "right_no_more": int((before & ~right).sum()),
                "wrong_no_more": int((~before & right).sum()),
                "seconds_of_one_seed": round(
                    seconds(model, cells, None if tolerance is None else Settling(tolerance)), 3
                ),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="file, folder of a run, or name of a model that comes along")
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--most", type=int, help="only so many cells, spread evenly, to try the script")
    options = parser.parse_args()
    loaded = load(options.model)
    model = loaded.trained
    chosen = choose(model, scan(options.data), "test")
    frame = chosen.manifest.frame
    if options.most:
        frame = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, options.most).astype(int))]
    read = list(read_framed(frame["path"].tolist(), model.framing))
    if broken := [error for _, _, error in read if error]:
        raise SystemExit(f"{len(broken)} pictures cannot be read: {broken[0]}")
    pictures = np.stack([picture for picture, _, _ in read])
    cells = pictures, np.array([image_id(content) for _, content, _ in read], dtype=np.int64)
    truth = np.array([model.classes.index(label) for label in frame["label"]])
    looks = Settling(0).looks(model.network.architecture.steps)
    seeds = model.firing_seeds(options.seeds)
    note = {
        "command": f"python benchmarks/settling.py {options.model} --data … --seeds {options.seeds}",
        "machine": machine(),
        "model": loaded.name,
        "cells": len(truth),
        "notes": list(chosen.notes),
        "seeds": len(seeds),
        "looked_at_steps": looks,
        "rows": measure(model, cells, truth, seeds),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
