"""A folder of explanations: a page and arrays for each cell, a page over all, a table.

::

    index.html           all cells, with links to their pages
    cells.csv            a row a file, in their order; see COLUMNS
    pages/NAME.html      the page of a cell, which needs no other file
    arrays/NAME.npz      its maps and numbers; see leukonca.explanation.explained_arrays
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from leukonca._version import __version__
from leukonca.assessment.gallery import data_uri
from leukonca.assessment.page import render
from leukonca.explanation.cell_page import PACKAGE, cell_page
from leukonca.explanation.explained import CellExplanation, Explainer
from leukonca.explanation.explained_arrays import arrays_of
from leukonca.explanation.explained_files import COVERAGE, ExplainedCell
from leukonca.explanation.naming import UniqueNames
from leukonca.explanation.overlay import limit_of, relevance_on, webp
from leukonca.explanation.storage import fingerprint
from leukonca.writing import encode, write_bytes

__all__ = ["COLUMNS", "ExplainedFolder"]

COLUMNS: Final = (
    "path",
    "page",
    "arrays",
    "label",
    "probability",
    "spread",
    "set",
    "familiarity",
    "review",
    "explained",
    "against",
    "logit",
    "speaks_for",
    "speaks_against",
    "absorbed",
    "completeness_error",
    "in_nucleus",
    "in_cytoplasm",
    "in_surroundings",
    "difference",
    "decided_step",
    "settled_step",
    "area_px",
    "circularity",
    "nucleus_share",
    "words",
    "similar",
    "error",
)
"""Of the table. From ``logit`` to ``in_surroundings`` in logits, of the explained class; ``difference`` is
its logit less that of the class it is held against. ``similar``: labels of similar cells, nearest first."""

_SMALL: Final = 160  # pixels of a picture on the page over all cells
_METHOD: Final = "propagation against the empty field, through all steps (see the documentation: relevance)"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cell on the page over all cells."""

    path: str
    page: str
    winner: str
    explained: str
    probability: float
    foreign: bool
    reasons: tuple[str, ...]
    picture: str
    relevance: str


