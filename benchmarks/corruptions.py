"""Models on spoilt pictures of cells that they have not seen: balanced error against kind and severity.

    python benchmarks/corruptions.py runs/acevedo20-base tiny.safetensors \\
        --data acevedo20:../shared/data/acevedo20 --out benchmarks/results/corruptions.json

After BloodMNIST-C, see leukonca.assessment.corruptions. Ctrl-C loses one row at most: the same command goes
on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

import leukonca
from leukonca.api import Model
from leukonca.assessment.corruptions import CORRUPTIONS
from leukonca.assessment.evaluate import choose
from leukonca.assessment.intervals import Estimate
from leukonca.assessment.robustness import BLOODMNIST_SHARE, Row, robustness, summary
from leukonca.cells.manifest import Manifest
from leukonca.cells.scan import scan
from leukonca.errors import LeukoncaError
from leukonca.writing import write_text


def some(manifest: Manifest, limit: int) -> Manifest:
    """At most so many cells, spread over the whole table."""
    if not limit or limit >= len(manifest):
        return manifest
    return manifest.subset(np.linspace(0, len(manifest) - 1, limit).round().astype(int))


def fingerprint(model: Model) -> str:
    """A hash of weights and metadata that matter: a model of the same name may be another one."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.trained.network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    digest.update(
        repr((model.trained.framing, model.trained.normalisation, model.trained.statistics)).encode()
    )
    return digest.hexdigest()


def row_of(entry: dict[str, Any]) -> Row:
    named = ("accuracy", "balanced_accuracy", "balanced_error")
    return Row(**entry | {name: Estimate.from_dict(entry[name]) for name in named})


class Results:
    """The file of results, written anew after every row."""

    def __init__(self, file: Path, options: dict[str, Any]) -> None:
        self.file = file
        self.content: dict[str, Any] = {"machine": machine(), "options": options, "models": []}
        if file.is_file():
            self.content = json.loads(file.read_text(encoding="utf-8"))
            if self.content["options"] != options:
                raise LeukoncaError(
                    f"{file}: was measured with {self.content['options']}, not {options}; "
                    "name another file, or give the same options to go on"
                )

    def of(self, model: Model, sources: list[str], cells: int) -> dict[str, Any]:
        """The entry of a model, new or as it was left."""
        facts = {
            "model": model.name,
            "weights": fingerprint(model),
            "parameters": model.trained.network.parameter_count,
            "sources": sources,
            "cells": cells,
        }
        for entry in self.content["models"]:
            if facts.items() <= entry.items():
                return entry
        self.content["models"].append(facts | {"rows": [], "summary": {}})
        return self.content["models"][-1]

    def add(self, entry: dict[str, Any], row: Row) -> None:
        entry["rows"].append(row.to_dict())
        rows = [row_of(one) for one in entry["rows"]]
        entry["summary"] = {name: asdict(balance) for name, balance in summary(rows).items()}
        write_text(self.file, json.dumps(self.content, indent=1) + "\n")


def run(options: argparse.Namespace) -> None:
    kept = {"corruptions": options.corruptions, "seed": options.seed, "share": options.share}
    kept |= {"firing_seeds": options.seeds, "resamples": options.resamples, "limit": options.limit}
    results = Results(options.out, kept)
    manifest = scan(options.data)
    for place in options.models:
        model = leukonca.load(place)
        chosen = some(choose(model.trained, manifest, "test").manifest, options.limit)
        entry = results.of(model, sorted(chosen.frame["source"].unique()), len(chosen))
        done = [(row["corruption"], row["severity"]) for row in entry["rows"]]
        print(f"{model.name}: {len(chosen)} cells, {len(done)} rows are known", file=sys.stderr, flush=True)
        for row in robustness(
            model.trained,
            chosen,
            corruptions=options.corruptions,
            done=done,
            seed=options.seed,
            share=options.share,
            seeds=options.seeds,
            resamples=options.resamples,
            progress=sys.stderr.isatty(),
        ):
            results.add(entry, row)
            error = row.balanced_error
            print(
                f"{model.name}: {row.corruption} {row.severity}: balanced error {error.value:.4f} "
                f"({error.low:.4f} to {error.high:.4f})",
                file=sys.stderr,
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="RUN_OR_MODEL")
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--corruptions", nargs="+", choices=CORRUPTIONS, default=list(CORRUPTIONS))
    parser.add_argument("--share", type=float, default=BLOODMNIST_SHARE, help="of a picture's side in 224 px")
    parser.add_argument("--seed", type=int, default=0, help="of what is random in the damage")
    parser.add_argument("--seeds", type=int, default=4, help="firing seeds to average over")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=0, help="at most so many cells, to try it out")
    options = parser.parse_args()
    try:
        run(options)
    except LeukoncaError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"interrupted; {options.out} holds the rows so far, and the same command goes on", file=sys.stderr
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
