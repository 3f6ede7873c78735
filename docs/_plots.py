"""Plots of the experiments, from the data under ``benchmarks/results``.

Run as a program, it draws the pictures of the README and the results page anew: ``python docs/_plots.py``.
Each carries a hash of its data, by which a test tells whether it is out of date.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from _experiments import AWAY, kept, mean_away
from _tables import measured
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

__all__ = ["PLOTS", "draw", "fingerprint", "source"]

_IMAGES = Path(__file__).resolve().parent / "images"
_INK, _QUIET, _FAINT = "#1f2933", "#5b6773", "#d5dbe1"
# Safe for colour-blind readers (Okabe and Ito), and told apart by their markers, too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_MARKERS = ("o", "s", "^", "D")
_KINDS = {
    "jpeg_compression": "JPEG",
    "pixelate": "pixelated",
    "defocus_blur": "out of focus",
    "motion_blur": "moved",
    "brightness_up": "brighter",
    "brightness_down": "darker",
    "contrast_up": "more contrast",
    "contrast_down": "less contrast",
    "saturate": "saturated",
    "stain_deposit": "grains of dye",
    "bubble": "bubble",
}


def _shift_source() -> list[dict[str, Any]]:
    """Home and away of every model that learned from all training cells, the best elsewhere last."""
    rows = [
        {
            "name": result["name"].removeprefix("eight-"),
            "parameters": result["parameters"],
            "epochs": result["epochs"],
            "home": result["home"]["macro_f1"],
            "away": {place: result["away"][place]["five"]["macro_f1"] for place in AWAY},
            "mean": mean_away(result),
        }
        for result in kept("eight-").values()
        if mean_away(result) is not None
    ]
    return sorted(rows, key=lambda row: row["mean"])


def _shift(rows: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(8.2, 0.46 * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    for height, row in enumerate(rows):
        places = {"at home": row["home"]} | {AWAY[name]: figure_ for name, figure_ in row["away"].items()}
        for number, (place, (value, low, high)) in enumerate(places.items()):
            y = height + 0.14 * (1.5 - number)
            colour = _COLOURS[number]
            axes.plot((low, high), (y, y), color=colour, linewidth=1.4, alpha=0.6)
            label = place if height == 0 else None
            axes.plot(value, y, _MARKERS[number], color=colour, markersize=5, label=label)
        axes.plot(row["mean"], height, "|", color=_INK, markersize=22)
    axes.plot([], [], "|", color=_INK, markersize=9, label="mean away")  # as high as a line of the legend
    names = [f"{row['name']}\n{row['parameters']:,} parameters, {row['epochs']} epochs" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_xlabel("macro-F1, with 95 % intervals", color=_QUIET, fontsize=8)
    _plain(axes)
    axes.grid(axis="x", color=_FAINT, linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    return figure


def _corruptions_source() -> list[dict[str, Any]]:
    return [
        {"model": entry["model"], "cells": entry["cells"], "rows": entry["rows"]}
        for entry in measured("corruptions")["models"]
    ]


def _corruptions(models: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9.2, 6.2), layout="constrained")
    panels = figure.subplots(3, 4, sharex=True, sharey=True).flat
    for axes, (kind, title) in zip(panels, _KINDS.items(), strict=False):
        for number, model in enumerate(models):
            rows = {row["severity"]: row for row in model["rows"] if row["corruption"] in (kind, "clean")}
            errors = [rows[severity]["balanced_error"] for severity in sorted(rows)]
            colour = _COLOURS[number]
            axes.fill_between(
                sorted(rows),
                [error["low"] for error in errors],
                [error["high"] for error in errors],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
            axes.plot(
                sorted(rows),
                [error["value"] for error in errors],
                marker=_MARKERS[number],
                markersize=3.5,
                linewidth=1.2,
                color=colour,
                label=model["model"],
            )
        axes.set_title(title, fontsize=8, color=_INK)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _plain(axes)
        axes.grid(color=_FAINT, linewidth=0.6)
    axes.set_ylim(0, 0.7)
    figure.axes[len(_KINDS)].axis("off")
    figure.axes[len(_KINDS) - 4].tick_params(labelbottom=True)  # there is none below it
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(models), frameon=False, fontsize=8)
    figure.supxlabel("severity (0: as they are)", fontsize=8, color=_QUIET)
    figure.supylabel("balanced error", fontsize=8, color=_QUIET)
    return figure


def _adaptation_source() -> dict[str, Any]:
    found = measured("adaptation")
    return {
        "model": found["model"],
        "laboratories": {name: entry["summary"] for name, entry in found["laboratories"].items()},
    }


def _adaptation(found: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    axes = figure.subplots()
    ticks = ["none", "its pictures", "5", "10", "25", "50", "100", "all"]
    for number, (name, summary) in enumerate(found["laboratories"].items()):
        points = {_place(row): row["five"] for row in summary if row.get("cells", "all") != 20}
        where = sorted(points, key=ticks.index)
        x = [ticks.index(place) for place in where]
        mean = [points[place][0] for place in where]
        spread = [points[place][1] for place in where]
        # The colours of the laboratories are those of the plot of the shift.
        axes.errorbar(
            x,
            mean,
            yerr=spread,
            color=_COLOURS[number + 1],
            marker=_MARKERS[number + 1],
            markersize=5,
            linewidth=1.2,
            capsize=2,
            label=AWAY[name],
        )
    axes.set_xticks(
        range(len(ticks)), ["no\nadaptation", "its pictures\nwithout labels", *ticks[2:]], fontsize=8
    )
    axes.set_xlabel(
        "labelled cells of each type (fewer where there are not as many)", fontsize=8, color=_QUIET
    )
    axes.set_ylabel("macro-F1, five types", fontsize=8, color=_QUIET)
    axes.set_ylim(0.3, 1)
    _plain(axes)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _place(row: dict[str, Any]) -> str:
    if row["kind"] == "labels":
        return "all" if row["labels"] is None else str(row["labels"])
    return "none" if row["kind"] == "none" else "its pictures"


def _plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=_INK, labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_FAINT)


_DRAWN: dict[str, tuple[Callable[[], Any], Callable[[Any], Figure]]] = {
    "shift": (_shift_source, _shift),
    "corruptions": (_corruptions_source, _corruptions),
    "adaptation": (_adaptation_source, _adaptation),
}
PLOTS = tuple(_DRAWN)
"""Names of the plots; ``docs/images/NAME.svg``."""


def source(name: str) -> Any:
    """Return the data of a plot as JSON values."""
    return _DRAWN[name][0]()


def fingerprint(name: str) -> str:
    """Return a hash of the data of a plot."""
    return hashlib.blake2b(json.dumps(source(name)).encode(), digest_size=8).hexdigest()


def draw(name: str) -> str:
    """Return a plot as SVG."""
    buffer = io.StringIO()
    # Text stays text, and the same data give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        _DRAWN[name][1](source(name)).savefig(
            buffer, format="svg", metadata={"Date": None, "Description": f"data {fingerprint(name)}"}
        )
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


if __name__ == "__main__":
    for _name in PLOTS:
        _file = _IMAGES / f"{_name}.svg"
        _file.write_text(draw(_name), encoding="utf-8")
