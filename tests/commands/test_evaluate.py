from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runs
from learning.micro import picture, save
from leukonca.commands import main


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The run, in a folder that may be written to."""
    return Path(shutil.copytree(runs.run().folder, tmp_path / "own"))


def evaluate(*words: object) -> int:
    return main(["evaluate", *map(str, words)])


def metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def test_a_run_is_measured_on_its_own_test_cells_beside_it(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(own, "--resamples", 20) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"report: {own / 'report' / 'report.html'}"
    assert out.splitlines()[1].startswith("6 cells: accuracy ")
    assert "95 % interval" in out
    assert "6 of 30 cells were used (split: test)." in err
    assert metrics(own / "report")["n"] == 6


def test_without_intervals_none_are_said(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(own, "--resamples", 0, "--out", own / "elsewhere") == 0
    out = capsys.readouterr().out
    assert "95 %" not in out
    assert "nan" not in out
    assert (own / "elsewhere" / "report.html").is_file()
    assert not (own / "report").exists()


def test_other_cells_need_a_place_of_their_own(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the report of the run's own test cells would be written over."""
    assert evaluate(own, "--data", runs.cells()) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert not (own / "report").exists()


@pytest.mark.parametrize(
    ("options", "cells", "said"),
    [
        ([], 6, "6 of 30 cells were used (split: test)."),
        (["--split", "all"], 6, "Cells seen in training, left out: 24."),
        (["--split", "all", "--allow-seen"], 30, "counted all the same as asked: 24."),
        (["--split", "train"], 18, "counted all the same as asked: 18."),
        (["--split", "val"], 6, "counted all the same as asked: 6."),
        (["--split", "test", "--statistics", "target"], 6, "a leak of the target set's statistics"),
    ],
)
def test_the_parts_of_the_data(
    options: list[str], cells: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = runs.run().folder / "best.safetensors"
    words = [file, "--data", runs.cells(), "--out", tmp_path, "--resamples", 0, *options]
    assert evaluate(*words) == 0
    assert metrics(tmp_path)["n"] == cells
    assert said in capsys.readouterr().err


def test_unreadable_pictures_show_in_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "cells" / "monocyte" / "1.png", picture(77, 2))
    (tmp_path / "cells" / "monocyte" / "2.png").write_bytes(b"broken")
    words = ["--data", f"folder:{tmp_path / 'cells'}", "--out", tmp_path / "out", "--resamples", 0]
    assert evaluate(runs.run().folder, *words) == 1
    assert "1 cells, 1 unreadable: accuracy" in capsys.readouterr().out
    assert metrics(tmp_path / "out")["unreadable"] == 1


def test_mistakes_are_one_line(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = own / "best.safetensors"
    taken = tmp_path / "taken"
    taken.write_text("", encoding="utf-8")
    for words, said in (
        ([file], "own (best): is not the folder of a training run; name the cells with --data"),
        ([tmp_path / "none"], "none: no such model file"),
        ([own, "--data", tmp_path / "none", "--out", "x"], "does not exist"),
        ([own, "--seeds", 0], "seeds=0 must be at least 1"),
        ([own, "--resamples", -1], "resamples=-1 must be at least 0"),
        ([own, "--out", taken], "taken: cannot be written"),
        ([own, "--data", runs.cells() / "monocyte", "--out", tmp_path / "x"], "has a label"),
    ):
        assert evaluate(*words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err
