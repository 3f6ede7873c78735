from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from leukonca.learning.restraint import growth


def test_growth_is_of_the_channels_that_the_rule_has_grown() -> None:
    state = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    grown = state[:, 2:].numpy().astype(np.float64)
    for bound in (1.0, 3.0):
        expected = np.log(1 + (grown**2).mean() / bound**2)
        assert float(growth(state, 2, bound)) == pytest.approx(expected, rel=1e-6)
    state[:, :2] = 1e9  # the picture is what it is
    assert float(growth(state, 2, bound)) == pytest.approx(expected, rel=1e-6)
    assert float(growth(torch.zeros(1, 5, 2, 2), 2, 1.0)) == 0


def test_each_doubling_of_a_large_state_costs_the_same() -> None:
    state = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1)) * 1e3
    steps = np.diff([float(growth(state * 2**doublings, 1, 3.0)) for doublings in range(4)])
    np.testing.assert_allclose(steps, 2 * math.log(2), rtol=1e-4)


def test_a_state_well_below_the_bound_costs_next_to_nothing() -> None:
    state = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    assert 0 < float(growth(state, 1, 30.0)) < 0.002
