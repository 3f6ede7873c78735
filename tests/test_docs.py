"""What the documentation says in code is true."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from jsonargparse import Namespace

import leukonca
from leukonca.assessment.metrics import measure
from leukonca.cells.decode import content_hash
from leukonca.cells.source import load_source
from leukonca.commands import main
from leukonca.learning.settings import Settings
from leukonca.nca.architecture import preset
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import Firing, fires, image_id

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
GENERATED = (DOCS / "_generated.py").read_text(encoding="utf-8")


def test_the_tables_of_the_readme_are_those_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- table: shipped -->" in text
    assert importlib.import_module("_experiments").readme(text) == text, "run: python docs/_experiments.py"


@pytest.mark.parametrize("name", ["shift", "corruptions", "adaptation"])
def test_the_plots_are_those_of_the_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    plots = importlib.import_module("_plots")
    assert name in plots.PLOTS
    kept = (DOCS / "images" / f"{name}.svg").read_text(encoding="utf-8")
    assert f"data {plots.fingerprint(name)}" in kept, "run: python docs/_plots.py"
    drawn = ElementTree.fromstring(plots.draw(name))
    written = {" ".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    wanted = {"shift": "Zheng 1", "corruptions": "out of focus", "adaptation": "BCISC"}
    assert wanted[name] in written


def blocks(page: str | Path, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def titled(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """The blocks that stand for a file, with its name."""
    text = page.read_text(encoding="utf-8")
    yield from re.findall(rf'^```{language} title="(.+?)"\n(.*?)^```', text, re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def shell_commands(page: Path) -> list[str]:
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"\s*(\S*/)?leukonca\s", line)]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Namespace]:
    """Commands are parsed as ever, but what they would do is noted here and not done."""
    found: list[Namespace] = []

    def note(arguments: Namespace) -> int:
        found.append(arguments)
        return 0

    for file in (ROOT / "src" / "leukonca" / "commands").glob("[a-z]*.py"):
        module = importlib.import_module(f"leukonca.commands.{file.stem}")
        if hasattr(module, "run"):
            monkeypatch.setattr(module, "run", note)
    return found


@pytest.fixture(scope="module")
def published() -> Any:
    """The functions that the page on firing prints, as somebody would copy them."""
    names: dict[str, Any] = {}
    for block in blocks("explanation/firing.md", "python"):
        exec(block, names)
    return SimpleNamespace(**{name: thing for name, thing in names.items() if not name.startswith("_")})


def vectors() -> list[tuple[int, int, int, int, int, int, int, bool]]:
    text = (DOCS / "explanation/firing.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| `0x(\w{8})` \| (\d+) \| (yes|no) \|$", text, re.M
    )
    return [(*map(int, row[:5]), int(row[5], 16), int(row[6]), row[7] == "yes") for row in rows]


def fires_at(probability: float, seed: int, image: int, step: int, row: int, column: int) -> bool:
    firing = Firing(seed, torch.tensor([image]), probability)
    return bool(fires(firing, step, row + 1, column + 1)[0, row, column])


def test_published_firing_vectors_are_those_of_the_published_code(published: Any) -> None:
    assert len(vectors()) == 10
    for *place, h, shifted, yes in vectors():
        assert published.firing_hash(*place) == h
        assert h >> 8 == shifted
        assert published.site_fires(0.5, *place) is yes


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: "-".join(map(str, vector[:5])))
def test_published_firing_vectors_are_those_of_the_library(vector: tuple[int, ...]) -> None:
    *place, _, shifted, yes = vector
    assert fires_at(0.5, *place) is yes
    # The threshold lies just above the hash and just below it: all 24 bits are as published.
    assert fires_at((shifted + 1) / 2**24, *place)
    assert not fires_at(shifted / 2**24, *place)


def test_published_pattern_is_that_of_the_library() -> None:
    (picture,) = (block for block in blocks("explanation/firing.md", "text") if set(block) == set("#.\n"))
    grid = fires(Firing(42, torch.tensor([7]), 0.5), 0, 6, 24)[0]
    assert picture.splitlines() == ["".join("#" if site else "." for site in row) for row in grid.tolist()]


def test_published_image_number_is_that_of_the_library(published: Any) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (11, 7, 3), dtype=np.uint8)
    assert published.image_number(11, 7, picture.tobytes()) == image_id(content_hash(picture))
    assert hashlib.blake2b(digest_size=16).digest_size * 2 == len(content_hash(picture))


def test_example_of_an_image_set_gives_the_labels_that_it_promises(tmp_path: Path) -> None:
    examples = []
    for number, block in enumerate(blocks("how-to/add-an-image-set.md", "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(block, encoding="utf-8")
        examples.append(load_source(file))
    whole, numbered, divided = examples

    (rule,) = whole.use().rules
    verdicts = {
        path: rule.judge(path)
        for path in ("slide-01/NEU_0001.jpg", "slide-01/LYM_0002.jpg", "slide-02/ART_0003.jpg", "README.txt")
    }
    neutrophil, lymphocyte, artefact, readme = verdicts.values()
    assert neutrophil is not None
    assert neutrophil.label == "neutrophil"
    assert lymphocyte is not None
    assert lymphocyte.label == "lymphocyte"
    assert artefact is not None
    assert (artefact.label, artefact.left_out) == ("", "artefact, not a cell")
    assert readme is None
    assert whole.group_of("slide-02/ART_0003.jpg") == "hospitalx:slide-02"

    (rule,) = numbered.use().rules
    verdict = rule.judge("pictures/007.bmp", {"7": "2"})
    assert verdict is not None
    assert verdict.label == "lymphocyte"

    split = divided.use().split
    assert split is not None
    parts = {part: split.of(f"{part}/Neutrophil/a.png") for part in ("train", "Test-A", "Test-B")}
    assert parts == {"train": "train", "Test-A": "test", "Test-B": ""}


def test_parameters_of_the_published_model_add_up_as_the_page_says() -> None:
    text = (DOCS / "explanation/automaton.md").read_text(encoding="utf-8")
    parts = re.findall(r"^\| [^*|]+ \| ([\d,]+) \|$", text, re.MULTILINE)
    (total,) = re.findall(r"^\| \*\*sum\*\* \| \*\*([\d,]+)\*\* \|$", text, re.MULTILINE)
    counts = [int(count.replace(",", "")) for count in (*parts, total)]
    assert sum(counts[:-1]) == counts[-1] == CellClassifier(preset("paper"), 13).parameter_count


def test_pages_ask_only_for_tables_that_there_are() -> None:
    made = set(re.findall(r'^    "([a-z-]+)": _', GENERATED, re.MULTILINE))
    asked = set(re.findall(r"<!-- table: ([a-z-]+) -->", "".join(page.read_text("utf-8") for page in PAGES)))
    assert asked == made


@pytest.mark.parametrize("page", [page for page in PAGES if shell_commands(page)], ids=name_of)
def test_shell_commands_are_accepted_by_their_parsers(
    page: Path, parsed: list[Namespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in titled(page, "yaml"):
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for command in shell_commands(page):
        words = shlex.split(command, comments=True)[1:]
        if "--print_config" in words or "--version" in words:
            with pytest.raises(SystemExit) as ended:
                main(words)
            assert not ended.value.code, command
        else:
            # Parsing is done by then; wrong use would have given 2.
            assert main(words) == 0, command
            assert parsed, command


def test_wrong_shell_commands_would_be_noticed(parsed: list[Namespace]) -> None:
    for wrong in (
        "train --data x --out y --epocs 3",
        "classify model",
        "data inspect x",
        "evaluate --seeds a m",
    ):
        assert main(wrong.split()) == 2
    assert not parsed


@pytest.mark.parametrize("page", [page for page in PAGES if list(titled(page, "yaml"))], ids=name_of)
def test_settings_files_hold_settings(page: Path, parsed: list[Namespace], tmp_path: Path) -> None:
    for name, content in titled(page, "yaml"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert main(["train", "--data", "x", "--out", "y", "--config", str(tmp_path / name)]) == 0
    assert all(Settings.from_dict({"change": given.change.as_dict()}) != Settings() for given in parsed)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_names_only_what_there_is(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "leukonca":
                assert node.attr in leukonca.__all__


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    rooms = set(re.findall(r'^    "(\w+)": "', GENERATED, re.MULTILINE))
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", link):
            # The pages of the API are made when the documentation is built.
            made = re.search(r"reference/api/(\w+)\.md$", link)
            assert (made[1] in rooms) if made else (page.parent / link).exists(), link


def test_navigation_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"^ +- (?:\w+: )?(\S+\.md)$", text, re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize(
    ("page", "module", "owner"),
    [
        ("reference/run-folder.md", "leukonca.learning.run", None),
        ("reference/report-folder.md", "leukonca.assessment.report", "write_report"),
    ],
)
def test_pages_name_the_files_that_the_code_names(page: str, module: str, owner: str | None) -> None:
    thing = importlib.import_module(module)
    said = (getattr(thing, owner) if owner else thing).__doc__ or ""
    files = set(re.findall(r"\b[\w-]+\.(?:json|csv|png|html|safetensors|ckpt)\b|\b\w+/(?=\s)", said))
    assert len(files) >= 6
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [file for file in sorted(files) if f"`{file}`" not in text] == []


def test_example_of_hidden_rare_types_is_computed_right() -> None:
    text = (DOCS / "explanation/metrics-and-intervals.md").read_text(encoding="utf-8")
    promised = dict(re.findall(r"^\| ([\w -]+) \| (0\.\d{3}) \|", text, re.MULTILINE))
    truth = ["neutrophil"] * 950 + ["basophil"] * 50
    metrics = measure(truth, [[1.0, 0.0]] * 1000, ["neutrophil", "basophil"], resamples=0)
    names = {name: name.lower().replace(" ", "_").replace("-", "_") for name in promised}
    assert len(promised) == 4
    assert {name: f"{getattr(metrics, names[name]).value:.3f}" for name in promised} == promised
