"""The pictures of an evaluation.

Figures are made through matplotlib's objects, never through pyplot: nothing global changes, no window opens.
Colours are safe for colour-blind readers and differ in lightness, so that they survive a grey print.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from leukonca.assessment.metrics import Metrics
from leukonca.assessment.promises import ReviewCurve, SetFigures
from leukonca.assessment.weighted import BINS, calibration_bin, ratio
from leukonca.errors import SettingError
from leukonca.vocabulary import CELL_TYPES
from leukonca.writing import write_bytes

__all__ = [
    "confusion_figure",
    "f1_figure",
    "history_figure",
    "reliability_figure",
    "review_figure",
    "save_figure",
    "title_of",
    "to_png",
]

_INK, _QUIET, _BLUE, _ORANGE = "#1f2933", "#5b6773", "#2f6db0", "#b45309"
_LONGEST_TITLE = 26


def title_of(name: str) -> str:
    """Return a class's name for people: the vocabulary's title, or a user's own name as it is."""
    kind = CELL_TYPES.get(name)
    return kind.title if kind else name


def confusion_figure(matrix: npt.ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: counts as numbers, the share of each true class as colour.

    Args:
        matrix: [K, K] counts, rows the truth.
        classes: K names.
    """
    counts = np.asarray(matrix)
    k = len(classes)
    shares = ratio(counts, counts.sum(axis=1, keepdims=True), otherwise=0.0)
    side = 0.6 * max(k, 3)
    figure = Figure(figsize=(side + 3.1, side + 1.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap=colormaps["Blues"], vmin=0, vmax=1)
    names = [_short(title_of(name)) for name in classes]
    # A class called "$x$" is no formula.
    axes.set_xticks(range(k), names, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(k), names, parse_math=False)
    axes.set_xlabel("called by the model", color=_QUIET)
    axes.set_ylabel("true", color=_QUIET)
    axes.set_xticks(np.arange(k - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(k - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#d5dbe1", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_color("#d5dbe1")
    digits = len(str(int(counts.max(initial=0))))
    for row, column in np.argwhere(counts > 0):
        axes.text(
            column,
            row,
            f"{counts[row, column]:d}",
            ha="center",
            va="center",
            fontsize=10 if digits <= 4 else 8,
            color="white" if shares[row, column] > 0.55 else _INK,
        )
    bar = figure.colorbar(image, ax=axes, shrink=0.6, format=PercentFormatter(1.0))
    bar.set_label("share of the true class", color=_QUIET)
    bar.outline.set_visible(False)
    return figure


def reliability_figure(confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = BINS) -> Figure:
    """Draw how often the model is right against how sure it is, over a histogram of how sure it is.

    Args:
        confidence: float [N], probability of the winning class, 0–1.
        correct: bool [N], the winning class is the true one.
        bins: Number of equal-width bins; those of the expected calibration error by default.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    number = calibration_bin(sure, bins)
    count = np.bincount(number, minlength=bins)
    accuracy = ratio(np.bincount(number, right, bins), count)
    mean = ratio(np.bincount(number, sure, bins), count)
    centres = (np.arange(bins) + 0.5) / bins
    figure = Figure(figsize=(5.6, 5.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    upper.plot([0, 1], [0, 1], color=_QUIET, linewidth=1, linestyle="--", label="as sure as it is right")
    upper.bar(centres, accuracy, width=0.94 / bins, color=_BLUE, alpha=0.25)
    filled = count > 0
    upper.plot(mean[filled], accuracy[filled], "o-", color=_BLUE, markersize=5, label="this model")
    upper.set(xlim=(0, 1), ylim=(0, 1.02))
    upper.set_ylabel("share correct", color=_QUIET)
    upper.legend(loc="upper left", frameon=False)
    lower.bar(centres, count, width=0.94 / bins, color=_BLUE, alpha=0.7)
    lower.set_ylabel("cells", color=_QUIET)
    lower.set_xlabel("probability of the winning class", color=_QUIET)
    lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in (upper, lower):
        _plain(axes)
    return figure


def review_figure(curve: ReviewCurve, sets: Sequence[SetFigures] = ()) -> Figure:
    """Draw the accuracy of the cells left to the model against the share that a person reviews.

    Args:
        curve: Where the least sure cells are reviewed.
        sets: Where those are reviewed whose set does not hold exactly one class: a mark each.
    """
    shares = np.arange(len(curve.accuracy)) / len(curve.accuracy)
    half = shares <= 0.5
    figure = Figure(figsize=(6.2, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.plot(shares[half], curve.accuracy[half], color=_BLUE, label="the least sure first")
    marks = [entry for entry in sets if entry.single and 1 - entry.single <= 0.5]
    if marks:
        places = [1 - entry.single for entry in marks]
        heights = [entry.accuracy_of_single for entry in marks]
        axes.plot(places, heights, "o", color=_ORANGE, label="sets without exactly one type, by coverage")
        for entry, x, y in zip(marks, places, heights, strict=True):
            axes.annotate(
                f"{entry.asked:.0%}", (x, y), (5, -12), textcoords="offset points", color=_ORANGE, fontsize=9
            )
    axes.set_xlim(0, 0.5)
    axes.set_xlabel("share reviewed by a person", color=_QUIET)
    axes.set_ylabel("accuracy of the others", color=_QUIET)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.grid(color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    _plain(axes)
    return figure


def f1_figure(metrics: Metrics) -> Figure:
    """Draw the F1 of every class with its interval; classes without cells are left out."""
    entries = [entry for entry in metrics.per_class if entry.support][::-1]
    figure = Figure(figsize=(6.6, 1.1 + 0.36 * len(entries)), layout="constrained")
    axes = figure.subplots()
    for place, entry in enumerate(entries):
        axes.plot([entry.f1.low, entry.f1.high], [place, place], color=_BLUE, linewidth=3, alpha=0.4)
        axes.plot(entry.f1.value, place, "o", color=_BLUE, markersize=7)
    axes.axvline(
        metrics.macro_f1.value, color=_ORANGE, linewidth=1, linestyle="--", label="mean over the classes"
    )
    labels = [f"{_short(title_of(entry.name))}  (n = {entry.support})" for entry in entries]
    axes.set_yticks(range(len(entries)), labels, parse_math=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(entries) - 0.4))
    axes.set_xlabel("F1 with its 95 % interval", color=_QUIET)
    axes.grid(axis="x", color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper right", frameon=False, fontsize=9)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    return figure


def history_figure(history: pd.DataFrame) -> Figure | None:
    """Draw the course of a training: losses, and beside them scores between 0 and 1.

    Args:
        history: One row a logged moment. ``epoch`` (else ``step``, else the row) is the horizontal axis;
            columns whose name holds ``loss`` are losses, those with ``acc``, ``f1`` or ``auroc`` scores. Rows
            of one epoch are averaged, NaN left out: Lightning logs training and validation on separate rows.

    Returns:
        The figure, or ``None`` where the table holds neither.
    """
    numeric = history.select_dtypes("number")
    axis = next((name for name in ("epoch", "step") if name in numeric), None)
    table = numeric.groupby(axis).mean() if axis else numeric
    names = [str(name) for name in table.columns if table[name].notna().any()]
    panels = {
        "loss": [name for name in names if "loss" in name.lower()],
        "score": [name for name in names if any(key in name.lower() for key in ("acc", "f1", "auroc"))],
    }
    panels = {label: columns for label, columns in panels.items() if columns}
    if not panels:
        return None
    figure = Figure(figsize=(0.6 + 4.6 * len(panels), 3.4), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    colours = [_BLUE, _ORANGE, "#117733", "#882255", "#44aa99", "#999933"]
    for axes, (label, columns) in zip(all_axes, panels.items(), strict=True):
        for place, column in enumerate(columns):
            known = table[column].dropna()
            style: dict[str, Any] = {"color": colours[place % len(colours)], "marker": "o", "markersize": 3}
            axes.plot(known.index.to_numpy(), known.to_numpy(), label=column.replace("_", " "), **style)
        axes.set_xlabel(axis or "row", color=_QUIET)
        axes.set_ylabel(label, color=_QUIET)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(color="#e4e8ec", linewidth=0.8)
        axes.legend(frameon=False, fontsize=9)
        if label == "score":
            axes.set_ylim(0, 1.02)
        _plain(axes)
    return figure


def to_png(figure: Figure, *, dpi: int = 160) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure."""
    return _rendered(figure, "png", dpi)


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 160) -> None:
    """Write a figure as PNG or SVG, by the suffix of ``path``.

    Raises:
        SettingError: The suffix is neither.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".svg"):
        raise SettingError(f"{os.fspath(path)}: a figure cannot have the suffix {suffix!r}; use .png or .svg")
    write_bytes(path, _rendered(figure, suffix[1:], dpi))


def _rendered(figure: Figure, kind: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    # Neither program nor date: a repeated evaluation gives the same file.
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    figure.savefig(buffer, format=kind, dpi=dpi, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def _short(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color("#c3cbd3")
    axes.tick_params(colors=_INK, labelsize=9)
