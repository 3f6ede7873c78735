from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leukonca.explanation.rules import maximum_shares, relu_slope, scale_of, stabilised
from reference import relevance as reference


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_relu_slope_carries_the_difference_over() -> None:
    value, before = draw(200), draw(200, seed=1)
    slope = relu_slope(value, before)
    torch.testing.assert_close(slope * (value - before), value.relu() - before.relu())
    assert bool(((slope >= 0) & (slope <= 1)).all())


def test_relu_slope_is_the_derivative_without_or_at_the_reference() -> None:
    value = torch.tensor([-1.0, 2.0, 0.0])
    assert relu_slope(value, None).tolist() == [0, 1, 0]
    assert relu_slope(value, value.clone()).tolist() == [0, 1, 0]


def test_relu_slope_of_neighbours_is_not_lost_in_rounding() -> None:
    # Differences far below the precision of the values, and one across zero.
    value = torch.tensor([1.0 + 2**-23, -1.0, 1e-30, -1e-9])
    before = torch.tensor([1.0, -1.0 - 2**-23, -1e-30, 3e-9])
    torch.testing.assert_close(relu_slope(value, before), torch.tensor([1.0, 0.0, 0.5, 0.75]))


def test_epsilon_takes_the_share_that_it_has_in_the_sum() -> None:
    multiplier, value = torch.tensor([[2.0, 2.0, 2.0]]), torch.tensor([[3.0, -1.0, 0.0]])
    damped, lost = stabilised(multiplier, value, 1.0)
    torch.testing.assert_close(damped, torch.tensor([[2 * 3 / 4, 2 * 1 / 2, 0.0]]))
    torch.testing.assert_close(lost, torch.tensor([2 * 3 / 4 - 2 * 1 / 2]))


def test_without_epsilon_nothing_is_taken() -> None:
    multiplier, value = torch.tensor([[2.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    damped, lost = stabilised(multiplier, value, 0.0)
    assert torch.equal(damped, multiplier)
    assert lost.tolist() == [0]


def test_scale_is_that_of_each_picture() -> None:
    values = torch.tensor([[[3.0, 4.0]], [[1.0, -1.0]]])
    torch.testing.assert_close(scale_of(values).flatten(), torch.tensor([12.5**0.5, 1.0]))


@given(seed=st.integers(0, 10_000), places=st.integers(1, 6), ties=st.booleans())
def test_maximum_is_shared_as_long_as_each_place_holds_it(seed: int, places: int, ties: bool) -> None:
    numbers = np.random.default_rng(seed)
    value, before = numbers.normal(size=(2, places))
    if ties:
        value, before = np.round(value), np.round(before)
    shares = maximum_shares(*(torch.from_numpy(one)[None, None] for one in (value, before)))[0, 0].numpy()
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    assert shares @ (value - before) == pytest.approx(value.max() - before.max(), abs=1e-12)
    if not ties:
        np.testing.assert_allclose(shares, reference.maximum_shares(value, before), atol=1e-12)


def test_without_reference_the_winner_takes_all() -> None:
    assert maximum_shares(torch.tensor([[[1.0, 3.0, 2.0]]]), None).tolist() == [[[0, 1, 0]]]


def test_maxima_of_a_batch_are_shared_one_by_one() -> None:
    value, before = draw(3, 4, 50), draw(3, 4, 50, seed=1)
    together = maximum_shares(value, before)
    for row in range(3):
        for channel in range(4):
            one = np.s_[row, channel]
            expected = reference.maximum_shares(value[one].numpy(), before[one].numpy())
            np.testing.assert_allclose(together[one].numpy(), expected, atol=1e-12)
