from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import auto, eager, engine, fused
from leukonca.nca.engines.fused.levels import LEVELS, level_of_this_machine
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

FIRING = Firing(1, torch.tensor([3, 4]), 0.5)


@pytest.fixture
def rule() -> Rule:
    draw = torch.Generator().manual_seed(0)
    made = Rule(8, 12, 3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-0.3, 0.3, generator=draw)
    return made


@pytest.fixture
def state() -> Tensor:
    return torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(auto.VARIABLE, raising=False)
    auto._say_once.cache_clear()
    yield
    auto._say_once.cache_clear()


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    status = fused.Status(LEVELS["portable"], reason="there is no compiler")
    monkeypatch.setattr(fused, "status", lambda: status)


@pytest.mark.usefixtures("compiled")
def test_it_takes_the_fused_engine_and_says_so_once(
    rule: Rule, state: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "leukonca"), torch.no_grad():
        found = [engine("auto")(rule, state, FIRING, 4)[0] for _ in range(2)]
        expected = fused.rollout(rule, state, FIRING, 4)[0]
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], expected)
    assert [record.message for record in caplog.records if "engine:" in record.message] == [
        f"engine: fused (compiled for {level_of_this_machine().name}, products in "
        f"{'bf16' if level_of_this_machine().half else 'float32'})"
    ]


@pytest.mark.usefixtures("missing")
def test_without_it_the_eager_engine_runs_and_the_reason_is_told(
    rule: Rule, state: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "leukonca"):
        for _ in range(2):
            found, _ = engine("auto")(rule, state, FIRING, 4)
    assert torch.equal(found, eager.rollout(rule, state, FIRING, 4)[0])
    assert [record.message for record in caplog.records] == [
        "engine: eager (the fused engine does not run here: there is no compiler)"
    ]


@pytest.mark.usefixtures("missing")
@pytest.mark.parametrize("name", ["fused", "fused_fp32"])
def test_asked_for_by_name_it_is_an_error(name: str, rule: Rule, state: Tensor) -> None:
    with pytest.raises(
        SettingError, match=r"does not run on this machine: there is no compiler; use .*doctor"
    ):
        engine(name)(rule, state, FIRING, 4)  # type: ignore[arg-type]


def test_what_the_fused_engine_does_not_take_runs_on_eager(rule: Rule, state: Tensor) -> None:
    found, _ = engine("auto")(rule.double(), state.double(), FIRING, 3)
    assert found.dtype == torch.float64


def test_the_variable_names_the_engine(rule: Rule, state: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(auto.VARIABLE, "eager")
    assert auto.choose() == ("eager", "LEUKONCA_ENGINE=eager")
    found, _ = engine("auto")(rule, state, FIRING, 4)
    assert torch.equal(found, eager.rollout(rule, state, FIRING, 4)[0])
    monkeypatch.setenv(auto.VARIABLE, "warp")
    with pytest.raises(SettingError, match="LEUKONCA_ENGINE='warp' is unknown; known: auto, eager, fused"):
        engine("auto")(rule, state, FIRING, 4)


@pytest.mark.parametrize(
    ("capability", "features", "level"),
    [
        ("AVX512", {"avx2", "avx512", "avx512_bf16", "amx_tile"}, "amx"),
        ("AVX512", {"avx2", "avx512", "avx512_bf16"}, "avx512_bf16"),
        ("AVX512", {"avx2", "avx512"}, "avx512"),
        ("AVX2", {"avx2", "avx512", "avx512_bf16"}, "avx2"),
        ("DEFAULT", {"avx2", "avx512", "avx512_bf16"}, "portable"),
        ("DEFAULT", set(), "portable"),
    ],
)
def test_the_level_is_what_processor_and_pytorch_allow(
    capability: str, features: set[str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leukonca.nca.engines.fused import levels

    monkeypatch.setattr(levels, "capability", lambda: capability)
    monkeypatch.setattr(levels, "has", features.__contains__)
    monkeypatch.setattr(levels.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(levels.sys, "platform", "linux")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert level_of_this_machine() is LEVELS[level]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert level_of_this_machine() is LEVELS[level]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx512_core_bf16")
    assert level_of_this_machine() is LEVELS["avx512" if level == "amx" else level]
    monkeypatch.setattr(levels.platform, "machine", lambda: "aarch64")
    assert level_of_this_machine() is LEVELS["portable"]
