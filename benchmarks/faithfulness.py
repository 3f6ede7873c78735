"""How faithful the explanations of a model are, on cells that it has not seen, against every other method.

    python benchmarks/faithfulness.py acevedo20-base \\
        --data acevedo20:../shared/data/acevedo20 --cells 200 --out benchmarks/results/faithfulness.json

Explained is why each cell was given its class rather than any other (the log odds). `darkness` is no
explanation: it calls relevant what differs from the clear field, whatever the model, and shows what a measure
gives to a map that merely finds the cell.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from torch import Tensor

import leukonca
from leukonca.assessment.evaluate import choose
from leukonca.assessment.predict import FIRING_SEEDS
from leukonca.cells.scan import scan
from leukonca.explanation.comparison import gradient_times_input, integrated_gradients, occlusion
from leukonca.explanation.faithfulness import (
    flip,
    mean_areas,
    mean_differences,
    order_of,
    random_order,
)
from leukonca.explanation.gradcam import grad_cam
from leukonca.explanation.relevance import relevance
from leukonca.explanation.removal import clear_field
from leukonca.explanation.sanity import randomised, similarity
from leukonca.explanation.target import Target
from leukonca.learning.preparation import read_framed
from leukonca.learning.trained import TrainedModel
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import image_id

Explain = Callable[..., Tensor]
"""(network, pictures, images, target, first_seed=…) gives signed relevance [B, S, S]."""


def methods(model: TrainedModel, seeds: int, others: int) -> dict[str, Explain]:
    """Those that the network allows; relevance averages ``seeds`` firing seeds, the rest ``others``."""
    chosen: dict[str, Explain] = {}
    if isinstance(model.network, CellClassifier):
        chosen["relevance"] = lambda *cells, **more: relevance(*cells, seeds=seeds, **more).map
        chosen["epsilon"] = lambda *cells, **more: relevance(*cells, seeds=others, rule="epsilon", **more).map
    else:
        chosen["grad_cam"] = lambda *cells, first_seed=0: grad_cam(*cells)
        others = 1  # nothing in it is left to chance
    chosen["gradient_times_input"] = lambda *cells, **more: gradient_times_input(
        *cells, seeds=others, **more
    ).sum(1)
    chosen["integrated_gradients"] = lambda *cells, **more: integrated_gradients(
        *cells, seeds=others, **more
    ).sum(1)
    for window in (8, 16):
        chosen[f"occlusion_{window}"] = partial(occlusion, window=window, stride=4, seeds=others)
    return chosen


def in_batches(
    explain: Explain, network: Any, cells: tuple[Tensor, Tensor, Target], batch: int, first_seed: int = 0
) -> Tensor:
    pictures, images, target = cells
    every = [slice(start, start + batch) for start in range(0, len(pictures), batch)]
    return torch.cat(
        [
            explain(network, pictures[rows], images[rows], target.rows(rows), first_seed=first_seed)
            for rows in every
        ]
    )


def cells_of(model: TrainedModel, spec: str, wanted: int) -> tuple[Any, np.ndarray, list[str]]:
    """Pictures, identities and labels of unseen cells, drawn by a hash of their names: always the same."""
    manifest = scan([spec])
    names = [f"{Path(path).parent.name}/{Path(path).name}" for path in manifest.frame["path"]]
    order = np.argsort([blake2b(name.encode("utf-8", "surrogateescape")).hexdigest() for name in names])
    # Whether the model has seen a cell is known from its pixels alone, so not all are looked at.
    few = manifest.subset(order[: max(500, 12 * wanted)])
    frame = choose(model, few, "test", progress=True).manifest.frame.iloc[:wanted]
    if len(frame) < wanted:
        raise SystemExit(f"only {len(frame)} of the {wanted} cells wanted are unseen; ask for fewer")
    read = list(read_framed(frame["path"].tolist(), model.framing))
    if errors := [error for _, _, error in read if error]:
        raise SystemExit(f"{len(errors)} of the cells cannot be read: {errors[0]}")
    pictures = np.stack([picture for picture, _, _ in read if picture is not None])
    return pictures, np.array([image_id(hash_) for _, hash_, _ in read]), frame["label"].tolist()


def say(*words: Any) -> None:
    print(*words, file=sys.stderr, flush=True)


def faithfulness(
    cells: tuple[Tensor, Tensor, Target],
    model: TrainedModel,
    maps: dict[str, Tensor],
    labels: list[str],
    options: argparse.Namespace,
    patch: int,
) -> dict[str, Any]:
    """Curves and areas of all methods, patches of ``patch`` pixels at a time."""
    pictures, images, _ = cells
    darkness = (pictures - clear_field(pictures)).abs().sum(1)
    orders = {name: order_of(found, patch) for name, found in {**maps, "darkness": darkness}.items()}
    orders["random"] = random_order(images, orders["darkness"].shape[1])
    results: dict[str, Any] = {}
    for way in ("deletion", "insertion"):
        curves = {}
        for name, order in orders.items():
            start = time.perf_counter()
            curves[name] = flip(
                model.network,
                *cells,
                order,
                loss=model.loss,
                insert=way == "insertion",
                patch=patch,
                points=options.points,
                seeds=options.flip_seeds,
            )
            taken = time.perf_counter() - start
            area = round(curves[name].probability_area.mean(), 4)
            say(f"{patch} px", way, name, area, f"{taken:.0f} s")
        probability = {name: (one.probability, one.probability_area) for name, one in curves.items()}
        log_odds = {name: (one.value, one.value_area) for name, one in curves.items()}
        results[way] = {
            "shares": next(iter(curves.values())).shares.tolist(),
            "probability": summed_up(probability, labels, options.resamples),
            "log_odds": summed_up(log_odds, labels, options.resamples),
        }
    return results


def summed_up(
    found: dict[str, tuple[np.ndarray, np.ndarray]], labels: list[str], resamples: int
) -> dict[str, Any]:
    """Mean area and curve of each method, and how far the first method's areas lie from its own."""
    areas = {name: area for name, (_, area) in found.items()}
    means = mean_areas(areas, resamples=resamples)
    first = next(iter(areas))
    differences = mean_differences(areas, first, resamples=resamples)
    classes = sorted(set(labels))
    return {
        name: {
            "area": means[name].to_dict(),
            f"{first}_minus_this": differences[name].to_dict() if name != first else None,
            "area_by_class": {one: float(area[np.array(labels) == one].mean()) for one in classes},
            "curve": curve.mean(0).round(5).tolist(),
        }
        for name, (curve, area) in found.items()
    }


