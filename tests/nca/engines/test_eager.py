from __future__ import annotations

import pytest
import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import eager, engine
from leukonca.nca.firing import Firing, fires
from leukonca.nca.rule import Rule


def lively(channels: int = 8, hidden: int = 12) -> Rule:
    draw = torch.Generator().manual_seed(0)
    rule = Rule(channels, hidden, 3)
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.uniform_(-0.3, 0.3, generator=draw)
    return rule


def start(batch: int = 3, channels: int = 8, rows: int = 6, columns: int = 9) -> Tensor:
    state = torch.zeros(batch, channels, rows, columns)
    state[:, :3] = torch.randn(batch, 3, rows, columns, generator=torch.Generator().manual_seed(1))
    return state


FIRING = Firing(7, torch.tensor([1, 2**40, 3]), 0.5)


@pytest.mark.parametrize("recompute", [False, True])
def test_rollout_is_the_rule_step_by_step(recompute: bool) -> None:
    rule, state = lively(), start()
    last, kept = eager.rollout(
        rule, state, FIRING, 10, record=frozenset({0, 1, 3, 4, 10, 99}), recompute=recompute
    )
    expected = {0: state}
    for step in range(10):
        expected[step + 1] = rule(expected[step], fires(FIRING, step, 6, 9))
    assert kept.keys() == {0, 1, 3, 4, 10}
    for step, found in kept.items():
        torch.testing.assert_close(found, expected[step], rtol=0, atol=1e-5)
    assert torch.equal(last, kept[10])
    assert torch.equal(state, start())


@pytest.mark.parametrize("steps", [1, 2, 7, 16])
@pytest.mark.parametrize("record", [frozenset(), frozenset({0, 3, 5, 16})])
def test_recomputation_changes_neither_state_nor_gradients(steps: int, record: frozenset[int]) -> None:
    results = []
    for recompute in (False, True):
        rule, state = lively(), start().requires_grad_()
        last, kept = eager.rollout(rule, state, FIRING, steps, record=record, recompute=recompute)
        (last.square().sum() + sum(value.sum() for value in kept.values())).backward()
        results.append([last, state.grad, *(parameter.grad for parameter in rule.parameters())])
    for stored, recomputed in zip(*results, strict=True):
        assert torch.equal(stored, recomputed)


def stored_bytes(rule: Rule, steps: int, *, recompute: bool | None) -> int:
    """Bytes of distinct memory that the forward pass keeps for the backward pass."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        # Kept alive, so that no address is used twice.
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        eager.rollout(rule, start(rows=32, columns=32), FIRING, steps, recompute=recompute)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_recomputation_saves_memory() -> None:
    rule = lively()
    assert stored_bytes(rule, 36, recompute=True) < stored_bytes(rule, 36, recompute=False) / 5


def test_recomputation_is_chosen_where_storing_would_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = lively()
    assert stored_bytes(rule, 16, recompute=None) == stored_bytes(rule, 16, recompute=False)
    monkeypatch.setattr(eager, "_STORE_LIMIT_BYTES", 2**20)
    assert stored_bytes(rule, 16, recompute=None) == stored_bytes(rule, 16, recompute=True)


def test_backward_pass_stays_small_too() -> None:
    """While going backwards, only a part of the steps is stored at a time."""
    rule = lively()
    live, peak = 0, 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal live, peak
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            live += self.size
            peak = max(peak, live)

        def __del__(self) -> None:
            nonlocal live
            live -= self.size

    peaks = []
    for recompute in (False, True):
        live = peak = 0
        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
            last, _ = eager.rollout(rule, start(rows=32, columns=32), FIRING, 36, recompute=recompute)
            last.sum().backward()
        del last
        peaks.append(peak)
    assert peaks[1] < peaks[0] / 2.5


def test_engines_are_found_by_name() -> None:
    assert engine("eager") is eager.rollout
    with pytest.raises(SettingError, match="engine 'warp' is unknown; known: auto, eager, fused"):
        engine("warp")  # type: ignore[arg-type]


@pytest.mark.parametrize("recompute", [False, True])
def test_a_rollout_can_go_on_from_where_another_ended(recompute: bool) -> None:
    rule, state = lively(), start()
    whole, kept = eager.rollout(rule, state, FIRING, 11, record=frozenset({5, 7, 11}))
    half, _ = eager.rollout(rule, state, FIRING, 5)
    rest, found = eager.rollout(
        rule, half, FIRING, 6, first=5, record=frozenset({0, 3, 5, 7, 11, 12}), recompute=recompute
    )
    torch.testing.assert_close(rest, whole, rtol=0, atol=1e-6)
    assert found.keys() == {5, 7, 11}
    for step, value in kept.items():
        torch.testing.assert_close(found[step], value, rtol=0, atol=1e-6)
