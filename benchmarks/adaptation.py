"""How many labels of another laboratory a model needs: macro-F1 over five types against labels a type.

    python benchmarks/adaptation.py acevedo20-base --cells ../shared/data \\
        --laboratories bccd bcisc --out benchmarks/results/adaptation.json

The cells of a laboratory are divided into four parts, slides kept whole; each is tested once, by a model that
was adapted with cells of the other three, and the figure is over all of them together. This is repeated with
other seeds. Without labels, the statistics come from all cells of the three parts, or from some.

Ctrl-C loses one figure at most: the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

import leukonca
from leukonca.assessment.metrics import Metrics, measure
from leukonca.assessment.predict import join, predict
from leukonca.assessment.views import align, among
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.cells.splits import stratified_folds
from leukonca.errors import LeukoncaError
from leukonca.learning.adaptation import Observed, choose_cells, fit, observe, with_pooled_statistics
from leukonca.learning.trained import TrainedModel
from leukonca.vocabulary import CLASS_SETS
from leukonca.writing import write_text

LABORATORIES = {"bccd": "bccd", "bcisc": "bcisc", "zheng1": "zheng"}
PARTS = 4
UNLABELLED = (20, None)
LABELS = (5, 10, 25, 50, 100)


def parts(manifest: Manifest, seed: int) -> np.ndarray:
    """The part in which each cell is tested; types with fewer cells than parts are dealt one by one."""
    frame = manifest.frame
    scarce = frame["label"].map(frame["label"].value_counts()) < PARTS
    found = np.arange(len(frame)) % PARTS
    common = np.flatnonzero(~scarce)
    found[common] = stratified_folds(
        frame["label"].iloc[common], frame["group"].iloc[common], folds=PARTS, seed=seed
    )
    return found


def adapted(
    model: TrainedModel, manifest: Manifest, observed: Observed, step: dict[str, Any], seed: int
) -> tuple[TrainedModel, dict[str, int]]:
    """The model as `adapt` would give it, and how many cells of each type it learnt from."""
    if step["kind"] == "none":
        return model, {}
    labels = step["labels"] if step["kind"] == "labels" else 0
    if step["kind"] == "statistics":
        rows = np.random.default_rng(seed).permutation(len(manifest))[: step["cells"]]
        manifest = manifest.subset(np.sort(rows))
    # Observing is nearly all of the work, and the same for every figure.
    cells = observed.take(choose_cells(model, manifest, labels, seed))
    child = fit(model, cells, labelled=labels != 0, seed=seed)
    return child, child.provenance["adapted"][-1]["labels"]


def tested(
    model: TrainedModel, manifest: Manifest, observed: Observed, step: dict[str, Any], seed: int
) -> dict[str, Any]:
    """The figures of one seed over all cells."""
    found = parts(manifest, seed)
    predictions, truth, used = [], [], []
    for part in range(PARTS):
        child, labels = adapted(model, manifest.subset(found != part), observed, step, seed)
        cells = manifest.subset(found == part).frame
        predictions.append(predict(child, cells["path"].tolist()))
        truth += cells["label"].tolist()
        used.append(labels)
    aligned, labels_of, _ = align(join(predictions, model.classes), truth)
    known = among(aligned, CLASS_SETS["five"])
    both = {"open": aligned, "five": known}
    return {
        **step,
        "seed": seed,
        **{
            view: figures(measure(labels_of, said.probabilities, said.classes, resamples=0))
            for view, said in both.items()
        },
        "most_labels_of": {
            name: max(labels.get(name, 0) for labels in used) for name in sorted(set().union(*used))
        },
    }


def figures(metrics: Metrics) -> dict[str, Any]:
    return {
        "macro_f1": round(metrics.macro_f1.value, 4),
        "accuracy": round(metrics.accuracy.value, 4),
        "f1": {entry.name: round(entry.f1.value, 4) for entry in metrics.per_class if entry.support},
    }


def steps(manifest: Manifest) -> list[dict[str, Any]]:
    """What is tried: as many labels as some type has, and all."""
    most = int(manifest.frame["label"].value_counts().max() * (PARTS - 1) / PARTS)
    labels = [number for number in LABELS if number <= most]
    return [
        {"kind": "none"},
        *({"kind": "statistics", "cells": cells} for cells in UNLABELLED),
        *({"kind": "labels", "labels": number} for number in (*labels, None) if number != most),
    ]


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread over the seeds of every step."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(json.dumps({k: row[k] for k in ("kind", "cells", "labels") if k in row}), []).append(
            row
        )
    summary = []
    for key, same in found.items():
        entry: dict[str, Any] = {**json.loads(key), "seeds": len(same)}
        for view in ("open", "five"):
            values = [row[view]["macro_f1"] for row in same]
            entry[view] = [round(statistics.fmean(values), 4), round(statistics.pstdev(values), 4)]
        summary.append(entry)
    return summary


def run(options: argparse.Namespace) -> None:
    model = leukonca.load(options.model)
    trained = model.trained
    if trained.pooled is None:
        trained = with_pooled_statistics(trained, scan(options.source))
    content: dict[str, Any] = {"machine": machine(), "model": model.name, "parts": PARTS, "laboratories": {}}
    if options.out.is_file():
        content = json.loads(options.out.read_text(encoding="utf-8"))
        if content["model"] != model.name:
            raise LeukoncaError(f"{options.out}: is of the model {content['model']}; name another file")
    for name in options.laboratories:
        manifest = scan([f"{name}:{options.cells / LABORATORIES[name]}"])
        counts = manifest.frame["label"].value_counts().to_dict()
        entry = content["laboratories"].setdefault(name, {"cells": counts, "rows": [], "summary": []})
        observed = observe(trained, manifest)
        for step in steps(manifest):
            # Without adaptation the seed only divides.
            for seed in range(1 if step["kind"] == "none" else options.seeds):
                if any(row.items() >= {**step, "seed": seed}.items() for row in entry["rows"]):
                    continue
                row = tested(trained, manifest, observed, step, seed)
                entry["rows"].append(row)
                entry["summary"] = summarised(entry["rows"])
                write_text(options.out, json.dumps(content, indent=1) + "\n")
                print(name, step, seed, row["open"]["macro_f1"], row["five"]["macro_f1"], flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", metavar="RUN_OR_MODEL")
    parser.add_argument("--cells", type=Path, required=True, help="folder with bccd, bcisc, zheng")
    parser.add_argument("--laboratories", nargs="+", choices=sorted(LABORATORIES), default=["bccd", "bcisc"])
    parser.add_argument(
        "--source", nargs="+", metavar="SPEC", help="of the training, for models that need it to be adapted"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        run(options)
    except LeukoncaError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from {options.out}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
