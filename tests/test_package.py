"""What importing leukonca does, and above all what it does not."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import leukonca
from leukonca._version import __version__

PACKAGE = Path(leukonca.__file__).parent

# Run in a fresh interpreter: imports what it is told to, and reports what that changed in the process
# and on the disk. The audit hook sees every file that is opened, by whatever means.
PROBE = """
import json, logging, os, random, signal, sys, warnings

written = []

def audit(event, details):
    if event == "open" and (details[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(str(details[0]))
    elif event in {"os.mkdir", "os.rename", "os.remove", "socket.connect"}:
        written.append(f"{event} {details[0]}")

def state():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "logging": [repr(logging.root.handlers), logging.root.level],
        "random": hash(random.getstate()),
        "signals": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "warnings": repr(warnings.filters),
    }

before = state()
sys.addaudithook(audit)
for name in sys.argv[1:]:
    __import__(name)
after = state()
print(json.dumps({
    "changed": [key for key in before if before[key] != after[key]],
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    "written": written,
}))
"""


def probe(folder: Path, *modules: str) -> dict[str, list[str]]:
    # -B: Python's own cache of compiled modules is no work of ours; -I: nor is the user's environment.
    process = subprocess.run(
        [sys.executable, "-I", "-B", "-c", PROBE, *modules],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    report: dict[str, list[str]] = json.loads(process.stdout)
    return report


def test_import_does_nothing_but_define_names(tmp_path: Path) -> None:
    report = probe(tmp_path, "leukonca")
    assert "leukonca" in report["loaded"]
    heavy = {"torch", "lightning", "pandas", "numpy", "sklearn", "matplotlib", "PIL"}
    assert heavy.isdisjoint(report["loaded"])
    assert report["written"] == []
    assert report["changed"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_probe_sees_what_it_looks_for(tmp_path: Path) -> None:
    package = tmp_path / "careless.py"
    package.write_text("import os\nopen('left.txt', 'w').close()\nos.environ['CARELESS'] = '1'\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + PROBE
    process = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code, "careless"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(process.stdout)
    assert report["written"] == ["left.txt"]
    assert report["changed"] == ["environment"]


def test_reading_cells_loads_no_torch(tmp_path: Path) -> None:
    files = sorted((PACKAGE / "cells").rglob("*.py"))
    modules = [
        ".".join(("leukonca", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for file in files
    ]
    assert "leukonca.cells.decode" in modules
    report = probe(tmp_path, *modules, "leukonca.errors", "leukonca.vocabulary")
    assert {"torch", "lightning"}.isdisjoint(report["loaded"])
    assert report["written"] == []


def test_version_is_that_of_the_installed_package() -> None:
    assert leukonca.__version__ == __version__
    assert importlib.metadata.version("leukonca") == __version__


def test_public_names_exist() -> None:
    assert sorted(set(leukonca.__all__)) == sorted(leukonca.__all__)
    for name in leukonca.__all__:
        assert getattr(leukonca, name) is not None
    assert set(leukonca.__all__) <= set(dir(leukonca))


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
