"""The pictures of the proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from matplotlib.figure import Figure

from leukonca.explanation.proof.methods import TITLES

__all__ = ["flipping_figure", "inside_figure", "sanity_figure", "title_of_method"]

_INK, _QUIET, _BLUE, _ORANGE = "#1f2933", "#5b6773", "#2f6db0", "#b45309"
_COLOURS: Final = ("#b45309", "#117733", "#882255", "#44aa99", "#999933", "#88ccee")
_GREY: Final = {"darkness": ":", "random": "--"}


def title_of_method(name: str) -> str:
    """Return what a method is called on a page."""
    known = TITLES.get(name)
    if known is None and name.startswith("occlusion_"):
        return f"occlusion, {name.removeprefix('occlusion_')} px"
    return known or name


def flipping_figure(ways: Mapping[str, Any]) -> Figure:
    """Draw the curves of deletion and insertion side by side.

    Args:
        ways: ``deletion`` and ``insertion`` of one size of patches, as the part ``faithfulness`` gives them.
    """
    figure = Figure(figsize=(10.4, 4.3), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    words = {"deletion": "cleared, the most relevant first", "insertion": "put back, the most relevant first"}
    for place, (way, found) in zip(axes, ways.items(), strict=True):
        colours = iter(_COLOURS * 2)
        for number, (name, entry) in enumerate(found["probability"].items()):
            style: dict[str, Any] = {"color": _BLUE, "linewidth": 2.6, "zorder": 3}
            if number:
                style = {"color": next(colours), "linewidth": 1.2}
            if name in _GREY:
                style = {"color": _QUIET, "linewidth": 1.2, "linestyle": _GREY[name]}
            place.plot(found["shares"], entry["curve"], label=title_of_method(name), **style)
        place.set(xlim=(0, 1), ylim=(0, 1.02))
        place.set_title(way, color=_INK, fontsize=11)
        place.set_xlabel(f"share of the picture {words[way]}", color=_QUIET)
        _plain(place)
    axes[0].set_ylabel("probability of the named class", color=_QUIET)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    return figure


def inside_figure(sets: Mapping[str, Any]) -> Figure:
    """Draw the share of relevance within cell and nucleus beside what knows no model.

    Args:
        sets: By image set, as the part ``localisation`` gives them.
    """
    rows = [
        (f"{name}: {part}", found[part])
        for name, found in sets.items()
        for part in ("cell", "nucleus")
        if part in found
    ]
    figure = Figure(figsize=(7.4, 0.9 + 0.62 * len(rows)), layout="constrained")
    axes = figure.subplots()
    marks = {"relevance": (_BLUE, "o"), "darkness": (_ORANGE, "s"), "area": (_QUIET, "|")}
    labels = {
        "relevance": "positive relevance",
        "darkness": "darkness (no model)",
        "area": "area (an even map)",
    }
    for place, (_, entry) in enumerate(reversed(rows)):
        for name, (colour, mark) in marks.items():
            found = entry[name]
            if found["value"] is None:
                continue
            axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=4, alpha=0.35)
            axes.plot(
                found["value"],
                place,
                mark,
                color=colour,
                markersize=8,
                label=labels[name] if not place else "",
            )
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)], parse_math=False)
    axes.set(xlim=(0, 1.01), ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("share within the mask, with its 95 % interval", color=_QUIET)
    axes.grid(axis="x", color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper right", frameon=False, fontsize=9, ncols=3)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    return figure


def sanity_figure(found: Mapping[str, Any], titles: Mapping[str, str]) -> Figure:
    """Draw how alike maps stay, a line a method.

    Args:
        found: The part ``sanity``.
        titles: What its variants are called, in their order.
    """
    figure = Figure(figsize=(7.4, 3.6), layout="constrained")
    axes = figure.subplots()
    colours = iter(_COLOURS)
    for number, (name, entry) in enumerate(found["methods"].items()):
        colour = next(colours) if number else _BLUE
        places = [place for place, variant in enumerate(titles) if entry[variant]["value"] is not None]
        chosen = [entry[list(titles)[place]] for place in places]
        shift = (number - (len(found["methods"]) - 1) / 2) * 0.06
        axes.errorbar(
            [place + shift for place in places],
            [one["value"] for one in chosen],
            yerr=[
                [one["value"] - one["low"] for one in chosen],
                [one["high"] - one["value"] for one in chosen],
            ],
            fmt="o",
            color=colour,
            capsize=2,
            label=title_of_method(name),
        )
    axes.axhline(0, color=_QUIET, linewidth=0.8)
    axes.set_xticks(range(len(titles)), list(titles.values()))
    axes.set(ylim=(-0.55, 1.02))
    axes.set_ylabel("rank correlation with the map as it is", color=_QUIET)
    axes.grid(axis="y", color="#e4e8ec", linewidth=0.8)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    _plain(axes)
    return figure


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color("#c3cbd3")
    axes.tick_params(colors=_INK, labelsize=9)
