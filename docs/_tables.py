"""Tables of the vocabulary, the image sets and the measurements, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from leukonca.cells.source import known_sources
from leukonca.vocabulary import CELL_TYPES, CLASS_SETS

__all__ = ["cell_types", "class_sets", "image_sets", "table", "training_memory"]

_MEASURED = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "training_memory.json"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def cell_types() -> str:
    """The cell types with their kinship, colours and synonyms."""
    return table(
        ("name", "for people", "belongs to", "colour", "also understood"),
        (
            (
                f"`{kind.name}`",
                kind.title,
                f"`{kind.parent}`" if kind.parent else "",
                f'<span style="color:{kind.colour}">⬤</span> `{kind.colour}`',
                ", ".join(sorted(kind.synonyms)),
            )
            for kind in CELL_TYPES.values()
        ),
    )


def class_sets() -> str:
    """The class sets with their order."""
    return table(
        ("class set", "classes", "order"),
        (
            (f"`{name}`", str(len(classes)), ", ".join(f"`{one}`" for one in classes))
            for name, classes in CLASS_SETS.items()
        ),
    )


def image_sets() -> str:
    """A section for each published image set."""
    parts = []
    for source in known_sources().values():
        doi = f" [doi:{source.doi}](https://doi.org/{source.doi})" if source.doi else ""
        facts = {
            "Citation": source.citation + doi,
            "Licence": source.licence,
            "Pictures": f"{source.pictures:,}" if source.pictures else "",
            "Stain": source.stain,
            "Camera": source.camera,
            "Layout": source.layout,
            "Grouped by": source.group_meaning,
            "Notes": source.notes,
        }
        uses = table(
            ("use", "what it is", "cells", "classes"),
            (
                (
                    f"`{source.name}@{use.name}`" + (" (default)" if use.name == source.default_use else ""),
                    use.title,
                    f"{use.cells:,}" if use.cells else "",
                    ", ".join(use.classes),
                )
                for use in source.uses.values()
            ),
        )
        listed = "\n".join(f"- **{name}:** {' '.join(fact.split())}" for name, fact in facts.items() if fact)
        parts.append(f"## `{source.name}`: {source.title}\n\n{listed}\n\n{uses}")
    return "\n\n".join(parts)


def training_memory() -> str:
    """What ``benchmarks/training_memory.py`` measured, or that nothing has been measured yet."""
    if not _MEASURED.is_file():
        return "No measurement of this version is kept in the repository yet."
    found = json.loads(_MEASURED.read_text(encoding="utf-8"))
    machine = found["machine"]
    rows = (
        (
            f"`{row['preset']}`",
            row["precision"],
            str(row["batch"]),
            f"{row['parameters']:,}",
            f"{row['cells_per_second']:g}",
            f"{row['peak_above_import_mb']:,} MB",
        )
        for row in found["rows"]
    )
    head = ("preset", "precision", "batch", "parameters", "cells a second", "memory above the start")
    named = (machine.get("processor") or {}) if isinstance(machine.get("processor"), dict) else {}
    where = ", ".join(
        str(part)
        for part in (
            named.get("cpu_name"),
            machine.get("machine"),
            machine.get("vector_instructions"),
            f"{machine['threads']} threads",
            f"PyTorch {machine['torch']}",
            f"commit {machine['commit']}",
        )
        if part
    )
    return f"{table(head, rows)}\n\nMeasured on: {where}."
