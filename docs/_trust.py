"""Tables of how far models can be trusted, from the JSON that ``benchmarks/trust.py`` writes."""

from __future__ import annotations

from typing import Any

from _tables import all_measured, table

__all__ = ["foreign_pictures", "promises"]

_KINDS = {
    "corners": "red cells, enlarged: corners of pictures",
    "even": "fields of one colour",
    "photographs_to_develop": "photographs of scikit-learn",
    "blurred": "cells blurred beyond recognition",
    "red_cells": "red cells at their true scale",
    "noise": "noise",
    "photographs": "photographs of matplotlib and scikit-image",
    "graphics": "text and drawings",
    "cut": "a quarter of a cell in the corner",
    "halves": "half of a cell at the side",
    "smeared": "cells drawn out to half of the side",
    "deposits": "grains of dye",
    "platelets": "platelets, which are none of its classes",
}


def _kept() -> dict[str, dict[str, Any]]:
    found = all_measured("trust-*.json")
    return {name.removeprefix("trust-"): content for name, content in found.items()}


def promises() -> str:
    """Calibration, coverage and review at home and away, a table for each model."""
    return "\n\n".join(_promises(name, found) for name, found in _kept().items())


def _promises(name: str, found: dict[str, Any]) -> str:
    places = {"at home": found["home"], **found["away"]}
    rows = [
        ("cells", *(f"{place['cells']:,}" for place in places.values())),
        ("accuracy", *(f"{place['accuracy']:.1%}" for place in places.values())),
        ("calibration error before", *(f"{place['ece']['before']:.3f}" for place in places.values())),
        ("calibration error after", *(f"{place['ece']['after']:.3f}" for place in places.values())),
    ]
    for number, entry in enumerate(found["home"]["sets"]):
        sets = [place["sets"][number] for place in places.values()]
        rows.append(
            (
                f"coverage {entry['asked']:.0%}: reached, types in a set",
                *(f"{one['reached']['value']:.1%}, {one['size']:.2f}" for one in sets),
            )
        )
    for share in (0.05, 0.1, 0.2):
        curves = [place["review"] for place in places.values()]
        at = [curve["accuracy_of_the_others"][curve["reviewed"].index(share)] for curve in curves]
        rows.append((f"accuracy of the others, {share:.0%} reviewed", *(f"{one:.1%}" for one in at)))
    flagged = [place["foreign"] for place in places.values()]
    rows.append(("flagged as foreign", *("" if share is None else f"{share:.1%}" for share in flagged)))
    return table((name, *places), rows)


def foreign_pictures() -> str:
    """AUROC and share flagged of each kind of picture that holds no cell, a table for each model."""
    return "\n\n".join(_foreign(name, found) for name, found in _kept().items())


def _foreign(name: str, found: dict[str, Any]) -> str:
    rows = []
    for part, said in (("developed_on", "choice"), ("tested_on", "test")):
        for kind, row in found[part].items():
            measured = [row["auroc"].get(measure) for measure in ("distance", "energy", "max_probability")]
            rows.append(
                (
                    _KINDS.get(kind, kind),
                    said,
                    f"{row['pictures']:,}",
                    *("" if value is None else f"{value:.3f}" for value in measured),
                    f"{row['flagged']:.0%}" if "flagged" in row else "",
                )
            )
    head = (name, "for", "pictures", "AUROC: distance", "energy", "highest probability", "flagged")
    return table(head, rows)
