from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from leukonca.assessment.speed import bench as benching
from leukonca.assessment.speed import memory, scaling
from leukonca.assessment.speed.bench import Plan, bench
from leukonca.assessment.speed.contenders import Case
from leukonca.errors import SettingError
from leukonca.learning import baselines
from leukonca.learning.shapes import BASELINES
from leukonca.nca.engines import fused
from leukonca.nca.engines.fused.levels import LEVELS


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is built; one picture; moments instead of seconds."""
    monkeypatch.setattr(fused, "status", lambda: fused.Status(LEVELS["avx2"], reason="there is no compiler"))
    monkeypatch.setattr(benching, "_QUICK_BATCHES", {"tiny": (1,)})
    monkeypatch.setattr(Plan, "least", 0.0)


def rows_of(*parts: benching.Part, **options: Any) -> list[dict[str, Any]]:
    plan = Plan(parts, presets=("tiny",), rounds=1, threads=1, quick=True, **options)
    return [row for _, rows in bench(plan) for row in rows]


def test_automata_are_compared_with_the_straightforward_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "torch_peak", lambda kind, seconds: 1e12)
    torch.set_num_threads(1)
    found = list(bench(Plan(("peak", "inference", "training"), ("tiny",), 1, 1, quick=True)))
    assert [part for part, _ in found] == ["peak", "inference", "training"]
    assert found[0][1] == [
        {"product": "torch", "precision": "float32", "gflops": 1000.0},
        {"product": "torch", "precision": "bfloat16", "gflops": 1000.0},
    ]
    for _, rows in found[1:]:
        first, eager, *others = rows
        assert (first["contender"], eager["contender"]) == ("straightforward", "eager")
        assert first["ratio"] == first["processor_ratio"] == 1.0
        # A batch of one, so that the ratio is that of the speeds.
        assert eager["ratio"] == pytest.approx(
            eager["cells_per_second"] / first["cells_per_second"], rel=1e-2, abs=1e-2
        )
        assert eager["share_of_torch_peak"] == pytest.approx(eager["gflops"] / 1000, abs=1e-3)
        assert [row["left_out"] for row in others] == [
            "the fused engine does not run here: there is no compiler"
        ] * 2


def test_memory_is_compared_and_what_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(case: Case, batches: tuple[int, int], threads: int) -> float:
        if case.task == "training" and case.contender == "eager":
            raise MemoryError("the process was ended by signal 9")
        return {"straightforward": 8e6, "eager": 2e6}[case.contender]

    monkeypatch.setattr(benching, "bytes_for_a_picture", measured)
    rows = {(row["task"], row["contender"]): row for row in rows_of("memory")}
    assert rows["inference", "eager"]["megabytes_per_picture"] == 2.0
    assert rows["inference", "eager"]["ratio"] == 4.0
    assert "ended: the process was ended by signal 9" in rows["training", "eager"]["left_out"]
    monkeypatch.setattr(benching, "available_bytes", lambda: 1000)
    assert all("not enough memory" in row["left_out"] for row in rows_of("memory")[:2])
    assert all("not enough memory" in row["left_out"] for row in rows_of("inference")[:2])


def test_peak_memory_is_that_of_a_process_of_its_own() -> None:
    case = Case("eager", "tiny", "inference")
    assert 50e6 < memory.peak_bytes(case, 1, 1) < 2e9
    assert memory._own_peak() > 50e6


def test_a_process_that_gets_no_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "executable", shutil.which("false"))
    with pytest.raises(MemoryError, match="exit code 1"):
        memory.bytes_for_a_picture(Case("eager", "tiny", "inference"), (1, 2), 1)


def test_without_monai_its_networks_are_left_out_and_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    rows = rows_of("networks")
    assert [row["network"] for row in rows] == list(BASELINES)
    assert all("pip install 'leukonca[baselines]'" in row["left_out"] for row in rows)


def test_networks_are_measured_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the networks themselves replaced: they are built and run in the tests of the baselines."""
    monkeypatch.setattr(benching, "require_monai", lambda kind: None)
    monkeypatch.setattr(benching, "missing", lambda contender: "there is no compiler")
    monkeypatch.setattr(benching, "job", lambda case, batch: lambda: None)
    rows = rows_of("networks")
    assert (
        len({(row["network"], row["pixels"], row["task"], row["precision"]) for row in rows})
        == len(rows)
        == 48
    )
    assert {(row["pixels"], row["batch"]) for row in rows} == {(64, 16), (128, 16), (224, 8)}


def test_scaling_covers_every_size_with_one_and_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_FEW_SIDES", (4, 8))
    monkeypatch.setattr(scaling, "_FEW_STEPS", (2, 3))
    runs = []
    monkeypatch.setattr(scaling, "_rollout", lambda *size: lambda: runs.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    rows = [row for rows in scaling.scaling(1, 2, quick=True) for row in rows]
    torch.set_num_threads(before)
    sizes = [(row["threads"], row["sites_a_side"], row["steps"], row["pictures"]) for row in rows]
    assert sizes == [
        (threads, *size)
        for threads in (1, 2)
        for size in ((4, 2, 1), (4, 3, 1), (8, 2, 1), (8, 3, 1), (32, 16, 4))
    ]
    assert set(runs) == {1, 2}
    for row in rows:
        work = row["sites_a_side"] ** 2 * row["steps"] * row["pictures"]
        assert row["nanoseconds_per_site_and_step"] == pytest.approx(
            1e9 * row["seconds"] / work, rel=1e-2, abs=1e-2
        )


def test_scaling_runs_rollouts_without_drawing_from_the_stream() -> None:
    state = torch.random.get_rng_state()
    scaling._rollout(4, 2, 1)()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ("speed",)}, "parts: speed; known: peak, inference"),
        ({"presets": ()}, "presets: none; known: paper, base, tiny"),
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"threads": 0}, "threads=0 must be at least 1"),
    ],
)
def test_an_impossible_plan_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Plan(**options)
