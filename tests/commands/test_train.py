from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import runs
from learning.micro import assert_same_run
from leukonca import api
from leukonca.commands import main
from leukonca.learning import training
from leukonca.learning.run import Run
from leukonca.learning.settings import AS_PUBLISHED, Settings
from leukonca.learning.training import train as library_train


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    with runs.undrawn():
        yield


def train(*words: object) -> int:
    return main(["train", *map(str, words)])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@pytest.fixture
def settings_given(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that the library was given; nothing is trained."""
    given: list[Settings] = []

    def note(data: object, out: object, settings: Settings, *, cache: object, progress: bool) -> api.Training:
        given.append(settings)
        return api.Training(runs.run(), api.load(runs.run().folder))

    monkeypatch.setattr(api, "train", note)
    return given


def test_from_pictures_to_a_tested_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert train("--data", runs.cells(), "--out", out, *runs.flags(epochs=2)) == 0
    said, log = capsys.readouterr()
    lines = said.splitlines()
    assert lines[:2] == [f"model:  {out / 'best.safetensors'}", f"report: {out / 'report' / 'report.html'}"]
    assert lines[2].startswith("6 cells: accuracy ")
    assert "epoch 2/2" in log
    assert json.loads((out / "report" / "metrics.json").read_text("utf-8"))["n"] == 6
    run = Run.open(out)
    assert run.settings == runs.settings(epochs=2)
    assert run.data == (str(runs.cells()),)
    # The command adds nothing to what the library does.
    same = library_train([str(runs.cells())], tmp_path / "same", runs.settings(epochs=2))
    assert_same_run(out, same.folder)
    # A finished run is finished.
    before = (out / "best.safetensors").read_bytes()
    assert train("--resume", out) == 0
    assert capsys.readouterr().out == said
    assert (out / "best.safetensors").read_bytes() == before


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    whole = training._fit

    def interrupted(*_: object, **__: object) -> Run:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_fit", interrupted)
    for words in (["--data", runs.cells(), "--out", out, *runs.flags()], ["--resume", out]):
        assert train(*words) == 130
        assert f"interrupted; 'leukonca train --resume {out}' goes on\n" in capsys.readouterr().err
    monkeypatch.setattr(training, "_fit", whole)
    assert train("--resume", out, "--no-report") == 0
    assert Run.open(out).model().classes == ("lymphocyte", "monocyte", "eosinophil")


@pytest.mark.parametrize("why", ["--no-report", "--fractions=[0.8, 0.2, 0.0]"])
def test_the_report_can_be_absent(why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--data", runs.cells(), "--out", tmp_path / "run", *runs.flags(), why) == 0
    assert capsys.readouterr().out == f"model:  {tmp_path / 'run' / 'best.safetensors'}\n"
    assert not (tmp_path / "run" / "report").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--data", "x"],
        ["--out", "x"],
        ["--resume", "r", "--data", "x"],
        ["--resume", "r", "--out", "x"],
        ["--resume", "r", "--data", "x", "--out", "x"],
        ["--resume", "r", "--epochs", "50"],
        ["--resume", "r", "--as-published"],
    ],
)
def test_a_new_run_or_an_interrupted_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*words) == 2
    said = one_line(capsys)
    assert ("leave all others away" if "--resume" in words else "--data and --out for a new run") in said


def test_settings_may_come_from_a_file(
    tmp_path: Path, settings_given: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "epochs: 3\nloss: focal\nfractions: [0.5, 0.25, 0.25]\nchange: {steps: 9, pooling: mean}\n", "utf-8"
    )
    place = ["--data", "x", "--out", "y", "--no_report"]
    assert train("--config", file, "--batch", 5, "--loss", "bce", *place) == 0
    (settings,) = settings_given
    assert (settings.epochs, settings.batch, settings.loss) == (3, 5, "bce")
    assert settings.fractions == (0.5, 0.25, 0.25)
    assert (settings.change.steps, settings.change.pooling, settings.change.size) == (9, "mean", None)
    # What is printed can be given back.
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        train("--config", file, "--batch", 5, "--loss", "bce", *place, "--print-config")
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["batch"] == 5
    (tmp_path / "printed.yaml").write_text(printed, "utf-8")
    assert train("--config", tmp_path / "printed.yaml") == 0
    assert settings_given[1] == settings


def test_data_and_place_may_be_in_the_file_too(tmp_path: Path, settings_given: list[Settings]) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("data: [x]\nout: y\nno_report: true\nseed: 3\n", "utf-8")
    assert train("--config", file) == 0
    assert settings_given == [Settings(seed=3)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epoch_count", "3"], "--epoch_count 3"),
        (["--change.step", "3"], "--change.step 3"),
        (["--epochs", "many"], "--epochs: Expected a <class 'int'>. Got value: many"),
        (["--loss", "hinge"], "--loss: Expected"),
        (["--change.pooling", "min"], "--change.pooling: Does not validate"),
        (["--preset", "huge"], "preset 'huge' is unknown; known: "),
        (["--augmentation", "wild"], "augmentation = 'wild'"),
        (["--epochs", "0"], "epochs=0 must be at least 1"),
        (["--fractions", "[0.5, 0.2, 0.2]"], "must be three shares in [0, 1] that sum to 1"),
        (["--fractions", "0.5"], "--fractions: Expected"),
        (["--config", "my train.yaml"], "my train.yaml' (see: leukonca train --help)"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name(
    words: list[str], said: str, settings_given: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--data", "x", "--out", "y", *words) == 2
    assert said in one_line(capsys)
    assert settings_given == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 1\nepoch: 2\n", "'epoch'"),
        ("change: {step: 2}\n", "step"),
        ("epochs: many\n", "epochs: Expected a <class 'int'>"),
        ("epochs: [\n", "Problems parsing config"),
    ],
)
def test_a_wrong_file_of_settings_is_one_line(
    text: str,
    said: str,
    tmp_path: Path,
    settings_given: list[Settings],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.yaml").write_text(text, "utf-8")
    assert train("--data", "x", "--out", "y", "--config", tmp_path / "bad.yaml") == 2
    assert said in one_line(capsys)
    assert settings_given == []


def test_fractions_are_given_as_help_shows_them(
    settings_given: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train("--help")
    shown = re.search(r"--fractions (\S+)", capsys.readouterr().out.split("options:")[1])
    assert shown is not None
    assert shown[1] == "[ITEM,...]"
    assert train("--data", "x", "--out", "y", "--no_report", "--fractions", "[0.6,0.2,0.2]") == 0
    assert settings_given[0].fractions == (0.6, 0.2, 0.2)


def test_the_training_of_the_paper(settings_given: list[Settings]) -> None:
    place = ["--data", "x", "--out", "y", "--no_report"]
    for words in (
        ["--as_published"],
        ["--as-published", "--fold", 3, "--seed", 7],
        # Saying again what the paper says is no contradiction.
        ["--as-published", "--preset", "paper", "--epochs", 32, "--folds", 5],
    ):
        assert train(*place, *words) == 0
    plain, chosen, repeated = settings_given
    assert plain == repeated == AS_PUBLISHED
    assert (chosen.fold, chosen.seed) == (3, 7)
    assert Settings.from_dict({**chosen.to_dict(), "fold": 0, "seed": 42}) == AS_PUBLISHED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", 2, "--batch", 8], "leave --epochs and --batch away"),
        (["--change.steps", 8], "leave --change away"),
        (["--fold", 5], "fold=5 must be in [0, folds=5)"),
    ],
)
def test_the_training_of_the_paper_is_not_altered(
    words: list[Any], said: str, settings_given: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--data", "x", "--out", "y", "--as_published", *words) == 2
    assert said in one_line(capsys)
    assert settings_given == []


def test_mistakes_with_places_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("", encoding="utf-8")
    run = runs.run().folder
    for words, said in (
        (["--data", runs.cells(), "--out", taken], "already exists and is not empty"),
        (["--data", runs.cells(), "--out", run], "give its folder to --resume to go on"),
        (["--data", tmp_path / "none", "--out", tmp_path / "new"], "does not exist"),
        (["--data", runs.cells() / "monocyte", "--out", tmp_path / "new"], "at least 2 classes"),
        (["--resume", taken], "not the folder of a training run"),
    ):
        assert train(*words) == 2
        assert said in one_line(capsys)
    assert not (tmp_path / "new").exists()


def test_quiet_shows_no_bar_to_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []

    def note(*_: object, cache: object, progress: bool) -> api.Training:
        shown.append(progress)
        return api.Training(runs.run(), api.load(runs.run().folder))

    monkeypatch.setattr(api, "train", note)
    for person in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda person=person: person)
        for words in ([], ["--quiet"]):
            assert train("--data", "x", "--out", "y", "--no_report", *words) == 0
    assert shown == [True, False, False, False]
