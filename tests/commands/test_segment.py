from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import runs
from explanation.scenes import smear
from learning.micro import save
from leukonca.commands import main
from leukonca.explanation import segmented


def segment(*words: object) -> int:
    return main(["segment", str(runs.run().folder), *map(str, words)])


def scenes(folder: Path, count: int) -> list[str]:
    return [
        str(save(folder / f"{seed}.png", smear(side=48, cell=(24, 24, 11), seed=seed)[0]))
        for seed in range(count)
    ]


def test_broken_files_are_rows_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, out = scenes(tmp_path / "cells", 2), tmp_path / "new" / "out"
    assert segment(tmp_path / "cells", "--out", out) == 0
    assert capsys.readouterr().out == f"2 files, 0 unreadable, 0 without a cell: {out / 'cells.csv'}\n"
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["0.png", "1.png"]
    assert segment(*paths, tmp_path / "none.png", "--out", out, "--seeds", 1) == 1
    table = pd.read_csv(out / "cells.csv")
    assert table["path"].tolist() == [*paths, str(tmp_path / "none.png")]
    assert table["error"].notna().tolist() == [False, False, True]


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = scenes(tmp_path, 1)
    (tmp_path / "file").write_text("", encoding="utf-8")
    for words, said in (
        ((path,), "arguments are required: out"),
        ((path, "--out", tmp_path / "file"), "--out"),
        ((path, "--out", tmp_path / "o", "--seeds", 0), "seeds=0 must be at least 1"),
        ((tmp_path / "o", "--out", tmp_path / "o"), "holds no pictures"),
    ):
        assert segment(*words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err


def test_an_interruption_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = segmented.segment_files

    def some(*args: Any, **options: Any) -> Iterator[segmented.SegmentedCell]:
        for number, cell in enumerate(whole(*args, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield cell

    monkeypatch.setattr(segmented, "segment_files", some)
    paths, out = scenes(tmp_path / "cells", 3), tmp_path / "out"
    assert segment(*paths, "--out", out) == 130
    assert f"interrupted; 2 of 3 files are done and in {out / 'cells.csv'}" in capsys.readouterr().err
    assert pd.read_csv(out / "cells.csv")["path"].tolist() == paths[:2]
