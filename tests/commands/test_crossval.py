from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import runs
from leukonca.assessment import crossvalidate as library
from leukonca.assessment.metrics import Metrics, measure
from leukonca.commands import main
from leukonca.learning.run import Run
from leukonca.learning.settings import AS_PUBLISHED, Settings


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


def crossval(*words: object) -> int:
    return main(["crossval", *map(str, words)])


def test_the_folds_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["--data", runs.cells(), "--out", out, "--folds", 2, "--resamples", 5, *runs.flags()]
    assert crossval(*words) == 0
    said, log = capsys.readouterr()
    assert said.splitlines()[0] == f"report: {out / 'crossval.html'}"
    assert said.splitlines()[1].startswith("30 cells: accuracy ")
    assert "fold 2 of 2" in log
    assert "sd" in json.loads((out / "crossval.json").read_text("utf-8"))["summary"]["accuracy"]
    assert [Run.open(out / f"fold-{fold}").settings.fold for fold in (0, 1)] == [0, 1]
    # Killed after its first fold, and given the same words again.
    shutil.rmtree(out / "fold-1")
    (out / "crossval.json").unlink()
    assert crossval(*words) == 0
    assert capsys.readouterr().out == said
    assert crossval(*words, "--batch", 7) == 2
    assert "holds a run of other data or settings" in capsys.readouterr().err


@pytest.fixture
def settings_given(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    given: list[Settings] = []
    metrics = measure(["monocyte", "eosinophil"], np.eye(2), ("monocyte", "eosinophil"), resamples=0)

    def note(data: object, out: object, settings: Settings, **_: object) -> Metrics:
        given.append(settings)
        return metrics

    monkeypatch.setattr(library, "crossvalidate", note)
    return given


def test_five_folds_unless_said_otherwise(settings_given: list[Settings]) -> None:
    place = ["--data", "x", "--out", "y"]
    for words in ([], ["--folds", 3], ["--as-published"], ["--as-published", "--seed", 1]):
        assert crossval(*place, *words) == 0
    assert [settings.folds for settings in settings_given] == [5, 3, 5, 5]
    assert settings_given[2] == AS_PUBLISHED
    assert settings_given[3].seed == 1


def test_an_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> Metrics:
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "crossvalidate", interrupted)
    assert crossval("--data", "x", "--out", "y") == 130
    assert capsys.readouterr().err == "leukonca: interrupted; the same command again goes on\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "y"], "data"),
        (["--data", "x"], "out"),
        (["--data", "x", "--out", "y", "--fold", "1"], "unrecognized arguments: --fold 1"),
        (["--data", "x", "--out", "y", "--as-published", "--folds", "3"], "leave --folds away"),
        (["--data", "x", "--out", "y", "--folds", "0"], "folds=0: cross-validation needs at least 2"),
        (["--data", "x", "--out", "y", "--folds", "1"], "folds=1 must be 0, or at least 2"),
        (["--data", "no-such-folder", "--out", "y"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert crossval(*words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
