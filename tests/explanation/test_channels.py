from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from automata import SMALL, VARIANTS, identities, lively, pictures
from torch import nn

from leukonca.errors import SettingError
from leukonca.explanation.channels import explain_channels, rank
from leukonca.explanation.target import Target
from leukonca.nca.architecture import PRESETS

CHOSEN = torch.tensor([0, 1, 4])
TARGET = Target("logit", CHOSEN)


@pytest.mark.parametrize("variant", ["max", "max_mean", "attention"])
def test_relevance_is_that_of_zennit(variant: str, zennit: Any) -> None:
    network = lively(VARIANTS[variant])
    found = explain_channels(network, pictures(3, 16), identities(3), TARGET)
    with torch.no_grad():
        pooled = network.rollout(pictures(3, 16), identities(3)).pooled
    own = pooled.clone().requires_grad_(True)
    composite = zennit.composites.EpsilonPlus(epsilon=1e-6)

    def logit_alone(output: torch.Tensor) -> torch.Tensor:
        return output * nn.functional.one_hot(CHOSEN, output.shape[1])

    with zennit.attribution.Gradient(network.head, composite, attr_output=logit_alone) as attributor:
        _, expected = attributor(own)
    torch.testing.assert_close(found.pooled, expected, rtol=1e-4, atol=1e-7)
    assert float(expected.abs().max()) > 1e-2


def test_epsilon_rule_by_hand() -> None:
    network = lively(SMALL)
    found = explain_channels(network, pictures(3, 16), identities(3), TARGET)
    first, _, second = network.head
    with torch.no_grad():
        pooled = network.rollout(pictures(3, 16), identities(3)).pooled.double().numpy()
    weight, bias = (one.double().numpy() for one in (first.weight, first.bias))
    for cell in range(3):
        hidden = np.maximum(weight @ pooled[cell] + bias, 0)
        row = second.weight[CHOSEN[cell]].double().numpy()
        logit = row @ hidden + float(second.bias[CHOSEN[cell]])
        expected = np.zeros(12)
        for unit in range(8):
            of_unit = logit * row[unit] * hidden[unit] / (logit + 1e-6 * np.sign(logit))
            if hidden[unit] > 0:
                expected += of_unit * weight[unit] * pooled[cell] / (hidden[unit] + 1e-6)
        np.testing.assert_allclose(found.relevance[cell], expected, rtol=1e-3, atol=1e-6)


def test_channels_are_ranked_by_relevance() -> None:
    assert rank(torch.tensor([[0.1, -2.0, 3.0, 0.1]])).tolist() == [[2, 0, 3, 1]]
    found = explain_channels(lively(SMALL), pictures(3, 16), identities(3), TARGET)
    ranked = found.relevance.gather(1, found.order)
    assert torch.equal(ranked, ranked.sort(dim=1, descending=True).values)


def test_a_channel_that_is_pooled_twice_has_the_relevance_of_both() -> None:
    found = explain_channels(lively(VARIANTS["max_mean"]), pictures(3, 16), identities(3), TARGET)
    assert found.pooled.shape == (3, 24)
    torch.testing.assert_close(found.relevance, found.pooled[:, :12] + found.pooled[:, 12:])


def test_relevance_of_the_channels_head_is_the_logit() -> None:
    network = lively(VARIANTS["channels"])
    found = explain_channels(network, pictures(3, 16), identities(3), TARGET)
    expected = torch.zeros(3, 12)
    expected[torch.arange(3), 3 + CHOSEN] = found.value
    torch.testing.assert_close(found.relevance, expected)


def test_maps_are_those_of_the_states() -> None:
    network = lively(SMALL)
    found = explain_channels(network, pictures(3, 16), identities(3), TARGET, top=2, seed=5)
    assert found.steps == (0, 1, 2, 4, 6)
    assert found.maps.shape == (3, 2, 5, 16, 16)
    with torch.no_grad():
        run = network.rollout(pictures(3, 16), identities(3), seed=5, record=frozenset(found.steps))
    for cell in range(3):
        for place in range(2):
            channel = int(found.order[cell, place])
            for number, step in enumerate(found.steps):
                expected = 1 / (1 + torch.exp(5 - run.states[step][cell, channel]))
                torch.testing.assert_close(found.maps[cell, place, number], expected)
            last = run.state[cell, channel].numpy()
            expected_mask = last > np.quantile(last, 0.98)
            np.testing.assert_array_equal(found.masks[cell, place].numpy(), expected_mask)
            assert expected_mask.sum() == 6  # 2 % of 256 sites, rounded up


def test_the_papers_steps_are_those_of_its_model() -> None:
    shape = replace(PRESETS["paper"], size=8, channels=8, hidden=4)
    found = explain_channels(lively(shape), pictures(3, 8), identities(3), TARGET, top=1)
    assert found.steps == (0, 1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top": 0}, "top=0: the automaton has 12 channels"),
        ({"top": 13}, "top=13: the automaton has 12 channels"),
        ({"steps": (-1, 2)}, "steps hold -1"),
        ({"network": nn.Linear(3, 2)}, "a Linear is no cellular automaton"),
        ({"network": lively(replace(SMALL, head="conv"))}, "head='conv'"),
        ({"target": Target("logit", torch.tensor([0]))}, "target of 1 pictures does not fit logits"),
    ],
)
def test_wrong_use_is_said(changes: dict[str, Any], words: str) -> None:
    arguments = {
        "network": lively(SMALL),
        "pictures": pictures(3, 16),
        "images": identities(3),
        "target": TARGET,
        **changes,
    }
    with pytest.raises(SettingError, match=re.escape(words)):
        explain_channels(**arguments)
