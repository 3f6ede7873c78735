"""The rules that hold for every file, checked on the text of the files."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from leukonca._version import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "leukonca"
FILES = sorted(file for file in PACKAGE.rglob("*.py") if "__pycache__" not in file.parts)

FOUNDATION = {"errors", "vocabulary", "writing", "_version"}
# A room imports only itself and rooms before it. "front" is every other module directly in the package:
# the public names, which gather all the rooms.
ROOMS = (
    "foundation",
    "cells",
    "nca",
    "learning",
    "assessment",
    "explanation",
    "delivery",
    "workbench",
    "front",
    "commands",
)
# What a room must do without: cells are read without tensors, the automaton knows no data and no training.
WITHOUT = {
    "foundation": {"torch", "lightning", "numpy", "pandas"},
    "cells": {"torch", "lightning", "torchmetrics"},
    "nca": {"lightning", "pandas", "PIL", "sklearn"},
}


def name_of(file: Path) -> str:
    """The file as a parameter's name in the list of tests."""
    return file.relative_to(PACKAGE).as_posix()


def room_of(module: str) -> str:
    """The room of a module's full name; ``leukonca`` itself is the front."""
    parts = module.split(".")
    if len(parts) == 1:
        return "front"
    if parts[1] == "__main__":
        return "commands"  # `python -m leukonca` is the command line
    if parts[1] in FOUNDATION:
        return "foundation"
    return parts[1] if parts[1] in ROOMS else "front"


def module_of(file: Path) -> str:
    parts = ("leukonca", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def exists(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports_of(tree: ast.AST, module: str, *, package: bool) -> Iterator[str]:
    """Full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + (1 if package else 0)]
                base = ".".join([*above, *filter(None, [base])])
            for alias in node.names:
                # `from leukonca import errors` means the module, `from leukonca import load` the front.
                inner = f"{base}.{alias.name}"
                yield inner if base.split(".")[0] == "leukonca" and exists(inner) else base


def faults_of_order(source: str, file: Path) -> list[str]:
    module = module_of(file)
    room = room_of(module)
    faults = []
    for other in imports_of(ast.parse(source), module, package=file.name == "__init__.py"):
        top = other.split(".")[0]
        if top in WITHOUT.get(room, set()):
            faults.append(f"{room} must do without {top}")
        if top == "leukonca" and ROOMS.index(room_of(other)) > ROOMS.index(room):
            faults.append(f"{room} imports {other}, a later room")
    return faults


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_rooms_import_only_rooms_before_them(file: Path) -> None:
    assert faults_of_order(file.read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize(
    ("where", "source", "faults"),
    [
        ("cells/a.py", "from leukonca.errors import DataError", 0),
        ("cells/a.py", "from leukonca.nca.rule import step", 1),
        ("cells/a.py", "def f():\n    import torch.nn", 1),
        ("cells/a.py", "from ..nca import rule", 1),
        ("cells/__init__.py", "from . import decode", 0),
        ("nca/a.py", "from leukonca import commands", 1),
        ("nca/a.py", "from leukonca import load", 1),
        ("nca/a.py", "from leukonca import vocabulary", 0),
        ("nca/engines/a.py", "from ..rule import step", 0),
        ("commands/a.py", "import leukonca", 0),
        ("errors.py", "from leukonca.cells import decode", 1),
        ("__init__.py", "from leukonca.delivery import bundle", 0),
        ("__init__.py", "from leukonca.commands import main", 1),
    ],
)
def test_the_order_of_rooms_is_understood(where: str, source: str, faults: int) -> None:
    assert len(faults_of_order(source, PACKAGE / where)) == faults


def test_every_folder_of_modules_is_a_package() -> None:
    # Without its __init__.py a folder would still be imported, but not be found by the documentation.
    assert {file.parent for file in FILES} == {file.parent for file in FILES if file.name == "__init__.py"}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_modules_say_what_they_are_and_what_they_offer(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "no docstring"
    if file.name == "__main__.py":  # is run, never imported
        return
    targets = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in targets or file.name == "_version.py", "no __all__"


@pytest.mark.parametrize(
    "file", [file for file in FILES if room_of(module_of(file)) != "commands"], ids=name_of
)
def test_the_library_does_not_print(file: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        settings: dict[str, Any] = tomllib.load(stream)["project"]
    return settings


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({canonicalize_name(one.name) for one in found}) == len(found)
    return {canonicalize_name(one.name): one for one in found}


def test_constraints_pin_exact_versions() -> None:
    for requirement in constraints().values():
        # No local version (torch==2.13.0+cpu): that build would be the only one allowed, also on a Mac.
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(requirement.specifier)), requirement


def test_constraints_cover_what_the_project_asks_for() -> None:
    settings = project()
    wanted = [*settings["dependencies"]]
    for extra in ("baselines", "dev", "docs"):
        wanted += settings["optional-dependencies"][extra]
    pins = constraints()
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), requirement
    assert "torch" in pins


def test_citation_is_whole() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["version"] == __version__
    assert citation["license"] == project()["license"]
    assert {"message", "title", "authors"} <= citation.keys()
    paper = citation["references"][0]
    assert [author["family-names"] for author in paper["authors"]] == ["Deutges", "Sadafi", "Navab", "Marr"]
    assert paper["title"].startswith("Neural Cellular Automata for Lightweight, Robust and Explainable")
    assert "arXiv:2404.05584" in [one["value"] for one in paper["identifiers"]]


def test_notice_gives_the_embedded_cells_their_attribution() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for part in (
        "Acevedo",
        "10.1016/j.dib.2020.105474",
        "creativecommons.org/licenses/by/4.0",
        "cells/embedded_cells",
    ):
        assert part in notice


def test_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\]", text, re.MULTILINE)
    assert __version__ in versions
    assert versions == sorted(versions, key=Version, reverse=True)


def test_ci_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    if os.name == "posix":
        assert os.access(script, os.X_OK)
