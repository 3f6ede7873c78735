"""Tables of how true explanations are, from the JSON that ``leukonca explain-check`` writes."""

from __future__ import annotations

from typing import Any

from _tables import measured, table

from leukonca.explanation.proof.methods import TITLES

__all__ = ["faithfulness", "localisation"]


def _said(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


def faithfulness() -> str:
    """Areas of deletion and insertion of every method."""
    found = measured("explain-check")["parts"]["faithfulness"]
    sides = sorted(found["by_patch"], key=int)
    ways = [(side, way) for side in sides for way in ("deletion", "insertion")]
    methods = found["by_patch"][sides[0]]["deletion"]["probability"]
    rows = (
        (
            TITLES.get(method, method),
            *(_said(found["by_patch"][side][way]["probability"][method]["area"]) for side, way in ways),
        )
        for method in methods
    )
    arrows = {"deletion": "↓", "insertion": "↑"}
    head = ("method", *(f"{way} {arrows[way]}, {side} px" for side, way in ways))
    return table(head, rows)


def localisation() -> str:
    """Shares of the positive relevance on the masks, and how well outlines agree with them."""
    parts = measured("explain-check")["parts"]
    shares = parts["localisation"]["sets"]
    rows = [
        (
            f"{name}, {part}",
            str(found["cells"]),
            *(_said(found[part][key]) for key in ("relevance", "darkness", "area")),
        )
        for name, found in shares.items()
        for part in ("cell", "nucleus")
        if part in found
    ]
    relevance = table(("set, mask", "rightly named cells", "positive relevance", "darkness", "area"), rows)
    outlines = [
        (name, str(found["cells"]), *(_said(found["discriminant"][key]) for key in ("cell_dice", "cell_iou")))
        for name, found in parts.get("segmentation", {}).get("sets", {}).items()
    ]
    if not outlines:
        return relevance
    return relevance + "\n\n" + table(("outlines of", "cells", "Dice", "IoU"), outlines)
