"""What the documentation takes from the code: a page for each room of the API, and two tables.

MkDocs calls the ``on_…`` functions (`hooks` in mkdocs.yml). Nothing here is written down twice, so
nothing here can be out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from leukonca.cells.source import known_sources
from leukonca.vocabulary import CELL_TYPES, CLASS_SETS

__all__ = ["on_config", "on_files", "on_page_content", "on_page_markdown"]

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "leukonca"

ROOMS = {
    "leukonca": "The public names",
    "cells": "Pictures of cells",
    "nca": "The automaton",
    "learning": "Training",
    "assessment": "Assessment",
    "explanation": "Explanation",
    "delivery": "Model files",
}


def _modules(room: str) -> list[str]:
    """The modules of a room that have something public, packages before what is in them."""
    if room == "leukonca":
        files = sorted(file for file in PACKAGE.glob("*.py") if not file.stem.startswith("_"))
        return ["leukonca", *(f"leukonca.{file.stem}" for file in files)]
    files = sorted(
        file for file in (PACKAGE / room).rglob("*.py") if file.stem == "__init__" or file.stem[0] != "_"
    )
    return [
        ".".join(("leukonca", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for file in files
        if file.stem != "__init__" or file.parent == PACKAGE / room or len(file.read_bytes()) > 0
    ]


def _rooms() -> dict[str, str]:
    """The rooms that there are, and their titles."""
    return {room: title for room, title in ROOMS.items() if room == "leukonca" or (PACKAGE / room).is_dir()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the API pages to the navigation, under Reference."""
    assert config.nav is not None
    sections = {
        title: pages for entry in config.nav if isinstance(entry, dict) for title, pages in entry.items()
    }
    reference = sections["Reference"]
    reference.append({"Python": [{title: f"reference/api/{room}.md"} for room, title in _rooms().items()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the API pages themselves."""
    for room, title in _rooms().items():
        blocks = "\n\n".join(f"::: {module}" for module in _modules(room))
        files.append(File.generated(config, f"reference/api/{room}.md", content=f"# {title}\n\n{blocks}\n"))
    return files


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell_types() -> str:
    return _table(
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


def _class_sets() -> str:
    return _table(
        ("class set", "classes", "order"),
        (
            (f"`{name}`", str(len(classes)), ", ".join(f"`{one}`" for one in classes))
            for name, classes in CLASS_SETS.items()
        ),
    )


def _image_sets() -> str:
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
        uses = _table(
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


TABLES: dict[str, Callable[[], str]] = {
    "cell-types": _cell_types,
    "class-sets": _class_sets,
    "image-sets": _image_sets,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables where a page asks for them by ``<!-- table: NAME -->``."""
    return re.sub(r"<!-- table: ([a-z-]+) -->", lambda found: TABLES[found[1]](), markdown)


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Take off what docstrings say to other tools: roles, and the colons before a block of code."""
    if not page.file.src_uri.startswith("reference/api/"):
        return html
    html = re.sub(r":(?:func|meth|mod|class|attr|data):(?=<code>)", "", html)
    return re.sub(r"<p>::</p>\n?", "", html).replace("::</p>", ":</p>")