def sanity(
    cells: tuple[Tensor, Tensor, Target], model: TrainedModel, explain: dict[str, Explain], batch: int
) -> dict[str, Any]:
    """Correlation with the map of the intact model, and with that of other firing seeds."""
    results: dict[str, Any] = {}
    for name, method in explain.items():
        own = in_batches(method, model.network, cells, batch)
        alike = {
            f"randomised_{part}": similarity(own, in_batches(method, network, cells, batch))
            for part, network in randomised(model.network)
        }
        if isinstance(model.network, CellClassifier):
            alike["other_seeds"] = similarity(
                own, in_batches(method, model.network, cells, batch, first_seed=1000)
            )
        known = {part: values[~np.isnan(values)] for part, values in alike.items()}
        results[name] = {
            part: mean_areas({part: values})[part].to_dict() for part, values in known.items() if len(values)
        }
        say("sanity", name, {part: round(float(values.mean()), 3) for part, values in known.items()})
    return results


def completeness(cells: tuple[Tensor, Tensor, Target], model: TrainedModel, exact: int) -> dict[str, Any]:
    found = relevance(model.network, *cells, seeds=1, progress=True)
    pictures, images, target = cells
    rows = slice(0, exact)
    proof = relevance(model.network, pictures[rows], images[rows], target.rows(rows), seeds=1, exact=True)
    share = found.pixels.flatten(1).sum(1) / (found.value - found.background)
    return {
        "error_float32": {
            "max": float(found.completeness_error.max()),
            "median": float(found.completeness_error.median()),
        },
        "error_float64": {"max": float(proof.completeness_error.max()), "cells": len(proof.value)},
        "explained_log_odds_mean": float(found.value.mean()),
        "background_log_odds_mean": float(found.background.mean()),
        "remainder_abs_max": float(found.remainder.sum(1).abs().max()),
        "share_of_difference_at_input_median": float(share.median()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="SPEC")
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--sanity-cells", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=8, help="firing seeds that relevance averages")
    parser.add_argument("--other-seeds", type=int, default=4, help="and that the other methods average")
    parser.add_argument("--flip-seeds", type=int, default=1, help="firing seeds that a curve averages")
    parser.add_argument("--points", type=int, default=32, help="of a curve")
    # Relevance halves the picture by patches of 4 px: it must also hold at another size.
    parser.add_argument("--patches", type=int, nargs="+", default=[4, 8], help="sides in px")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", nargs="+", help="names of methods; the first is held against the others")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    loaded = leukonca.load(options.model)
    model = loaded.trained
    model.network.eval()
    raw, ids, labels = cells_of(model, options.data, options.cells)
    every = [model.probabilities(raw, ids, seed) for seed in range(FIRING_SEEDS)]
    named = torch.from_numpy(np.mean(every, axis=0).argmax(1))
    cells = model.normalised(raw), torch.from_numpy(ids), Target("rest", named)
    explain = methods(model, options.seeds, options.other_seeds)
    if options.only:
        explain = {name: explain[name] for name in options.only}
    maps, seconds = {}, {}
    for name, method in explain.items():
        start = time.perf_counter()
        maps[name] = in_batches(method, model.network, cells, options.batch)
        seconds[name] = round((time.perf_counter() - start) / len(raw), 4)
        say("explained by", name, f"{seconds[name]} s a cell")
    right = np.array([model.classes[int(one)] for one in named]) == np.array(labels)
    few = slice(0, options.sanity_cells)
    results = {
        "machine": machine(),
        "model": loaded.name,
        "data": options.data.split(":")[0],
        "cells": {label: labels.count(label) for label in sorted(set(labels))},
        "named_rightly": int(right.sum()),
        "options": {
            name: getattr(options, name)
            for name in ("seeds", "other_seeds", "flip_seeds", "points", "resamples", "sanity_cells")
        }
        | {"target": "rest"},
        "seconds_per_cell": seconds,
        "by_patch": {
            str(patch): faithfulness(cells, model, maps, labels, options, patch) for patch in options.patches
        },
        "sanity": sanity((cells[0][few], cells[1][few], cells[2].rows(few)), model, explain, options.batch),
    }
    if isinstance(model.network, CellClassifier):
        results["completeness"] = completeness(cells, model, options.sanity_cells)
    text = json.dumps(results, indent=1) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
