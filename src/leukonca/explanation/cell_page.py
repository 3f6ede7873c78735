"""The page of one explained cell: what a template needs, as texts, numbers and small pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from leukonca.assessment.gallery import data_uri
from leukonca.assessment.page import render
from leukonca.cells.framing import frame
from leukonca.explanation.curves import HEIGHT, WIDTH, curve_of
from leukonca.explanation.explained import CellExplanation
from leukonca.explanation.film import animate, shown_steps
from leukonca.explanation.morphology import Morphology, attribute_title
from leukonca.explanation.overlay import (
    factor_for,
    limit_of,
    map_tile,
    mask_on,
    png,
    relevance_on,
    webp,
    window_on,
)
from leukonca.explanation.relevance import Relevance
from leukonca.explanation.segmented import draw_outlines
from leukonca.explanation.similar import CellIndex
from leukonca.learning.trained import TrainedModel

__all__ = ["PACKAGE", "cell_page"]

PACKAGE: Final = "leukonca.explanation"
"""Whose templates the pages are made from."""

_WEBP: Final = "image/webp"
_SEEN: Final = 0.005  # logits; what is smaller is 0.00 on the page

Floats = npt.NDArray[np.float64]


def cell_page(
    cell: CellExplanation,
    model: TrainedModel,
    *,
    path: str,
    arrays: str,
    facts: Mapping[str, str],
    coverage: float,
    morphology: Morphology | None = None,
    index: CellIndex | None = None,
    animation: bool = True,
) -> bytes:
    """Return the page, HTML that needs nothing but itself.

    Args:
        cell: The explanation.
        model: The model that it is of.
        path: The cell's file, for the heading.
        arrays: Where the arrays are, as seen from the page.
        facts: How it was made, shown as a table.
        coverage: Of the prediction set, 0–1.
        morphology: The probes that its reading comes from.
        index: The index that its neighbours come from.
        animation: Whether to put the film in, which takes most of the page's bytes.
    """
    call, classes = cell.call, cell.classes
    explained, against = classes[cell.explained], classes[cell.against]
    maps = [_map(one) for one in (cell.relevance, cell.contrast)]
    context = {
        "path": path,
        "arrays": arrays,
        "explained": explained,
        "against": against,
        "winner": classes[call.winner],
        "call": call,
        "likely": None if call.likely is None else [classes[number] for number in call.likely],
        "ranked": _ranked(call.probabilities, classes),
        "coverage": coverage,
        "colour": model.framing.colour,
        "pictures": _pictures(cell, model),
        "relevance": _relevance(cell, cell.relevance, maps[0]),
        "contrast": _relevance(cell, cell.contrast, maps[1]),
        "channels": _channels(cell),
        "channel_count": cell.channels.relevance.shape[1],
        "steps": shown_steps(cell.evolution.steps),
        "evolution": cell.evolution,
        "curve": curve_of(cell.evolution),
        "curve_width": WIDTH,
        "curve_height": HEIGHT,
        "film": _film(cell) if animation else None,
        "outline": cell.outline,
        "reading": cell.reading,
        "words": _words(cell, morphology),
        "described": morphology.described if morphology else (),
        "neighbours": _neighbours(cell, model, index),
        "facts": facts,
        "hash": cell.hash,
    }
    return render("cell.html.j2", context, package=PACKAGE)


def _map(relevance: Relevance) -> Floats:
    values: Floats = relevance.map[0].double().cpu().numpy()
    return values


def _view(cell: CellExplanation, model: TrainedModel) -> npt.NDArray[np.uint8]:
    """The square that the model sees with the pixels and colours of the picture."""
    side = len(cell.framed)
    return frame(cell.picture, replace(model.framing, size=side * factor_for(side), colour="as_is"))


def _pictures(cell: CellExplanation, model: TrainedModel) -> dict[str, Any]:
    view = _view(cell, model)
    values = {"relevance": _map(cell.relevance), "contrast": _map(cell.contrast)}
    drawn = {
        name: data_uri(webp(relevance_on(view, one, limit_of(one))), _WEBP) for name, one in values.items()
    }
    outlined = draw_outlines(cell.picture, cell.outline)
    return {
        **drawn,
        "original": data_uri(webp(window_on(cell.picture, cell.place)), _WEBP),
        "seen": data_uri(png(cell.framed)),
        "outline": data_uri(webp(outlined), _WEBP),
        "height": cell.picture.shape[0],
        "width": cell.picture.shape[1],
        "side": len(cell.framed),
    }


def _ranked(probabilities: Floats, classes: Sequence[str]) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")
    return [(classes[number], float(probabilities[number])) for number in order]


def _relevance(cell: CellExplanation, relevance: Relevance, values: Floats) -> dict[str, Any]:
    """The numbers of one explained value, for one picture."""
    parts = list(cell.shares(relevance).items())
    parts.append(("empty field", float(relevance.background[0])))
    rest = float((relevance.bias + relevance.stabiliser + relevance.remainder).sum())
    if abs(rest) >= _SEEN:
        parts.append(("biases and remainders", rest))
    speaks_for, speaks_against = float(values.clip(min=0).sum()), float(values.clip(max=0).sum())
    absorbed = float(relevance.absorbed[0])
    return {
        "value": float(relevance.value[0]),
        "speaks_for": speaks_for,
        "speaks_against": speaks_against,
        "absorbed": absorbed,
        "absorbed_share": abs(absorbed) / max(speaks_for - speaks_against + abs(absorbed), 1e-12),
        "error": float(relevance.completeness_error[0]),
        "limit": limit_of(values),
        "parts": _bars(parts),
    }


def _bars(values: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Signed values as bars from the middle, in percent of the width."""
    largest = max((abs(value) for _, value in values if math.isfinite(value)), default=0.0) or 1.0
    bars = []
    for name, value in values:
        length = 50 * abs(value) / largest
        bars.append(
            {"name": name, "value": value, "start": 50 if value >= 0 else 50 - length, "length": length}
        )
    return bars


