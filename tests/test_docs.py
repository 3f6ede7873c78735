"""What the documentation says in code is true."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from leukonca.cells.decode import content_hash
from leukonca.cells.source import load_source
from leukonca.nca.architecture import preset
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.firing import Firing, fires, image_id

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


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
    made = set(re.findall(r'^    "([a-z-]+)": _', (DOCS / "_generated.py").read_text(encoding="utf-8"), re.M))
    for page in DOCS.rglob("*.md"):
        assert set(re.findall(r"<!-- table: ([a-z-]+) -->", page.read_text(encoding="utf-8"))) <= made
