"""The proof as a page of HTML that needs nothing but itself, beside its figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from leukonca.assessment.figures import to_png
from leukonca.assessment.gallery import data_uri
from leukonca.assessment.intervals import Estimate
from leukonca.assessment.page import render
from leukonca.assessment.report import as_json
from leukonca.explanation.proof.alike import OTHER_SEEDS
from leukonca.explanation.proof.figures import (
    flipping_figure,
    inside_figure,
    sanity_figure,
    title_of_method,
)
from leukonca.writing import write_bytes

__all__ = ["FIGURES", "PAGE", "write_check"]

FIGURES: Final = "explain-check.json"
PAGE: Final = "explain-check.html"

_PARTS: Final = {"cell": "cell", "nucleus": "nucleus"}


def write_check(out: Path, result: Mapping[str, Any]) -> None:
    """Write the page, then the figures as JSON: a folder with the second has the first.

    Args:
        out: Folder.
        result: As :func:`leukonca.explanation.proof.check.check` gives it, perhaps not finished.

    Raises:
        DataError: A file cannot be written.
    """
    write_bytes(out / PAGE, render("explain-check.html.j2", _context(result), package="leukonca.explanation"))
    write_bytes(out / FIGURES, as_json(result))


def _context(result: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: found for name, found in result["parts"].items() if "skipped" not in found}
    return {
        "result": result,
        "parts": parts,
        "skipped": _skipped(result["parts"]),
        "flips": _flips(parts["faithfulness"]) if "faithfulness" in parts else None,
        "inside": _inside(parts["localisation"]) if "localisation" in parts else None,
        "sanity": _sanity(parts["sanity"]) if "sanity" in parts else None,
        "outlines": _outlines(parts["segmentation"]) if "segmentation" in parts else None,
        "attributes": _attributes(parts["morphology"]) if "morphology" in parts else None,
        "facts": {
            "Model": f"{result['model']}, {result['parameters']:,} parameters",
            "Framing": result["framing"],
            "Data": ", ".join(result["data"]),
            "Seeds": f"{result['sizes']['seeds']} for relevance, {result['sizes']['other_seeds']} for other "
            "methods where sites fire by chance, 1 for a curve",
            "Intervals": f"95 % percentile bootstrap over cells, {result['sizes']['resamples']:,} draws; "
            "whole slides or patients where they are known",
            "leukonca": f"{result['machine']['leukonca']}, engine {result['machine']['engine']}",
            "Processor time": ", ".join(f"{name} {found['seconds']:,.0f} s" for name, found in parts.items()),
        },
    }


def _skipped(parts: Mapping[str, Any]) -> dict[str, str]:
    """Reasons by part, and by part and image set."""
    reasons = {name: found["skipped"] for name, found in parts.items() if "skipped" in found}
    for name, found in parts.items():
        for of, entry in found.get("sets", {}).items():
            if "skipped" in entry:
                reasons[f"{name} on {of}"] = entry["skipped"]
    return reasons


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    return Estimate.from_dict({name: entry[name] for name in ("value", "low", "high")})


def _flips(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables = []
    for patch, ways in found["by_patch"].items():
        names = list(ways["deletion"]["probability"])
        tables.append(
            {
                "patch": patch,
                "figure": data_uri(to_png(flipping_figure(ways))),
                "rows": [
                    {
                        "title": title_of_method(name),
                        "seconds": found["seconds_per_cell"].get(name),
                        **{
                            way: _estimate(ways[way]["probability"][name]["area"])
                            for way in ("deletion", "insertion")
                        },
                        **{
                            f"{way}_difference": None
                            if (entry := ways[way]["probability"][name]["first_minus_this"]) is None
                            else _estimate(entry)
                            for way in ("deletion", "insertion")
                        },
                    }
                    for name in names
                ],
            }
        )
    return tables


def _inside(found: Mapping[str, Any]) -> dict[str, Any]:
    sets = {name: entry for name, entry in found["sets"].items() if "skipped" not in entry}
    columns = ("relevance", "darkness", "area", "net_relevance", "net_clearing")
    return {
        "figure": data_uri(to_png(inside_figure(sets))),
        "rows": [
            {
                "title": f"{name}: {part}",
                "cells": entry["cells"],
                **{column: _estimate(entry[part][column]) for column in columns},
            }
            for name, entry in sets.items()
            for part in _PARTS
            if part in entry
        ],
    }


def _sanity(found: Mapping[str, Any]) -> dict[str, Any]:
    shuffled = [name for name in found["variants"] if name != OTHER_SEEDS]
    titles = {
        name: f"{name.rsplit('.', 1)[-1]} shuffled" if not place else f"and {name.rsplit('.', 1)[-1]}"
        for place, name in enumerate(shuffled)
    }
    if OTHER_SEEDS in found["variants"]:
        titles[OTHER_SEEDS] = "other seeds"
    # Of a network with many parts the last and the first say enough.
    if len(titles) > 6:
        kept = [*list(titles)[:2], *list(titles)[-3:]]
        titles = {name: titles[name] for name in kept}
    return {
        "figure": data_uri(to_png(sanity_figure(found, titles))),
        "titles": list(titles.values()),
        "rows": [
            {
                "title": title_of_method(name),
                "values": [_estimate(entry[variant]) for variant in titles],
            }
            for name, entry in found["methods"].items()
        ],
    }


def _outlines(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "set": name,
            "how": how,
            "part": part,
            "cells": entry["cells"],
            "dice": _estimate(measures[f"{part}_dice"]),
            "iou": _estimate(measures[f"{part}_iou"]),
            "median": measures[f"{part}_dice"]["median"],
        }
        for name, entry in found["sets"].items()
        for how, measures in entry.items()
        if isinstance(measures, Mapping)
        for part in _PARTS
        if f"{part}_dice" in measures
    ]


def _attributes(found: Mapping[str, Any]) -> dict[str, Any] | None:
    part = next((name for name in ("unseen", "all") if name in found), None)
    if part is None:
        return None
    readers = list(found[part])
    return {
        "part": part,
        "cells": found["cells"][part],
        "readers": readers,
        "rows": [
            {
                "title": attribute.replace("_", " "),
                "sum": attribute == "mean",
                "values": [_estimate(found[part][reader][attribute]) for reader in readers],
            }
            for attribute in found[part][readers[0]]
        ],
    }
