from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from leukonca.learning.optimizers import MuonWithAdamW, make_optimizer
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier


def network() -> CellClassifier:
    torch.manual_seed(3)
    automaton = CellClassifier(
        Architecture(size=8, channels=6, hidden=10, steps=2, pooling="max_mean", head_hidden=5), 4
    )
    automaton.rule.stir()
    return automaton


def with_gradients(automaton: CellClassifier, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for parameter in automaton.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return {name: parameter.detach().clone() for name, parameter in automaton.named_parameters()}


MATRICES = ("rule.hidden_weight", "rule.update_weight")


def test_matrices_of_the_rule_step_in_all_directions_alike() -> None:
    automaton = network()
    optimizer = MuonWithAdamW(automaton, 0.01, 0.0)
    before = with_gradients(automaton)
    optimizer.step()
    for name in MATRICES:
        step = dict(automaton.named_parameters())[name].detach() - before[name]
        # As large as Liu et al. (2025), equation 4, and as orthogonal as five iterations in bfloat16 make it.
        strengths = torch.linalg.svdvals(step) / (0.2 * 0.01 * max(step.shape) ** 0.5)
        assert strengths.min() > 0.5
        assert strengths.max() < 1.5


def test_all_else_steps_as_with_adamw() -> None:
    automaton, other = network(), network()
    optimizer, reference = MuonWithAdamW(automaton, 0.01, 0.1), torch.optim.AdamW(other.parameters(), 0.01)
    reference.param_groups[0]["weight_decay"] = 0.1
    for seed in range(3):
        with_gradients(automaton, seed)
        with_gradients(other, seed)
        optimizer.step()
        reference.step()
    expected = dict(other.named_parameters())
    for name, parameter in automaton.named_parameters():
        assert torch.equal(parameter, expected[name]) == (name not in MATRICES), name


def test_a_schedule_reaches_both() -> None:
    automaton = network()
    optimizer = MuonWithAdamW(automaton, 0.01, 0.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = with_gradients(automaton)
    optimizer.step()
    for name, parameter in automaton.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_its_state_is_kept_and_taken_back() -> None:
    automaton, other = network(), network()
    one, two = MuonWithAdamW(automaton, 0.01, 0.1), MuonWithAdamW(other, 0.02, 0.1)
    with_gradients(automaton)
    one.step()
    other.load_state_dict(automaton.state_dict())
    two.load_state_dict(copy.deepcopy(one.state_dict()))  # which PyTorch would share
    assert [group["lr"] for group in two.param_groups] == [0.01, 0.01]
    for group in two.param_groups:
        group["lr"] = 0.03
    for group in one.param_groups:
        group["lr"] = 0.03
    for automaton_, optimizer in ((automaton, one), (other, two)):
        with_gradients(automaton_, 1)
        optimizer.step()
    for name, parameter in automaton.named_parameters():
        assert torch.equal(parameter, dict(other.named_parameters())[name]), name


def test_a_closure_is_called_with_gradients() -> None:
    automaton = network()

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        with_gradients(automaton)
        return torch.tensor(2.5)

    assert MuonWithAdamW(automaton, 0.01, 0.0).step(closure) == 2.5


def test_only_an_automaton_has_a_rule_for_muon() -> None:
    with pytest.raises(ValueError, match="no optimizer 'muon' for a Linear"):
        make_optimizer("muon", nn.Linear(2, 2), 0.01, 0.0)
