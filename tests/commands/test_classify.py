from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import leukonca
import runs
from leukonca.assessment import predict
from leukonca.assessment.prediction import Predictions
from leukonca.commands import main
from leukonca.learning.bundle import save_bundle


def model() -> str:
    return str(runs.run().folder)


def classify(*words: object) -> int:
    return main(["classify", *map(str, words)])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".CSV"])
def test_a_table_is_what_python_gives(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, out = runs.paths("test"), tmp_path / "new" / f"table{suffix}"
    assert classify(model(), *paths, "--out", out, "--seeds", 2) == 0
    expected = leukonca.load(model()).classify(paths, seeds=2)
    found = Predictions.read(out)
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), check_exact=True)
    said = capsys.readouterr().out.splitlines()
    assert said[-1].split(maxsplit=1) == ["6", f"files, 0 unreadable: {out}"]
    counts = {line.split()[2]: int(line.split()[0]) for line in said[:-1]}
    assert counts == {name: expected.labels.count(name) for name in expected.classes}


def test_settled_pictures_stop_early_and_the_steps_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, out = runs.paths("test"), tmp_path / "table.csv"
    assert classify(model(), *paths, "--out", out, "--settle", 0.5) == 0
    trained = leukonca.load(model())
    expected = trained.settling(0.5).classify(paths)
    pd.testing.assert_frame_equal(Predictions.read(out).to_frame(), expected.to_frame(), check_exact=True)
    assert expected.steps is not None
    said = f"{expected.steps.mean():.1f} of {trained.trained.steps} steps on average"
    assert capsys.readouterr().out.splitlines()[-1].strip() == said
    assert classify(model(), *paths, "--settle", 2) == 2
    assert "settle=2.0: a change of a probability is in [0, 1]" in capsys.readouterr().err


def test_views_are_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = runs.paths("test"), tmp_path / "table.csv"
    assert classify(model(), *paths, "--out", out, "--views", 4, "--seeds", 1) == 0
    expected = leukonca.load(model()).views(4).classify(paths, seeds=1)
    pd.testing.assert_frame_equal(Predictions.read(out).to_frame(), expected.to_frame(), check_exact=True)
    assert classify(model(), *paths, "--views", 9) == 2
    assert "views=9 must be 1 to 8" in capsys.readouterr().err


