"""Tables of the experiments, from the JSON that ``benchmarks/experiment.py`` writes.

Run as a program, it brings the README's tables up to date: what stands between ``<!-- table: NAME -->`` and
``<!-- end -->``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from _tables import all_measured, measured, table

from leukonca.learning.settings import Settings
from leukonca.learning.shapes import BASELINES

__all__ = [
    "AWAY",
    "ablations",
    "adaptation",
    "baselines",
    "corruptions",
    "eight_classes",
    "expected",
    "few_labels",
    "kept",
    "laboratories",
    "mean_away",
    "orientations",
    "readme",
    "reduced",
    "rules",
    "shipped",
    "thirteen_classes",
]

AWAY = {"bccd": "BCCD", "bcisc": "BCISC", "zheng1": "Zheng 1"}
# Accuracies in per cent of others, from their publications.
_PUBLISHED_EIGHT = (
    ("VGG-16", "98.20"),
    ("DenseNet-121", "97.99"),
    ("ResNet-18", "97.06"),
    ("AlexNet", "96.41"),
)
_PUBLISHED_THIRTEEN = (
    ("MaxNCA, 86,413 parameters (Deutges et al. 2024)", "90.6 ± 0.2"),
    ("ResNeXt, 25 million (the same)", "85.7 ± 2.4"),
    ("AE-CFE, 3.9 million (the same)", "65.2 ± 0.5"),
)


def kept(prefix: str = "") -> dict[str, dict[str, Any]]:
    """Return the experiments whose names begin with ``prefix``."""
    return all_measured(f"experiments/{prefix}*.json")


def _said(figure: list[float | None], scale: float = 1.0, digits: int = 3) -> str:
    value, low, high = figure
    if value is None:
        return ""
    text = f"{value * scale:.{digits}f}"
    return (
        text
        if low is None or high is None
        else f"{text} ({low * scale:.{digits}f}–{high * scale:.{digits}f})"
    )


def mean_away(result: dict[str, Any], view: str = "five") -> float | None:
    """Return the mean macro-F1 over the other laboratories; ``None`` where one is missing."""
    values = [result["away"][name][view]["macro_f1"][0] for name in AWAY if name in result["away"]]
    return fmean(values) if len(values) == len(AWAY) else None


def _training(result: dict[str, Any]) -> str:
    return f"{result['training_cells']:,} cells, {result['epochs']} epochs"


def eight_classes() -> str:
    """Accuracy at home in the eight-class use."""
    published = [
        (f"{name}, published, BloodMNIST 64 px", "", "3,421", value, "") for name, value in _PUBLISHED_EIGHT
    ]
    return _home_table(kept("eight-") | kept("teacher-"), published)


def thirteen_classes() -> str:
    """Accuracy at home in the thirteen-class use, fold by fold."""
    return _home_table(kept("thirteen-"), [(name, "", "", value, "") for name, value in _PUBLISHED_THIRTEEN])


def _home_table(results: Mapping[str, dict[str, Any]], published: Iterable[tuple[str, ...]]) -> str:
    rows = [
        (
            f"`{name}`",
            f"{result['parameters']:,}",
            f"{result['home']['n']:,}",
            _said(result["home"]["accuracy"], 100, 2),
            _said(result["home"]["macro_f1"]),
        )
        for name, result in results.items()
    ]
    return table(("model", "parameters", "held-out cells", "accuracy, %", "macro-F1"), [*rows, *published])


def laboratories() -> str:
    """Macro-F1 in laboratories never seen, over the five normal types."""
    return _away_table([*kept("eight-").values(), *kept("teacher-").values()])


def baselines() -> str:
    """The automaton beside larger networks, trained by the same code on all training cells."""
    results = kept("eight-")
    epochs = {result["epochs"] for name, result in results.items() if _is_baseline(result)}
    return _away_table((result for result in results.values() if result["epochs"] in epochs), speed=True)


def reduced() -> str:
    """The same with few training cells, at two sizes of the picture."""
    return _away_table(kept("reduced-").values(), speed=True)


def _is_baseline(result: dict[str, Any]) -> bool:
    return result["settings"]["preset"] in BASELINES


def _cells_per_second(result: dict[str, Any]) -> float | None:
    """Inference in the precision that suits the network, on the machine that measured most networks.

    ``None`` for an automaton of another shape than the preset had there.
    """
    shape = Settings.from_dict(result["settings"]).architecture()
    preset = result["settings"]["preset"]
    bench = max(
        all_measured("bench*.json").values(), key=lambda found: len(found["parts"].get("networks", []))
    )
    if not _is_baseline(result) and bench["presets"].get(preset) != shape.to_dict():
        return None
    names = (preset, f"{preset} (fused)")
    speeds = [
        row["cells_per_second"]
        for row in bench["parts"]["networks"]
        if row["network"] in names and row["pixels"] == shape.size and row["task"] == "inference"
    ]
    return max(speeds, default=None)


def _away_table(results: Iterable[dict[str, Any]], *, speed: bool = False) -> str:
    rows = []
    for result in results:
        mean = mean_away(result)
        rows.append(
            (
                f"`{result['name']}`",
                f"{result['parameters']:,}",
                _training(result),
                _said(result["home"]["accuracy"]),
                *(
                    _said(result["away"][name]["five"]["macro_f1"]) if name in result["away"] else ""
                    for name in AWAY
                ),
                "" if mean is None else f"**{mean:.3f}**",
                *([_rate(_cells_per_second(result))] if speed else []),
            )
        )
    head = ["model", "parameters", "trained on", "home accuracy", *AWAY.values(), "mean away"]
    return table([*head, "cells/s"] if speed else head, rows)


def _rate(cells: float | None) -> str:
    return "" if cells is None else f"{cells:,.0f}"


def ablations() -> str:
    """What each part of the robust recipe is worth."""
    return _away_table(kept("ablation-").values())


def rules() -> str:
    """How many sites fire at how many steps, and how wide the rule is."""
    return _away_table(kept("rule-").values())


def few_labels() -> str:
    """The recipe with few training cells."""
    return _away_table(kept("labels-").values())


def adaptation() -> str:
    """Macro-F1 in other laboratories against labelled cells of theirs."""
    found = measured("adaptation")["laboratories"]
    columns = {name: {_step(row): row for row in entry["summary"]} for name, entry in found.items()}
    steps = sorted({step for rows in columns.values() for step in rows})
    return table(
        ("adapted with", *(AWAY[name] for name in columns)),
        (
            (step[2], *(_spread(rows[step]["five"]) if step in rows else "" for rows in columns.values()))
            for step in steps
        ),
    )


def _step(row: dict[str, Any]) -> tuple[int, float, str]:
    """A step of the adaptation: its place among the others, and its name."""
    if row["kind"] == "none":
        return 0, 0, "nothing"
    if row["kind"] == "statistics":
        cells = row["cells"]
        return 1, cells or math.inf, f"{cells or 'all'} cells without labels"
    labels = row["labels"]
    return 2, labels or math.inf, f"{labels} labels a type" if labels else "all labels"


def _spread(figure: list[float]) -> str:
    mean, spread = figure
    return f"{mean:.3f} ± {spread:.3f}" if spread else f"{mean:.3f}"


def orientations() -> str:
    """What averaging over the orientations of a picture brings."""
    rows = []
    for row in measured("orientations")["rows"]:
        away = [row["away"][name]["macro_f1"] for name in AWAY]
        rows.append(
            (
                f"`{row['model']}`",
                str(row["views"]),
                str(row["seeds"]),
                _said(row["home"]["accuracy"]),
                *map(_said, away),
                f"**{fmean(figure[0] for figure in away):.3f}**",
            )
        )
    return table(("model", "views", "seeds", "home accuracy", *AWAY.values(), "mean away"), rows)


def expected() -> str:
    """What it brings elsewhere to know how often each type occurs in blood."""
    rows = []
    for row in measured("expected")["rows"]:
        for shares in ("training", "blood"):
            away = [row["away"][name][shares]["macro_f1"] for name in AWAY]
            mean = fmean(figure[0] for figure in away)
            views = str(row["views"])
            rows.append((f"`{row['model']}`", views, shares, *map(_said, away), f"**{mean:.3f}**"))
    return table(("model", "views", "expects", *AWAY.values(), "mean away"), rows)


def corruptions() -> str:
    """Balanced error on spoilt pictures, mean over five severities, with the benchmark's two figures."""
    found = measured("corruptions")["models"]
    clean = ("as they are", *(_said_estimate(entry["rows"][0]["balanced_error"]) for entry in found))
    names = list(found[0]["summary"])
    rows = [
        (
            name.replace("_", " "),
            *(
                f"{one['error']:.3f} (BE {one['be']:.2f}, rBE {one['rbe']:.2f})"
                for one in (entry["summary"][name] for entry in found)
            ),
        )
        for name in names
    ]
    return table(("damage", *(f"`{entry['model']}`" for entry in found)), [clean, *rows])


