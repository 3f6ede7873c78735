"""Tables of the experiments, from the JSON that ``benchmarks/experiment.py`` writes.

Run as a program, it brings the README's tables up to date: what stands between ``<!-- table: NAME -->`` and
``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from _tables import table

__all__ = [
    "ablations",
    "baselines",
    "eight_classes",
    "few_labels",
    "laboratories",
    "readme",
    "shipped",
    "thirteen_classes",
]

_FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "experiments"
_AWAY = {"bccd": "BCCD", "bcisc": "BCISC", "zheng1": "Zheng 1"}
_NOTHING = "No such experiment is kept in the repository yet."
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


def _kept(prefix: str = "") -> dict[str, dict[str, Any]]:
    files = sorted(_FOLDER.glob(f"{prefix}*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


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


def _mean_away(result: dict[str, Any], view: str = "five") -> float | None:
    values = [result["away"][name][view]["macro_f1"][0] for name in _AWAY if name in result["away"]]
    return fmean(values) if len(values) == len(_AWAY) else None


def _training(result: dict[str, Any]) -> str:
    return f"{result['training_cells']:,} cells, {result['epochs']} epochs"


def eight_classes() -> str:
    """Accuracy at home in the eight-class use."""
    results = _kept("eight-") | _kept("teacher-")
    if not results:
        return _NOTHING
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
    rows += [
        (f"{name}, published, BloodMNIST 64 px", "", "3,421", value, "") for name, value in _PUBLISHED_EIGHT
    ]
    return table(("model", "parameters", "held-out cells", "accuracy, %", "macro-F1"), rows)


def thirteen_classes() -> str:
    """Accuracy at home in the thirteen-class use, fold by fold."""
    results = _kept("thirteen-")
    if not results:
        return _NOTHING
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
    rows += [(name, "", "", value, "") for name, value in _PUBLISHED_THIRTEEN]
    return table(("model", "parameters", "held-out cells", "accuracy, %", "macro-F1"), rows)


def laboratories() -> str:
    """Macro-F1 in laboratories never seen, over the five normal types."""
    return _away_table([*_kept("eight-").values(), *_kept("teacher-").values()])


def baselines() -> str:
    """The automaton beside larger networks, trained by the same code."""
    return _away_table(
        result for name, result in _kept("eight-").items() if result["epochs"] == _baseline_epochs()
    )


def _baseline_epochs() -> int:
    epochs = [result["epochs"] for result in _kept("eight-resnet18").values()]
    return epochs[0] if epochs else -1


def _away_table(results: Iterable[dict[str, Any]]) -> str:
    rows = []
    for result in results:
        mean = _mean_away(result)
        rows.append(
            (
                f"`{result['name']}`",
                f"{result['parameters']:,}",
                _training(result),
                _said(result["home"]["accuracy"]),
                *(
                    _said(result["away"][name]["five"]["macro_f1"]) if name in result["away"] else ""
                    for name in _AWAY
                ),
                "" if mean is None else f"**{mean:.3f}**",
            )
        )
    if not rows:
        return _NOTHING
    head = ("model", "parameters", "trained on", "home accuracy", *_AWAY.values(), "mean away")
    return table(head, rows)


def ablations() -> str:
    """What each part of the robust recipe is worth."""
    results = _kept("ablation-")
    return _away_table(results.values()) if results else _NOTHING


def few_labels() -> str:
    """The recipe with few training cells."""
    results = _kept("labels-")
    return _away_table(results.values()) if results else _NOTHING


def shipped() -> str:
    """The models that come with the package, in short."""
    models = (
        ("acevedo20-base", "eight-base", 8),
        ("acevedo20-tiny", "eight-tiny", 8),
        ("acevedo20-base-thirteen", "thirteen-base-0", 10),
    )
    rows = []
    for model, experiment, types in models:
        file = _FOLDER / f"{experiment}.json"
        if not file.is_file():
            continue
        result = json.loads(file.read_text(encoding="utf-8"))
        rows.append(
            (
                f"`{model}`",
                f"{result['parameters']:,}",
                str(types),
                f"{_said(result['home']['accuracy'])} of {result['home']['n']:,}",
                *(f"{result['away'][name]['five']['macro_f1'][0]:.2f}" for name in _AWAY),
                f"{_mean_away(result):.2f}",
            )
        )
    head = ("model", "parameters", "types", "accuracy on held-out cells", *_AWAY.values(), "mean")
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