def test_shares_of_types_can_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = runs.paths("test"), tmp_path / "table.csv"
    plain = leukonca.load(model()).classify(paths)
    first, second = plain.classes[:2]
    assert classify(model(), *paths, "--out", out, "--expect", f"{first}=1e15,{second}=1") == 0
    found = Predictions.read(out)
    expected = plain.probabilities[:, :2].sum(axis=1)
    np.testing.assert_allclose(found.probabilities[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(found.probabilities[:, 2:], plain.probabilities[:, 2:])
    assert classify(model(), *paths, "--expect", "blood", "--coverage", 0.9) == 2
    assert "give one of the two" in capsys.readouterr().err


def test_without_a_file_the_same_table_is_written_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a file name holds what would end a row."""
    strange = runs.copy_as(runs.paths("test")[0], tmp_path / 'a "line"\r,.bmp')
    assert classify(model(), strange, runs.paths("test")[1]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert classify(model(), strange, runs.paths("test")[1], "--out", tmp_path / "t.csv") == 0
    assert out == (tmp_path / "t.csv").read_bytes().decode()
    assert pd.read_csv(io.StringIO(out, newline=""))["path"][0] == strange


def test_broken_files_are_rows_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "broken.png").write_bytes(b"\x89PNG")
    runs.copy_as(runs.paths("test")[0], tmp_path / "cells" / "fine.png")
    out = tmp_path / "t.jsonl"
    assert classify(model(), tmp_path / "cells", tmp_path / "missing.png", "--out", out) == 1
    assert "3  files, 2 unreadable" in capsys.readouterr().out
    found = Predictions.read(out)
    assert [Path(path).name for path in found.paths] == ["broken.png", "fine.png", "missing.png"]
    assert found.ok.tolist() == [False, True, False]
    assert "does not exist" in found.errors[2]
    assert classify(model(), tmp_path / "cells") == 1
    rows, said = capsys.readouterr()
    assert len(rows.splitlines()) == 3
    assert said == "1 of 2 files are unreadable; column 'error' says why\n"


def no_work(*_: object, **__: object) -> Iterator[Any]:
    raise AssertionError("the work has begun")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("t.xlsx", "must end in .csv, .jsonl, .parquet"),
        ("t", "must end in .csv, .jsonl, .parquet"),
        ("file/t.csv", "cannot be written"),
        ("folder.csv", "cannot be written: is a folder"),
    ],
)
def test_a_table_that_cannot_be_written_is_refused_before_the_work(
    out: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setattr(predict, "predict_in_parts", no_work)
    assert classify(model(), runs.paths("test")[0], "--out", tmp_path / out) == 2
    err = capsys.readouterr().err
    assert said in err
    assert str(tmp_path / out) in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_wrong_models_pictures_and_seeds_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    picture = runs.paths("test")[0]
    for words, said in (
        ((tmp_path / "none", picture), "no such model file"),
        ((tmp_path / "empty", picture), "not that of a training run"),
        ((picture, picture), "not a leukonca model"),
        ((model(), tmp_path / "empty"), "holds no pictures"),
        ((model(), picture, "--seeds", 0), "seeds=0 must be at least 1"),
    ):
        assert classify(*words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err


def interrupted_after(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict.predict_in_parts

    def some(*args: Any, **options: Any) -> Iterator[Predictions]:
        for number, part in enumerate(whole(*args, batch=2, **options)):
            if number == parts:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(predict, "predict_in_parts", some)


def test_an_interruption_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, out = runs.paths("test"), tmp_path / "t.csv"
    interrupted_after(2, monkeypatch)
    assert classify(model(), *paths, "--out", out) == 130
    assert f"interrupted; 4 of 6 files are done and in {out}" in capsys.readouterr().err
    assert Predictions.read(out).paths == paths[:4]
    assert classify(model(), *paths) == 130
    rows, said = capsys.readouterr()
    assert len(rows.splitlines()) == 5
    assert said == "leukonca: interrupted; 4 of 6 files are done\n"


def test_an_interruption_before_the_first_part_leaves_the_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.csv"
    out.write_text("yesterday's", encoding="utf-8")
    interrupted_after(0, monkeypatch)
    assert classify(model(), *runs.paths("test"), "--out", out) == 130
    assert "no file was done" in capsys.readouterr().err
    assert out.read_text("utf-8") == "yesterday's"


def test_ctrl_c_in_the_middle_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real signal, while the second part of 64 files is in work."""
    average, parts = predict._average, []

    def pressed(*args: Any) -> Any:
        parts.append(1)
        if len(parts) == 2:
            signal.raise_signal(signal.SIGINT)
        return average(*args)

    monkeypatch.setattr(predict, "_average", pressed)
    many, out = runs.run().manifest.frame["path"].tolist() * 3, tmp_path / "t.csv"
    assert classify(model(), *many, "--out", out, "--seeds", 1) == 130
    said = f"leukonca: interrupted; 64 of 90 files are done and in {out}\n"
    assert capsys.readouterr().err == said
    found = Predictions.read(out)
    assert found.paths == many[:64]
    assert np.isfinite(found.probabilities).all()


def wary(folder: Path) -> Path:
    save_bundle(runs.wary(), folder / "wary.safetensors")
    return folder / "wary.safetensors"


def test_coverage_and_foreign_pictures_go_into_table_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, out, file = runs.paths("test"), tmp_path / "t.csv", wary(tmp_path)
    known = leukonca.load(file).classify(paths).familiarity
    assert known is not None
    middle = float(np.nextafter(np.median(known), 1))
    assert classify(file, *paths, "--out", out, "--coverage", 0.8, "--foreign", middle) == 0
    expected = leukonca.load(file).classify(paths, coverage=0.8, foreign=middle)
    found = Predictions.read(out)
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), check_exact=True)
    assert expected.foreign is not None
    assert 0 < expected.foreign.sum() < 6
    assert expected.reasons is not None
    *counts, unnamed, review, _ = capsys.readouterr().out.splitlines()
    assert unnamed.split(maxsplit=1) == [str(expected.foreign.sum()), "not named: unlike the training cells"]
    assert review.split(maxsplit=1) == [str(sum(map(bool, expected.reasons))), "to review"]
    assert sum(int(line.split()[0]) for line in counts) == 6 - expected.foreign.sum()


def test_a_coverage_that_cannot_be_given_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_bundle(replace(runs.model(), trust=None), tmp_path / "old.safetensors")
    for file, coverage, said in (
        (tmp_path / "old.safetensors", 0.9, "this model is not calibrated; 'leukonca calibrate' adds"),
        (wary(tmp_path), 90, "coverage=90.0 must lie between 0 and 1"),
    ):
        assert classify(file, runs.paths("test")[0], "--coverage", coverage) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err
