"""Tables of the vocabulary, the image sets and the measurements, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leukonca.cells.source import known_sources
from leukonca.vocabulary import CELL_TYPES, CLASS_SETS

__all__ = [
    "all_measured",
    "bench",
    "cell_types",
    "class_sets",
    "image_sets",
    "measured",
    "settling",
    "table",
    "training_runs",
]

_RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


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


def measured(name: str) -> dict[str, Any]:
    """Return what a measurement left, by the path of its file under ``benchmarks/results`` without ending."""
    found: dict[str, Any] = json.loads((_RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def all_measured(pattern: str) -> dict[str, dict[str, Any]]:
    """Return the content of the files under ``benchmarks/results`` that match a pattern, by their names."""
    files = sorted(_RESULTS.glob(pattern))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def _entry(value: Any) -> str:
    return "" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)


def _rows(rows: list[dict[str, Any]]) -> str:
    """Rows of one part of a measurement as a table; what was left out says why."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    return table(
        (head.replace("_", " ") for head in heads),
        ([_entry(row.get(head)) for head in heads] for row in rows),
    )


_PARTS = {
    "peak": "Peak of matrix products",
    "inference": "Inference",
    "training": "Training step",
    "memory": "Peak memory for a picture",
    "networks": "Other networks",
    "scaling": "Growth with sites, steps, pictures and threads",
}


def bench() -> str:
    """What ``leukonca bench`` measured, machine by machine."""
    return "\n\n".join(_bench_of(found) for found in all_measured("bench*.json").values())


def _bench_of(found: dict[str, Any]) -> str:
    level = "matrix tiles (AMX)" if found["machine"]["processor"].get("amx_bf16") else "vectors alone"
    name = found["machine"]["processor"].get("cpu_name") or found["machine"]["machine"]
    parts = [f"#### {_PARTS[part]}\n\n{_rows(rows)}" for part, rows in found["parts"].items()]
    about = f"Measured on: {_machine(found['machine'])}; median of {found['rounds']} rounds."
    shapes = "\n".join(_said_preset(*entry) for entry in found["presets"].items())
    return "\n\n".join((f"### {name}, {level}", about, shapes, *parts))


def _said_preset(name: str, shape: dict[str, Any]) -> str:
    side = shape["size"] // shape["patch"]
    firing = "all of them fire" if shape["firing"] == 1 else f"{shape['firing']:.0%} of them fire"
    return (
        f"- `{name}`: {side} × {side} sites, {firing} at each of {shape['steps']} steps; "
        f"{shape['channels']} channels, {shape['hidden']} hidden units"
    )


def settling() -> str:
    """What stopping early costs."""
    found = measured("settling")
    rows = [{**row, "tolerance": row["tolerance"] or "none: all steps"} for row in found["rows"]]
    return (
        f"{_rows(rows)}\n\nOn {found['cells']:,} held-out cells with `{found['model']}`, "
        f"firing seeds: {found['seeds']}. Measured on: {_machine(found['machine'])}."
    )


def training_runs() -> str:
    """The whole trainings of which ``benchmarks/collect.py`` kept the figures."""
    runs = {name: run for name, run in all_measured("*.json").items() if "test" in run}
    return "\n\n".join(_training_run(name, run) for name, run in runs.items())


def _training_run(name: str, run: dict[str, Any]) -> str:
    test, trained, epochs = run["test"], sum(run["cells"]["train"].values()), len(run["history"])
    preset = run["settings"]["preset"]
    facts = {
        "model": f"preset `{preset}`, {run['parameters']:,} parameters, {run['precision']}",
        "training": f"{trained:,} cells, {epochs} epochs, {run['seconds'] / 60:.0f} minutes in all",
        "speed of the training": f"{run['training_cells_per_second_median_epoch']:g} cells a second",
        "tested on": f"{test['n']:,} cells kept aside",
        "accuracy": _estimate(test["accuracy"]),
        "macro-F1": _estimate(test["macro_f1"]),
        "calibration error": _estimate(test["ece"]),
        "machine": _machine(run["trained_with"]),
    }
    command = run["command"].replace(" --", " \\\n    --")
    return f"### {name}\n\n```text\n{command}\n```\n\n{table((name, 'measured'), facts.items())}"


def _estimate(entry: dict[str, float]) -> str:
    return f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


def _machine(note: dict[str, Any]) -> str:
    processor = note.get("processor")
    parts = (
        processor.get("cpu_name") if isinstance(processor, dict) else processor,
        note["machine"],
        note["vector_instructions"],
        f"{note['threads']} threads",
        f"PyTorch {note['torch']}",
        f"commit {note['commit']}" if "commit" in note else None,
    )
    return ", ".join(part for part in parts if part)