def _said_estimate(estimate: dict[str, float]) -> str:
    return _said([estimate["value"], estimate["low"], estimate["high"]])


def shipped() -> str:
    """The models that come with the package, in short."""
    models = (
        ("acevedo20-base", "eight-base-half", 8),
        ("acevedo20-tiny", "eight-tiny", 8),
        ("acevedo20-base-thirteen", "thirteen-base-0-half", 10),
    )
    rows = []
    for model, experiment, types in models:
        result = measured(f"experiments/{experiment}")
        used = result.get("as_used", result)
        rows.append(
            (
                f"`{model}`",
                f"{result['parameters']:,}",
                str(types),
                f"{_said(used['home']['accuracy'])} of {used['home']['n']:,}",
                *(f"{used['away'][name]['five']['macro_f1'][0]:.2f}" for name in AWAY),
                f"{mean_away(used):.2f}",
            )
        )
    head = ("model", "parameters", "types", "accuracy on held-out cells", *AWAY.values(), "mean")
    return table(head, rows)


def readme(text: str) -> str:
    """Return the README with its tables up to date."""

    def fresh(found: re.Match[str]) -> str:
        made = globals()[found[2].replace("-", "_")]()
        return f"{found[1]}\n\n{made}\n\n<!-- end -->"

    return re.sub(r"(<!-- table: ([a-z-]+) -->)\n.*?<!-- end -->", fresh, text, flags=re.DOTALL)


if __name__ == "__main__":
    _README = Path(__file__).resolve().parents[1] / "README.md"
    _README.write_text(readme(_README.read_text(encoding="utf-8")), encoding="utf-8")
