from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import runs
from leukonca.commands import main
from leukonca.explanation.similar import CellIndex

SPEC = f"folder:{runs.cells()}"


def test_an_index_with_pictures_serves_where_the_cells_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs.cells(), tmp_path / "cells")
    model = tmp_path / "mine.safetensors"
    model.write_bytes((runs.run().folder / "best.safetensors").read_bytes())
    words = ["--data", f"folder:{tmp_path / 'cells'}", "--per-class", "2", "--seeds", "1"]
    assert main(["index", str(model), *words, "--pictures", "--credit", "From <us>."]) == 0
    file = tmp_path / "mine.cells.safetensors"
    assert capsys.readouterr().out.splitlines()[-1].split() == ["6", "cells:", str(file)]
    assert set(CellIndex.load(file).labels) == {"eosinophil", "lymphocyte", "monocyte"}
    cell = str(shutil.copy(runs.paths("test")[0], tmp_path / "query.png"))
    shutil.rmtree(tmp_path / "cells")
    out = tmp_path / "out"
    assert main(["explain", str(model), cell, "--out", str(out), "--seeds", "1", "--no-animation"]) == 0
    row = pd.read_csv(out / "cells.csv").iloc[0]
    assert len(row["similar"].split("|")) == 5
    page = (out / row["page"]).read_text(encoding="utf-8")
    assert "From &lt;us&gt;." in page
    assert "picture not at hand" not in page


def test_without_pictures_the_files_are_shown_as_long_as_they_are_there(tmp_path: Path) -> None:
    cells, file = tmp_path / "cells", tmp_path / "i.safetensors"
    shutil.copytree(runs.cells(), cells)
    model = str(runs.run().folder)
    assert main(["index", model, "--data", f"folder:{cells}", "--out", str(file), "--seeds", "1"]) == 0
    words = ["--similar", str(file), "--out", str(tmp_path / "out"), "--seeds", "1", "--no-animation"]
    for gone in (False, True):
        if gone:
            shutil.rmtree(cells)
        assert main(["explain", model, runs.paths("test")[0], *words]) == 0
        page = next((tmp_path / "out" / "pages").iterdir()).read_text(encoding="utf-8")
        assert ("picture not at hand" in page) is gone


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(runs.run().folder)
    for words, said in (
        ((), "arguments are required: data"),
        (("--data", SPEC, "--out", tmp_path), "is a folder; name a file"),
        (("--data", SPEC, "--out", tmp_path / "i", "--per-class", 0), "per_class=0 must be at least 1"),
    ):
        assert main(["index", model, *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err
