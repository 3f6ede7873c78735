from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import leukonca
import runs
from learning.micro import CLASSES, picture, save
from leukonca.commands import main


def adapt(*words: object) -> int:
    return main(["adapt", *map(str, words)])


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    for kind, name in enumerate(CLASSES):
        for number in range(7):
            save(folder / name / f"{number}.png", picture(50 + number, kind) // 2 + 90)
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "5"], "15 cells (5 eosinophil, 5 lymphocyte, 5 monocyte)"),
        ([], "21 cells (7 eosinophil, 7 lymphocyte, 7 monocyte)"),
        (["--labels", "0"], "21 cells (no labels)"),
    ],
)
def test_a_model_is_adapted_and_tested_on_the_other_cells(
    words: list[str], said: str, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapted.safetensors"
    assert adapt(runs.run().folder, "--data", elsewhere, "--out", out, *words) == 0
    assert capsys.readouterr().out == f"{out}: adapted with {said}\n"
    trained = leukonca.load(out).trained
    assert trained.provenance["adapted"][0]["parent"] == "run"
    cells = int(said.split()[0])
    code = main(
        ["evaluate", str(out), "--data", str(elsewhere), "--out", str(tmp_path / "r"), "--resamples", "0"]
    )
    err = capsys.readouterr().err
    if cells == 21:
        assert code == 2
        assert "(21 were seen in training)" in err
    else:
        assert code == 0
        assert "6 of 21 cells were used (split: test)." in err
        page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
        assert ": 15 cells with labels" in page
        assert ": 18 cells" in page  # of its own training


def test_pictures_need_no_folders_of_types_where_no_label_is_read(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "cells" / "slide" / f"{number}.png", picture(70 + number, number % 3))
    out = tmp_path / "adapted.safetensors"
    data = f"folder:{tmp_path / 'cells'}"
    assert adapt(runs.run().folder, "--data", data, "--labels", 0, "--out", out) == 0
    assert leukonca.load(out).trained.provenance["adapted"][0]["cells"] == 6


def test_mistakes_are_one_line(elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = runs.run().folder, tmp_path / "out.safetensors"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "one.png")
    for words, said in (
        ([folder, "--data", elsewhere, "--out", tmp_path], "is a folder; name a file"),
        ([folder, "--data", elsewhere, "--out", out, "--labels", 3], "labels=3 must be 0, or at least 5"),
        ([tmp_path / "none", "--data", elsewhere, "--out", out], "no such model file"),
        ([folder, "--data", tmp_path / "none", "--out", out], "does not exist"),
        ([folder, "--out", out], "arguments are required: data"),
        ([folder, "--data", elsewhere, "--out", out, "--source", elsewhere], "none of the 21 cells is one"),
    ):
        assert adapt(*words) == 2
        rows, err = capsys.readouterr()
        assert (rows, err.count("\n")) == ("", 1)
        assert said in err
    assert not out.exists()
