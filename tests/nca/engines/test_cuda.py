"""The engine for CUDA devices. Its steps run anywhere; the tests at the end need a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import cuda, eager, engine
from leukonca.nca.firing import Firing, fires, fires_by_step
from leukonca.nca.rule import Rule

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def lively(channels: int, hidden: int) -> Rule:
    draw = torch.Generator().manual_seed(0)
    rule = Rule(channels, hidden, 3)
    with torch.no_grad():
        for parameter in rule.parameters():
            fan_in = parameter.shape[-1] if parameter.dim() == 2 else 9
            parameter.uniform_(-1, 1, generator=draw).mul_(0.8 * fan_in**-0.5)
    return rule


def start() -> Tensor:
    return 0.5 * torch.randn(3, 10, 7, 12, generator=torch.Generator().manual_seed(1))


FIRING = Firing(2**40 + 7, torch.tensor([1, 2**50, -1 & (2**63 - 1)]), 0.4)
SPAN = range(3, 12)


def run(
    step: Callable[..., Tensor], kind: torch.dtype, rule: Rule, state: Tensor, *, recompute: bool
) -> tuple[Tensor, dict[int, Tensor]]:
    record = frozenset({3, 5, 12, 13})
    return cuda._rollout(step, kind, rule, state, FIRING, SPAN, record, recompute=recompute)


def results(made: tuple[Tensor, dict[int, Tensor]], rule: Rule, leaf: Tensor) -> list[Any]:
    last, kept = made
    rule.zero_grad()
    (last.square().sum() + sum(value.sum() for value in kept.values())).backward()
    return [sorted(kept), last.detach(), leaf.grad, *(one.grad for one in rule.parameters())]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_its_steps_are_those_of_the_definition(kind: torch.dtype, tolerance: float, recompute: bool) -> None:
    rule, leaf, other = lively(10, 14), start().requires_grad_(), start().requires_grad_()
    expected = eager.rollout(rule, leaf, FIRING, 9, first=3, record=frozenset({3, 5, 12, 13}))
    steps, *wanted = results(expected, rule, leaf)
    with torch.autocast("cpu", torch.bfloat16):
        made = run(cuda._step, kind, rule, other, recompute=recompute)
    names, *found = results(made, rule, other)
    assert names == steps == [3, 5, 12]
    for one, value in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert (one - value).norm() < tolerance * value.norm()


def test_a_step_is_one_graph_for_all_steps() -> None:
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    step = torch.compile(cuda._step, fullgraph=True, backend=backend, dynamic=False)
    rule = lively(10, 14)
    with torch.no_grad():
        found, _ = run(step, torch.float32, rule, start(), recompute=False)
        expected, _ = run(cuda._step, torch.float32, rule, start(), recompute=False)
    torch.compiler.reset()
    assert torch.equal(found, expected)
    assert len(graphs) == 1


def test_the_firing_of_many_steps_at_once_is_that_of_each() -> None:
    for step, by_step in zip(SPAN, FIRING.by_step(FIRING.keys(), SPAN), strict=True):
        assert torch.equal(fires_by_step(by_step, 7, 12, FIRING.threshold), fires(FIRING, step, 7, 12))


def test_a_state_elsewhere_is_refused() -> None:
    with pytest.raises(SettingError, match=r"takes float32 on a CUDA device, not torch\.float32 on cpu; use"):
        engine("cuda")(lively(10, 14), start(), FIRING, 2)


@needs_cuda
@pytest.mark.parametrize("half", [False, True])
def test_on_a_device_it_is_the_eager_engine(half: bool) -> None:
    firing = Firing(FIRING.seed, FIRING.images.cuda(), FIRING.probability)
    rule, leaf, other = (
        lively(10, 14).cuda(),
        start().cuda().requires_grad_(),
        start().cuda().requires_grad_(),
    )
    _, *wanted = results(eager.rollout(rule, leaf, firing, 9), rule, leaf)
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        made = engine("cuda")(rule, other, firing, 9, recompute=True)
    _, *found = results(made, rule, other)
    for one, value in zip(found, wanted, strict=True):
        assert (one - value).norm() < (3e-2 if half else 2e-3) * value.norm()


@needs_cuda
def test_auto_takes_it_for_states_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEUKONCA_ENGINE", raising=False)
    calls = []

    def noted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return eager.rollout(*arguments, **options)

    monkeypatch.setattr(cuda, "rollout", noted)
    firing = Firing(FIRING.seed, FIRING.images.cuda(), FIRING.probability)
    engine("auto")(lively(10, 14).cuda(), start().cuda(), firing, 2)
    monkeypatch.setenv("LEUKONCA_ENGINE", "eager")
    engine("auto")(lively(10, 14).cuda(), start().cuda(), firing, 2)
    assert len(calls) == 1
