from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leukonca.nca.rule import Rule
from reference import paper


def lively(channels: int = 6, hidden: int = 5, inputs: int = 3) -> Rule:
    """A rule whose every weight is random, also where a new one starts at zero."""
    draw = torch.Generator().manual_seed(0)
    rule = Rule(channels, hidden, inputs).double()
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.uniform_(-1, 1, generator=draw)
    return rule


def example(batch: int = 2, channels: int = 6, rows: int = 5, columns: int = 8) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    state = torch.randn(batch, channels, rows, columns, generator=draw, dtype=torch.float64)
    return state, torch.rand(batch, rows, columns, generator=draw) < 0.5


# The smallest grid has two sites a side: there reflection needs every site.
@pytest.mark.parametrize(("rows", "columns"), [(5, 8), (8, 5), (2, 2), (2, 9)])
def test_step_equals_the_reference(rows: int, columns: int) -> None:
    rule = lively()
    state, fires = example(rows=rows, columns=columns)
    weights = {
        # The reference sees rows and columns swapped, as the released code does.
        "p0.weight": rule.kernel_a.detach().numpy().swapaxes(2, 3),
        "p0.bias": rule.bias_a.detach().numpy(),
        "p1.weight": rule.kernel_b.detach().numpy().swapaxes(2, 3),
        "p1.bias": rule.bias_b.detach().numpy(),
        "fc0.weight": rule.hidden_weight.detach().numpy(),
        "fc0.bias": rule.hidden_bias.detach().numpy(),
        "fc1.weight": rule.update_weight.detach().numpy(),
    }
    with torch.no_grad():
        found = rule(state, fires).permute(0, 2, 3, 1).numpy()
    for place in range(len(state)):
        expected = paper.step(state[place].permute(1, 2, 0).numpy(), fires[place].numpy(), weights)
        np.testing.assert_allclose(found[place], expected, atol=1e-12)


def test_folded_convolution_is_perception_and_first_layer() -> None:
    rule, (state, _) = lively(), example()
    kernel, bias = rule.folded()
    assert kernel.shape == (5, 6, 3, 3)
    folded = F.conv2d(F.pad(state, (1, 1, 1, 1), mode="reflect"), kernel, bias)
    apart = F.conv2d(rule.perceive(state), rule.hidden_weight[:, :, None, None], rule.hidden_bias)
    torch.testing.assert_close(folded, apart)


@pytest.mark.parametrize("inputs", [3, 5])
def test_channels_of_the_picture_never_change(inputs: int) -> None:
    rule, (state, fires) = lively(inputs=inputs), example()
    after = rule(state, fires)
    assert torch.equal(after[:, :inputs], state[:, :inputs])
    assert not torch.equal(after[:, inputs:], state[:, inputs:])


def test_only_firing_sites_change() -> None:
    rule, (state, fires) = lively(), example()
    changed = (rule(state, fires) != state).any(dim=1)
    assert bool((changed <= fires).all())
    assert bool(changed.any())


def test_untrained_rule_leaves_the_state_alone_yet_can_learn() -> None:
    rule = Rule(6, 5, 3).double()
    state, fires = example()
    after = rule(state, fires)
    assert torch.equal(after, state)
    after.square().sum().backward()
    gradient = rule.update_weight.grad
    assert gradient is not None
    assert bool((gradient[3:] != 0).any())
    assert not gradient[:3].any()


def test_number_of_inputs_is_no_weight() -> None:
    assert set(Rule(6, 5, 3).state_dict()) == {
        "kernel_a",
        "bias_a",
        "kernel_b",
        "bias_b",
        "hidden_weight",
        "hidden_bias",
        "update_weight",
    }
