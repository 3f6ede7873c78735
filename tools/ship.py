"""Put the model of an experiment into the package, with a card made from its recorded figures.

    python tools/ship.py acevedo20-base eight-base

Takes ``best.safetensors`` of the run under runs and the JSON under benchmarks/results/experiments,
so that the card (model_card.md.j2) says nothing that was not measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from leukonca.learning.bundle import load_bundle, save_bundle
from leukonca.vocabulary import CELL_TYPES

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "src" / "leukonca" / "delivery" / "models"
LABORATORIES = {
    "bccd": "BCCD (351 cells, 3 basophils)",
    "bcisc": "BCISC (268 cells)",
    "zheng1": "Zheng 1 (300 cells, 1 basophil)",
}


def said(figure: list[float | None]) -> str:
    """A figure with its interval."""
    value, low, high = figure
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}–{high:.3f})"


def title(name: str) -> str:
    """What people call a type of cell."""
    return CELL_TYPES[name].title


def weakest(figures: dict[str, Any], count: int) -> str:
    """The types with the lowest F1."""
    ranked = sorted((figure[0], name) for name, figure in figures["f1"].items())
    return ", ".join(f"{title(name).lower()} (F1 {value:.2f})" for value, name in ranked[:count])


def card(name: str, result: dict[str, Any], classes: tuple[str, ...]) -> str:
    """The model's card, Markdown."""
    used = result.get("as_used", result)  # the same where one view is all that it is used with
    away = {LABORATORIES[place]: views["five"] for place, views in used["away"].items()}
    changed = {name: value for name, value in result["settings"]["change"].items() if value is not None}
    listed = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in changed.items())
    scores = {place: figures["macro_f1"][0] for place, figures in away.items()}
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    ).get_template("model_card.md.j2")
    return template.render(
        name=name,
        result=result,
        settings=result["settings"],
        changes=f" with {listed}" if changed else "",
        home=used["home"],
        views=used.get("views", 1),
        types=[title(one).lower() for one in classes],
        away=away,
        mean=fmean(scores.values()),
        worst=min(scores, key=lambda place: scores[place]),
        said=said,
        title=title,
        weakest=weakest,
    )


def main() -> None:
    """Write model and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="what the model is called from now on")
    parser.add_argument("experiment", help="the experiment that it comes from")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "experiments")
    options = parser.parse_args()
    file = ROOT / "benchmarks" / "results" / "experiments" / f"{options.experiment}.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    model = load_bundle(options.runs / options.experiment / "best.safetensors")
    MODELS.mkdir(parents=True, exist_ok=True)
    save_bundle(model, MODELS / f"{options.name}.safetensors")
    text = card(options.name, result, model.classes)
    (MODELS / f"{options.name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
