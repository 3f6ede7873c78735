"""Trains, tests and records the experiments: one command for each figure, resumable at any point.

    python benchmarks/experiment.py --list
    python benchmarks/experiment.py eight-base --cells ../shared/data

A run is kept under runs/experiments/NAME; a second call goes on where the first one stopped, and only tests
again where the training has ended. The result is one JSON under benchmarks/results/experiments.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

import leukonca
from leukonca.api import Model
from leukonca.assessment.evaluate import Part, choose
from leukonca.assessment.metrics import SUMMARY_MEASURES, Metrics, measure
from leukonca.assessment.predict import FIRING_SEEDS, predict
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.views import align, among
from leukonca.cells.scan import scan
from leukonca.learning.run import FORMER_PRESETS, Run
from leukonca.learning.settings import ArchitectureChanges, Settings
from leukonca.learning.shapes import BASELINES
from leukonca.learning.trained import TrainedModel
from leukonca.vocabulary import CLASS_SETS

ROOT = Path(__file__).resolve().parents[1]
# Laboratories that no training, choosing or calibrating ever sees. `zheng1` was looked at last.
AWAY = {"bccd": "bccd:{cells}/bccd", "bcisc": "bcisc:{cells}/bcisc", "zheng1": "zheng1:{cells}/zheng"}
EIGHT, THIRTEEN = "acevedo20:{cells}/acevedo20", "acevedo20@thirteen:{cells}/acevedo20"

# What makes a model robust, each part of which an ablation switches off.
ROBUST = Settings(
    preset="base",
    fit="cell",
    colour="nucleus",
    reach=1.7,
    normalisation="picture",
    augmentation="laboratories",
    optimizer="adamw",
    learning_rate=3e-3,
    epochs=20,
)


@dataclass(frozen=True)
class Experiment:
    """What is trained on which cells, and where it is tested beside its own held-out cells."""

    about: str
    settings: Settings
    data: str = EIGHT
    away: tuple[str, ...] = field(default=tuple(AWAY))


# The presets as they were while half of the sites fired. Most series were measured with them.
HALF = {name: ArchitectureChanges(**values) for name, values in FORMER_PRESETS.items()}

# The longest that time allowed, with the optimizer that needs fewer steps; the baselines' is AdamW.
LONG: dict[str, Any] = {"optimizer": "muon", "epochs": 48}

# A restraint that was found to cost more than it need.
TIGHT: dict[str, Any] = {"restraint_bound": 1.0}

# The recipe before the pooled channels were normalised in training: that of the ablations' first series.
BEFORE: dict[str, Any] = {"start": "still", "pooled_norm": "none"}

# What is best where no other laboratory matters: the cell's own size and colour are kept.
AT_HOME = Settings(preset="base", crop=0.65, optimizer="adamw", learning_rate=3e-3, epochs=20)


def half(settings: Settings) -> Settings:
    """Return the settings with the preset as it was while half of its sites fired; others stay."""
    return replace(settings, change=HALF.get(settings.preset, settings.change))


def baseline(settings: Settings, name: str, size: int) -> Settings:
    """Return the settings with a larger network in place of the automaton."""
    return replace(settings, preset=name, learning_rate=1e-3, change=ArchitectureChanges(size=size))


def experiments() -> dict[str, Experiment]:
    """All experiments by name."""
    long = replace(ROBUST, **LONG)
    known = {
        "eight-home": Experiment("base, eight classes, for one laboratory", half(AT_HOME)),
        "eight-home-long": Experiment(
            "for one laboratory, every site fires",
            replace(AT_HOME, optimizer="muon", epochs=40, restraint=0.0),
        ),
        "eight-base": Experiment("base, eight classes", long),
        "eight-base-tight": Experiment("a tight restraint", replace(long, **TIGHT)),
        "eight-base-half": Experiment("half of the sites fire", half(long)),
        "eight-every": Experiment("nothing restrains the state", replace(long, restraint=0.0)),
        "eight-base-twenty": Experiment("half of the sites fire, 20 epochs with AdamW", half(ROBUST)),
        "eight-tiny": Experiment("tiny, eight classes", replace(long, preset="tiny")),
        "eight-tiny-tight": Experiment("tiny, a tight restraint", replace(long, preset="tiny", **TIGHT)),
        "eight-tiny-every": Experiment(
            "tiny, nothing restrains the state", replace(long, preset="tiny", restraint=0.0)
        ),
        "eight-tiny-half": Experiment(
            "tiny, half of the sites fire", half(replace(ROBUST, preset="tiny", epochs=30))
        ),
    }
    for fold in range(5):
        settings = replace(ROBUST, folds=5, fold=fold)
        long = replace(settings, **LONG)
        known[f"thirteen-base-{fold}"] = Experiment(f"base, fold {fold} of 5", long, THIRTEEN)
        known[f"thirteen-base-{fold}-tight"] = Experiment(
            f"a tight restraint, fold {fold} of 5", replace(long, **TIGHT), THIRTEEN
        )
        known[f"thirteen-base-{fold}-half"] = Experiment(
            f"half of the sites fire, fold {fold} of 5", half(long), THIRTEEN
        )
        known[f"thirteen-every-{fold}"] = Experiment(
            f"nothing restrains the state, fold {fold} of 5", replace(long, restraint=0.0), THIRTEEN
        )
        known[f"thirteen-base-{fold}-twenty"] = Experiment(
            f"half of the sites fire, fold {fold}, 20 epochs with AdamW", half(settings), THIRTEEN
        )
        tiny = replace(long, preset="tiny")
        known[f"thirteen-tiny-{fold}"] = Experiment(f"tiny, fold {fold} of 5", tiny, THIRTEEN)
        at_home = half(replace(AT_HOME, folds=5, fold=fold, epochs=16))
        known[f"thirteen-home-{fold}"] = Experiment(f"fold {fold}, for one laboratory", at_home, THIRTEEN)
    short = half(replace(ROBUST, epochs=BASELINE_EPOCHS))
    known["eight-base-short"] = Experiment("base, with the budget of the baselines", short)
    for name in BASELINES:
        for size in (64, 128):
            known[f"eight-{name}-{size}"] = Experiment(f"{name} at {size} px", baseline(short, name, size))
    # The same comparison with fewer cells, for what takes too long on all of them.
    reduced = replace(short, limit_per_class=REDUCED_CELLS)
    for name in HALF:
        known[f"reduced-{name}"] = Experiment(f"{name}, few cells", half(replace(reduced, preset=name)))
    for name in BASELINES:
        for size in (64, 128):
            known[f"reduced-{name}-{size}"] = Experiment(
                f"{name} at {size} px, few cells", baseline(reduced, name, size)
            )
    for name in ("paper", "base", "tiny"):
        settings = replace(
            AT_HOME, preset=name, folds=5, epochs=10, batch=16, limit_per_class=FEW_CELLS, learning_rate=2e-3
        )
        about = f"{name}, fold 0 of 5, very few cells"
        known[f"thirteen-few-{name}"] = Experiment(about, half(settings), THIRTEEN)
    # What small automata learn from: the network that carries over best, trained on wider variation.
    wide = replace(ROBUST, augmentation="laboratories_wide")
    teacher = replace(baseline(wide, "resnet18", 64), epochs=16)
    known["teacher-resnet18"] = Experiment("resnet18 as a teacher", teacher)
    taught = replace(wide, **BEFORE, teachers=(f"{RUNS}/teacher-resnet18/best.safetensors",), distill=0.7)
    known["eight-base-taught"] = Experiment("base, taught by resnet18", half(replace(taught, epochs=24)))
    taught_tiny = half(replace(taught, preset="tiny", epochs=30))
    known["eight-tiny-taught"] = Experiment("tiny, taught by resnet18", taught_tiny)
    known["eight-base-wide"] = Experiment("base, wider variation", half(replace(wide, epochs=30)))
    before = replace(ROBUST, **BEFORE, preset="tiny")
    few = half(replace(before, limit_per_class=ABLATION_CELLS, epochs=ABLATION_EPOCHS))
    for name, changes in ABLATIONS.items():
        known[f"ablation-{name}"] = Experiment(f"ablation: {name}", replace(few, **changes))
    # Which sites fire, at equal work, and how wide the rule is.
    medium = half(replace(ROBUST, optimizer="muon", limit_per_class=RULE_CELLS, epochs=RULE_EPOCHS))
    for name, changes in RULES.items():
        changed = replace(medium, change=replace(medium.change, **changes), restraint=0.0)
        known[f"rule-{name}"] = Experiment(f"rule: {name}", changed)
    small = replace(medium, preset="tiny", **TIGHT)
    for name, changes in SMALL_RULES.items():
        changed = replace(small, change=ArchitectureChanges(**changes))
        known[f"rule-tiny-{name}"] = Experiment(f"rule: tiny, {name}", changed)
    for cells in (10, 50, 250):
        # As many steps for all: what is few is the cells, not the training.
        epochs = round(ABLATION_EPOCHS * ABLATION_CELLS / cells)
        settings = replace(few, limit_per_class=cells, epochs=epochs)
        known[f"labels-{cells}"] = Experiment(f"{cells} training cells a class", settings)
    return known


BASELINE_EPOCHS = 10
REDUCED_CELLS, FEW_CELLS = 250, 50
RUNS = "runs/experiments"
RULE_CELLS, RULE_EPOCHS = 500, 16
RULES: dict[str, dict[str, Any]] = {
    "half-16": {},
    "every-8": {"firing": 1.0, "steps": 8},
    "half-16-wide": {"channels": 64, "hidden": 256},
    "every-8-wide": {"channels": 64, "hidden": 256, "firing": 1.0, "steps": 8},
}
SMALL_RULES: dict[str, dict[str, Any]] = {
    "half-12": {"firing": 0.5, "steps": 12},
    "every-6": {"firing": 1.0, "steps": 6},
    "every-8": {"firing": 1.0, "steps": 8},
}
ABLATION_CELLS, ABLATION_EPOCHS = 400, 14
ABLATIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "standard-augmentation": {"augmentation": "standard"},
    "paper-augmentation": {"augmentation": "paper"},
    "no-scale": {"augmentation": "laboratories,scale=0"},
    "no-stain": {"augmentation": "laboratories,stain=0,gamma=0,crosstalk=0,blue_loss=0"},
    "no-finding": {"fit": "square", "crop": 0.6},
    "finding-without-light": {"colour": "as_is"},
    "finding-without-stain": {"colour": "light"},
    "training-statistics": {"normalisation": "training"},
    "nothing": {
        "fit": "square",
        "crop": 0.6,
        "colour": "as_is",
        "normalisation": "training",
        "augmentation": "paper",
    },
    "varied-steps": {"vary_steps": 0.25},
    "varied-firing": {"vary_firing": 0.5},
    "consistency": {"consistency": 4.0},
    "strong-consistency": {"consistency": 12.0},
    # What consistency costs in time, spent on more epochs.
    "twice-as-long": {"epochs": 2 * ABLATION_EPOCHS},
    # What the recipe gained after this series.
    "random-start": {"start": "random"},
    "normalised-pooling": {"start": "random", "pooled_norm": "batch"},
    "muon": {"start": "random", "pooled_norm": "batch", "optimizer": "muon"},
    "max-pooling": {"change": replace(HALF["tiny"], pooling="max")},
    "attention-pooling": {"change": replace(HALF["tiny"], pooling="attention")},
    "mean-pooling": {"change": replace(HALF["tiny"], pooling="mean")},
}


def train(name: str, experiment: Experiment, cells: Path, runs: Path) -> Model:
    """Train, or go on, or take what has ended."""
    folder, cache = runs / name, runs / "cache"
    if Run.is_run(folder):
        if Run.open(folder).settings != experiment.settings:
            raise SystemExit(f"{folder}: holds a run with other settings; move it away")
        return leukonca.resume(folder, cache=cache).model
    data = experiment.data.format(cells=cells)
    return leukonca.train(data, folder, experiment.settings, cache=cache).model


def test_away(model: Model, spec: str) -> dict[str, Any]:
    """Figures on another laboratory's cells of the five normal types.

    ``open``: all of the model's classes may be called, and one that the laboratory has not is an error.
    ``five``: it is known that only the five normal types occur.
    """
    return assessed(model.trained, spec, {"open": lambda said: said, "five": of_five})


def of_five(predictions: Predictions) -> Predictions:
    """What a model says where it is known that only the five normal types occur."""
    return among(predictions, CLASS_SETS["five"])


def assessed(
    model: TrainedModel,
    spec: str,
    views: Mapping[str, Callable[[Predictions], Predictions]],
    *,
    part: Part = "all",
    seeds: int = FIRING_SEEDS,
) -> dict[str, dict[str, Any]]:
    """Figures on the cells of a SPEC, by the name of the view in which the predictions are taken."""
    frame = choose(model, scan([spec]), part).manifest.frame
    groups = frame["group"].tolist() if (frame["group"] != "").any() else None
    said = predict(model, frame["path"].tolist(), seeds=seeds)
    found = {}
    for name, view in views.items():
        predictions, truth, _ = align(view(said), frame["label"].tolist())
        found[name] = figures(measure(truth, predictions.probabilities, predictions.classes, groups=groups))
    return found


def figures(metrics: Metrics) -> dict[str, Any]:
    """The figures worth keeping, as plain numbers."""
    summary = {name: getattr(metrics, name) for name in SUMMARY_MEASURES}
    return {
        "n": metrics.n,
        **{name: _numbers(estimate) for name, estimate in summary.items()},
        "f1": {entry.name: _numbers(entry.f1) for entry in metrics.per_class if entry.support},
        "support": {entry.name: entry.support for entry in metrics.per_class if entry.support},
    }


def _numbers(estimate: Any) -> list[float | None]:
    values = (estimate.value, estimate.low, estimate.high)
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]


def record(name: str, experiment: Experiment, model: Model, cells: Path, away: list[str]) -> dict[str, Any]:
    run = model.run
    assert run is not None  # it was just trained
    history = run.history
    note = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    # One view of each picture, as the baselines' rows have it; and as the model is used where that is more.
    once = model.views(1)
    home = once.evaluate(None, run.folder / "report-one-view")
    laboratories = {lab: AWAY[lab].format(cells=cells) for lab in experiment.away if lab in away}
    used = {}
    if model.trained.views > 1:
        used["as_used"] = {
            "views": model.trained.views,
            "home": figures(model.evaluate(None, run.folder / "report")),
            "away": {lab: test_away(model, spec) for lab, spec in laboratories.items()},
        }
    return {
        "name": name,
        "about": experiment.about,
        "command": f"python benchmarks/experiment.py {name} --cells CELLS",
        "data": experiment.data,
        "settings": run.settings.to_dict(),
        "precision": run.precision,
        "machine": machine(),
        "trained_with": note["versions"],
        "parameters": model.trained.network.parameter_count,
        "training_cells": len(model.trained.seen_training),
        "epochs": len(history),
        "best_epoch": model.trained.provenance["epoch"],
        "seconds": round(float(history["seconds"].sum()), 1),
        "home": figures(home),
        "away": {lab: test_away(once, spec) for lab, spec in laboratories.items()},
        **used,
    }


def main() -> None:
    known = experiments()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments, one after the other")
    parser.add_argument("--list", action="store_true", help="name them all")
    parser.add_argument("--cells", type=Path, help="folder with acevedo20, bccd, bcisc and zheng")
    parser.add_argument("--away", nargs="*", default=list(AWAY), help="laboratories to test in")
    parser.add_argument("--runs", type=Path, default=ROOT / RUNS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "experiments")
    options = parser.parse_args()
    if options.list:
        for name, experiment in known.items():
            print(f"{name:28} {experiment.about}")
        return
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; --list names them all")
    if not options.cells or not options.names:
        parser.error("give the names of experiments and --cells")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for name in options.names:
        model = train(name, known[name], options.cells, options.runs)
        result = record(name, known[name], model, options.cells, options.away)
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        (options.out / f"{name}.json").write_text(text, encoding="utf-8")
        home = result["home"]
        print(name, f"home accuracy {home['accuracy']} macro-F1 {home['macro_f1']}")
        for laboratory, both in result["away"].items():
            print(name, laboratory, {view: both[view]["macro_f1"] for view in both})


if __name__ == "__main__":
    main()
