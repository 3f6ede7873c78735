"""What the documentation takes from the code: a page for each room of the API, commands, settings, tables.

MkDocs calls the ``on_…`` functions (`hooks` in mkdocs.yml). Nothing here is written down twice, so
nothing here can be out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _checks
import _commands
import _experiments
import _tables
import _trust
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_config", "on_files", "on_page_content", "on_page_markdown"]

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "leukonca"

ROOMS = {
    "leukonca": "The public names",
    "cells": "Pictures of cells",
    "nca": "The automaton",
    "learning": "Training",
    "assessment": "Assessment",
    "explanation": "Explanation",
    "delivery": "Delivery",
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


def _is_room(room: str) -> bool:
    return (PACKAGE / room / "__init__.py").is_file()


def _rooms() -> dict[str, str]:
    """The rooms that there are, and their titles."""
    return {room: title for room, title in ROOMS.items() if room == "leukonca" or _is_room(room)}


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


TABLES: dict[str, Callable[[], str]] = {
    "cell-types": _tables.cell_types,
    "class-sets": _tables.class_sets,
    "image-sets": _tables.image_sets,
    "bench": _tables.bench,
    "settling": _tables.settling,
    "training-runs": _tables.training_runs,
    "shipped": _experiments.shipped,
    "eight-classes": _experiments.eight_classes,
    "thirteen-classes": _experiments.thirteen_classes,
    "laboratories": _experiments.laboratories,
    "baselines": _experiments.baselines,
    "reduced": _experiments.reduced,
    "ablations": _experiments.ablations,
    "rules": _experiments.rules,
    "adaptation": _experiments.adaptation,
    "orientations": _experiments.orientations,
    "expected": _experiments.expected,
    "corruptions": _experiments.corruptions,
    "few-labels": _experiments.few_labels,
    "promises": _trust.promises,
    "foreign-pictures": _trust.foreign_pictures,
    "faithfulness": _checks.faithfulness,
    "localisation": _checks.localisation,
    "commands": _commands.commands,
    "settings": _commands.settings,
    "architecture-changes": _commands.architecture_changes,
    "presets": _commands.presets,
    "as-published": _commands.as_published,
    "augmentations": _commands.augmentations,
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
