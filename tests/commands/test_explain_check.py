from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import runs
from explanation.proofs import write_bcisc, write_plain
from leukonca.commands import explain_check, main
from leukonca.explanation.proof import methods
from leukonca.explanation.proof.check import PARTS


def run(*words: object) -> int:
    return main(["explain-check", str(runs.run().folder), *map(str, words)])


def test_the_command_knows_the_parts() -> None:
    assert explain_check._PARTS == PARTS


def test_what_was_done_is_said_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, out = write_plain(tmp_path / "cells", 2), tmp_path / "new" / "out"
    words = ("--data", spec, "--out", out, "--cells", 2, "--seeds", 1, "--resamples", 20)
    assert run(*words, "--only", "sanity", "completeness") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["completeness", "sanity", "page", "figures"]
    kept = json.loads((out / "explain-check.json").read_text(encoding="utf-8"))
    assert (kept["finished"], list(kept["parts"])) == (True, ["completeness", "sanity"])
    assert kept["sizes"]["cells"] == 2
    assert (out / "explain-check.html").is_file()


def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = write_plain(tmp_path / "cells", 2), tmp_path / "out"
    words = ("--data", spec, "--out", out, "--cells", 2, "--seeds", 1, "--only", "completeness", "sanity")
    real, broken = methods.gradient_times_input, True

    def stopped(*args: Any, **options: Any) -> Any:
        if broken:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(methods, "gradient_times_input", stopped)
    assert run(*words) == 130
    said = capsys.readouterr().err
    assert f"interrupted; what is done is kept in {out}; the same command goes on" in said
    half = json.loads((out / "explain-check.json").read_text(encoding="utf-8"))
    assert (half["finished"], list(half["parts"])) == (False, ["completeness"])
    assert "not finished" in (out / "explain-check.html").read_text(encoding="utf-8")
    broken = False
    assert run(*words) == 0
    done = json.loads((out / "explain-check.json").read_text(encoding="utf-8"))
    assert done["finished"] is True
    assert done["parts"]["completeness"] == half["parts"]["completeness"]


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, masked = write_plain(tmp_path / "plain", 1), write_bcisc(tmp_path / "masked", 1)
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "masked" / "sub-images" / "masks" / "mono_1-0_0.png").unlink()
    out = ("--out", tmp_path / "out")
    for words, said in (
        (("--data", plain), "arguments are required: out"),
        (out, "arguments are required: data"),
        (("--data", plain, "--out", tmp_path / "file"), "--out"),
        (("--data", plain, *out, "--cells", 0), "cells=0 must be at least 1"),
        (("--data", plain, *out, "--only", "speed"), "--only: invalid choice: 'speed'"),
        (("--data", plain, *out, "--only", "localisation"), "none of the data has masks"),
        (("--data", masked, *out, "--only", "segmentation"), "mono_1-0_0.jpg: has no mask"),
        (("--data", tmp_path / "nowhere", *out), "does not exist"),
    ):
        assert run(*words) == 2, words
        printed = capsys.readouterr()
        assert printed.err.splitlines()[-1].startswith("leukonca: ")
        assert said in printed.err.splitlines()[-1]
