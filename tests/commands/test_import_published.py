from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import leukonca
from learning.test_imported import Hostile, released
from leukonca.commands import main


def import_published(*words: object) -> int:
    return main(["import-published", *map(str, words)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(released(), tmp_path / "max_nca.pth")
    return tmp_path / "max_nca.pth"


@pytest.mark.parametrize(
    ("words", "normalisation"),
    [
        ([], "picture"),
        (["--mean", "0.7", "0.6", "0.8", "--std", "0.2", "0.25", "0.15"], "training"),
    ],
)
def test_a_checkpoint_becomes_a_model(
    checkpoint: Path,
    tmp_path: Path,
    words: list[str],
    normalisation: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "paper.safetensors"
    options = ["--steps", 6, "--firing", 1, "--size", 16]
    assert import_published(checkpoint, "--out", out, *options, *words) == 0
    model = leukonca.load(out)
    count = sum(value.numel() for value in released().values())
    assert capsys.readouterr().out == (
        f"{out}: {count:,} parameters, 13 classes, normalisation: {normalisation}\n"
    )
    assert model.trained.normalisation == normalisation
    shape = model.trained.network.architecture
    assert (shape.steps, shape.firing, shape.size) == (6, 1.0, 16)


def test_the_paper_is_the_default(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "paper.safetensors"
    assert import_published(checkpoint, "--out", out) == 0
    shape = leukonca.load(out).trained.network.architecture
    assert (shape.steps, shape.firing, shape.size) == (64, 0.5, 64)


def test_mistakes_are_one_line_and_run_no_code(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trace = tmp_path / "out.safetensors", tmp_path / "trace"
    torch.save({**released(), "extra": Hostile(trace)}, tmp_path / "hostile.pth")
    (tmp_path / "empty.pth").touch()
    cases: list[tuple[list[Any], str]] = [
        ([tmp_path / "hostile.pth"], "loading it could run code, which is refused"),
        ([tmp_path / "none.pth"], f"cannot be read ({os.strerror(2)})"),
        ([tmp_path / "empty.pth"], "is empty"),
        ([checkpoint, "--mean", 0.5, 0.5, 0.5], "mean and std belong together"),
        ([checkpoint, "--mean", 0.5, 0.5], "argument --mean: expected 3 arguments"),
        ([checkpoint, "--steps", 0], "steps"),
    ]
    for words, said in cases:
        assert import_published(*words, "--out", out) == 2
        rows, err = capsys.readouterr()
        assert (rows, err.count("\n")) == ("", 1)
        assert said in err
        assert not out.exists()
    assert not trace.exists()
