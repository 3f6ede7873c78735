from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leukonca.assessment.speed import bench as benching
from leukonca.commands import main
from leukonca.nca.architecture import preset


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[benching.Plan]:
    """The plans that are made; the measurements are made up."""
    found: list[benching.Plan] = []

    def bench(plan: benching.Plan) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        found.append(plan)
        yield "peak", [{"product": "torch", "gflops": 123.4}, {"product": "fused", "left_out": "no compiler"}]
        if plan.rounds == 7:
            raise KeyboardInterrupt
        yield "inference", [{"preset": "tiny", "share_of_torch_peak": 0.5}]

    monkeypatch.setattr(benching, "bench", bench)
    return found


def test_rows_are_shown_and_kept(
    plans: list[benching.Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "bench.json"
    assert main(["bench", "--out", str(out), "--threads", "3"]) == 0
    assert plans == [benching.Plan(threads=3)]
    shown = capsys.readouterr().out
    assert "product  gflops\n  torch   123.4\n  fused        \nleft out: no compiler\n" in shown
    assert "preset  share of torch peak\n" in shown
    kept = json.loads(out.read_text())
    assert kept["finished"] is True
    assert kept["machine"]["threads"] == 3
    assert kept["presets"]["tiny"] == preset("tiny").to_dict()
    assert {part: len(rows) for part, rows in kept["parts"].items()} == {"peak": 2, "inference": 1}


def test_an_interruption_loses_only_what_was_not_finished(
    plans: list[benching.Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "--out", str(out), "--rounds", "7"]) == 130
    assert capsys.readouterr().err == f"leukonca: interrupted; 2 rows are finished and in {out}\n"
    kept = json.loads(out.read_text())
    assert kept["finished"] is False
    assert list(kept["parts"]) == ["peak"]


def test_quick_and_only_choose_the_parts(plans: list[benching.Plan]) -> None:
    for words in (["--quick"], ["--quick", "--only", "memory"], ["--only", "scaling", "peak"]):
        assert main(["bench", *words]) == 0
    quick, memory, some = plans
    assert (quick.parts, quick.rounds, quick.quick) == (("peak", "inference", "training"), 2, True)
    assert memory.parts == ("memory",)
    assert (some.parts, some.rounds) == (("peak", "scaling"), 5)


def test_wrong_use_is_said_before_the_work(
    plans: list[benching.Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["--presets", "tyni"], "presets: tyni; known: paper, base, tiny"),
        (["--only", "speed"], "--only: invalid choice: 'speed'"),
        (["--out", str(tmp_path)], f"--out {tmp_path}: cannot be written: is a folder"),
    ):
        assert main(["bench", *words]) == 2
        assert said in capsys.readouterr().err
    assert plans == []
