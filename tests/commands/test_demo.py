from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import runs
from leukonca.assessment.prediction import Predictions
from leukonca.cells.embedded import embedded_table
from leukonca.commands import demo, main
from leukonca.learning.run import Run
from leukonca.learning.settings import Settings


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo with a smaller automaton: what it does is tested here, how well is measured elsewhere."""
    change = runs.settings().change

    def settings(**values: Any) -> Settings:
        return Settings(**{**values, "change": change})

    monkeypatch.setattr(demo, "Settings", settings)


def test_from_the_embedded_cells_to_named_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--quick", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    names = ("automaton/best.safetensors", "classified.csv", "classified-acevedo20-base.csv", "report.html")
    for name in names:
        assert (out / name).is_file()
        assert str(out / name) in said
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    assert metrics["n"] == 112
    run = Run.open(out / "automaton")
    assert run.data == (f"table:{embedded_table()}",)
    assert run.settings.epochs == 2
    named = Predictions.read(out / "classified.csv")
    frame = run.manifest.frame
    assert named.paths == frame["path"][frame["split"] == "test"].tolist()
    truth = [Path(path).parent.name for path in named.paths]
    # A cell that looks foreign to the model gets no label, but is assessed like the others.
    likeliest = [named.classes[place] for place in named.probabilities.argmax(axis=1)]
    right = sum(own == label for own, label in zip(truth, likeliest, strict=True))
    assert right / 112 == pytest.approx(metrics["accuracy"]["value"])
    shipped = Predictions.read(out / "classified-acevedo20-base.csv")
    assert shipped.paths == named.paths
    assert shipped.foreign is not None
    # Again: the model is there, and nothing is trained.
    before = (out / "automaton" / "best.safetensors").read_bytes()
    with runs.undrawn():
        assert main(["demo", "--quick", "--out", str(out)]) == 0
    assert capsys.readouterr().out == said
    assert (out / "automaton" / "best.safetensors").read_bytes() == before
    # A longer demo is another run and does not go into this one.
    assert main(["demo", "--out", str(out)]) == 2
    assert "already exists and is not empty" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