class ExplainedFolder:
    """Writes explanations into a folder; a cell's files at once, table and overview at the end.

    Args:
        out: The folder; missing ones are made.
        explainer: What the explanations come from.
        name: What the model is called.
        animation: Whether pages have a film.
    """

    def __init__(
        self, out: str | os.PathLike[str], explainer: Explainer, *, name: str, animation: bool = True
    ) -> None:
        self.out, self.explainer, self.name, self.animation = Path(out), explainer, name, animation
        self.rows: list[dict[str, Any]] = []
        self._entries: list[_Entry] = []
        self._names = UniqueNames()
        self._facts = _facts(explainer, name)

    def add(self, cell: ExplainedCell) -> None:
        """Write page and arrays of a cell, and take down its row.

        Raises:
            DataError: They cannot be written.
        """
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"path": encode(cell.path).decode(), "error": encode(cell.error).decode()}
        if cell.found is not None:
            name = self._names.of(cell.path)
            page, arrays = f"pages/{name}.html", f"arrays/{name}.npz"
            write_bytes(
                self.out / page,
                cell_page(
                    cell.found,
                    self.explainer.model,
                    path=row["path"],
                    arrays=f"../{arrays}",
                    facts=self._facts,
                    coverage=COVERAGE,
                    morphology=self.explainer.morphology,
                    index=self.explainer.index,
                    animation=self.animation,
                ),
            )
            write_bytes(self.out / arrays, _compressed(arrays_of(cell.found)))
            row |= {"page": page, "arrays": arrays, **_measures(cell.found)}
            self._entries.append(_entry(cell.found, row["path"], page))
        self.rows.append(row)

    def to_frame(self) -> pd.DataFrame:
        """Return the table of what was added, with the columns of :data:`COLUMNS`."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def write_overview(self, missing: int = 0) -> Path:
        """Write ``cells.csv`` and ``index.html``, and return where the latter is.

        Args:
            missing: How many files were not looked at because the work was interrupted.

        Raises:
            DataError: They cannot be written.
        """
        buffer = io.StringIO()
        # Whole numbers stay whole beside empty fields, and every text is quoted: a carriage return in a
        # file name would else end the row.
        writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_field(row[name]) for name in COLUMNS] for row in self.rows)
        write_bytes(self.out / "cells.csv", encode(buffer.getvalue()))
        context = {
            "model": self.name,
            "done": len(self._entries),
            "missing": missing,
            "cells": self._entries,
            "unreadable": [(row["path"], row["error"]) for row in self.rows if row["error"]],
        }
        write_bytes(self.out / "index.html", render("cells.html.j2", context, package=PACKAGE))
        return self.out / "index.html"


def _facts(explainer: Explainer, name: str) -> Mapping[str, str]:
    model, found = explainer.model, {}
    found["Model"] = f"{name}, {explainer.network.parameter_count:,} parameters, {model.steps} steps"
    found["Fingerprint of the model"] = fingerprint(model)
    # What a seed always draws are the halves of the picture that relevance is averaged over.
    seeds = "firing seeds" if model.draws else "seeds"
    found["Relevance"] = f"{_METHOD}, averaged over {explainer.seeds} {seeds}"
    if explainer.morphology:
        cells = explainer.morphology.provenance.get("training_cells")
        found["Words"] = f"linear probes{f', fitted on {cells:,} described cells' if cells else ''}"
    if explainer.index:
        found["Similar cells"] = f"among {len(explainer.index):,} cells of the training"
    found["leukonca version"] = __version__
    return found


def _entry(cell: CellExplanation, path: str, page: str) -> _Entry:
    picture = Image.fromarray(cell.picture)
    picture.thumbnail((_SMALL, _SMALL), Image.Resampling.LANCZOS)
    values = cell.relevance.map[0].double().cpu().numpy()
    factor = max(1, round(_SMALL / len(values)))
    view = cell.framed.repeat(factor, axis=0).repeat(factor, axis=1)
    return _Entry(
        path=path,
        page=page,
        winner=cell.classes[cell.call.winner],
        explained=cell.classes[cell.explained],
        probability=float(cell.call.probabilities[cell.call.winner]),
        foreign=cell.call.foreign,
        reasons=cell.call.reasons,
        picture=data_uri(webp(np.array(picture), 75), "image/webp"),
        relevance=data_uri(webp(relevance_on(view, values, limit_of(values)), 75), "image/webp"),
    )


def _measures(cell: CellExplanation) -> dict[str, Any]:
    call, names, found = cell.call, cell.classes, cell.relevance
    values = found.map[0].double().cpu().numpy()
    measures: dict[str, Any] = {
        # As in the table of classify: what is foreign has no name.
        "label": "" if call.foreign else names[call.winner],
        "probability": float(call.probabilities[call.winner]),
        "spread": call.spread,
        "set": None if call.likely is None else "|".join(names[number] for number in call.likely),
        "familiarity": call.familiarity,
        "review": "|".join(call.reasons),
        "explained": names[cell.explained],
        "against": names[cell.against],
        "logit": float(found.value[0]),
        "speaks_for": float(values.clip(min=0).sum()),
        "speaks_against": float(values.clip(max=0).sum()),
        "absorbed": float(found.absorbed[0]),
        "completeness_error": float(found.completeness_error[0]),
        **{f"in_{part}": value for part, value in cell.shares(found).items()},
        "difference": float(cell.contrast.value[0]),
        "decided_step": cell.evolution.decided,
        "settled_step": cell.evolution.settled,
        "area_px": cell.outline.shape.area,
        "words": cell.reading.text if cell.reading else None,
        "similar": None if cell.neighbours is None else "|".join(one.label for one in cell.neighbours),
    }
    if cell.outline.shape.area:
        measures |= {
            "circularity": cell.outline.shape.circularity,
            "nucleus_share": cell.outline.nucleus_share,
        }
    return measures


def _field(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else float(f"{value:.6g}")
    return "" if value is None else value


def _compressed(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