def _channels(cell: CellExplanation) -> list[dict[str, Any]]:
    """A row for each shown channel: its relevance, its mask on the cell, its maps over the steps."""
    shown, found = cell.evolution, cell.channels
    relevance = [float(found.relevance[0, channel]) for channel in shown.channels]
    bars = _bars([(str(channel), value) for channel, value in zip(shown.channels, relevance, strict=True)])
    rows = []
    for place, (channel, bar) in enumerate(zip(shown.channels, bars, strict=True)):
        maps = shown.maps[place].astype(np.float64)
        limit = limit_of(maps)
        mask = found.masks[0, place].cpu().numpy()
        rows.append(
            {
                "channel": channel,
                "bar": bar,
                "limit": limit,
                "mask": data_uri(webp(mask_on(cell.framed, mask)), _WEBP),
                "maps": [data_uri(png(map_tile(maps[step], limit))) for step in shown_steps(shown.steps)],
            }
        )
    return rows


def _film(cell: CellExplanation) -> str:
    return data_uri(animate(cell.evolution).to_webp(), _WEBP)


def _words(cell: CellExplanation, morphology: Morphology | None) -> list[dict[str, Any]] | None:
    """The attributes, from the one that speaks most for the class to the one most against it."""
    if cell.reading is None:
        return None
    chosen = morphology.provenance.get("chosen", {}) if morphology else {}
    speaking = cell.reading.speaking()
    bars = _bars([(attribute_title(one.attribute), one.speaks) for one in speaking])
    return [
        {
            "bar": bar,
            "value": one.value,
            "probability": one.probability,
            "score": chosen.get(one.attribute, {}).get("validation_macro_f1"),
        }
        for one, bar in zip(speaking, bars, strict=True)
    ]


def _neighbours(cell: CellExplanation, model: TrainedModel, index: CellIndex | None) -> dict[str, Any] | None:
    if cell.neighbours is None or index is None:
        return None
    entries = []
    for one in cell.neighbours:
        picture = index.picture_of(one, model.framing)
        entries.append(
            {
                "label": one.label,
                "distance": one.distance,
                "path": one.path,
                "picture": None if picture is None else data_uri(picture, _WEBP),
            }
        )
    same = sum(one.label == cell.classes[cell.explained] for one in cell.neighbours)
    return {"cells": entries, "same": same, "size": len(index), "credit": index.credit}
