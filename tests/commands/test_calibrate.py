from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import leukonca
import runs
from leukonca.commands import main
from leukonca.learning.bundle import save_bundle


def calibrate(*words: object) -> int:
    return main(["calibrate", *map(str, words)])


@pytest.fixture
def uncalibrated(tmp_path: Path) -> Path:
    save_bundle(replace(runs.model(), trust=None), tmp_path / "old.safetensors")
    return tmp_path / "old.safetensors"


def test_an_old_model_becomes_what_a_training_makes(
    uncalibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = f"folder:{runs.cells()}", tmp_path / "new" / "model.safetensors"
    assert calibrate(uncalibrated, "--data", data, "--out", out) == 0
    expected, found = runs.model().trust, leukonca.load(out).trained.trust
    assert expected is not None
    assert found is not None
    assert found.temperature == pytest.approx(expected.temperature, rel=1e-4)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert found.fitted["kind"] == "the model's validation cells"
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["calibrated on"].strip() == "6 cells, the model's validation cells"
    assert lines["foreign pictures"].strip().startswith("are not noticed")
    assert leukonca.load(uncalibrated).trained.trust is None


def test_a_model_can_be_calibrated_in_its_place(uncalibrated: Path) -> None:
    words = (uncalibrated, "--data", f"folder:{runs.cells()}", "--out", uncalibrated, "--seeds", 2)
    assert calibrate(*words) == 0
    trust = leukonca.load(uncalibrated).trained.trust
    assert trust is not None
    assert trust.fitted["seeds"] == 2


def test_wrong_use_is_one_line(
    uncalibrated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = f"folder:{runs.cells()}", tmp_path / "o.safetensors"
    for words, said in (
        ((tmp_path / "none", "--data", data, "--out", out), "no such model file"),
        ((uncalibrated, "--data", data, "--out", tmp_path), "is a folder"),
        ((uncalibrated, "--data", data, "--out", out, "--seeds", 0), "seeds=0 must be at least 1"),
        ((uncalibrated, "--out", out), "required: data"),
    ):
        assert calibrate(*words) == 2
        printed, err = capsys.readouterr()
        assert (printed, err.count("\n")) == ("", 1)
        assert said in err
    assert not out.exists()
