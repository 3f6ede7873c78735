from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leukonca.errors import DataError, SettingError
from leukonca.learning.statistics import SMALLEST_SPREAD, InputStatistics, input_statistics, normalise


def pictures(count: int = 12, side: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def batch() -> torch.Tensor:
    return torch.from_numpy(pictures(5)).permute(0, 3, 1, 2).float() / 255


def test_statistics_are_mean_and_population_spread() -> None:
    cells = pictures()
    statistics = input_statistics(iter([cells]))
    np.testing.assert_allclose(statistics.mean, (cells / 255).mean((0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(statistics.std, (cells / 255).std((0, 1, 2)), rtol=1e-13)


@given(st.permutations(range(12)), st.integers(1, 12))
def test_neither_order_nor_blocks_change_a_bit(order: list[int], step: int) -> None:
    cells = pictures()
    shuffled = cells[order]
    blocks = (shuffled[start : start + step] for start in range(0, 12, step))
    assert input_statistics(blocks) == input_statistics([cells])


def test_a_tiny_spread_far_from_zero_is_exact() -> None:
    cells = np.full((1, 100, 100, 3), 255, dtype=np.uint8)
    cells[0, 0, 0] = 254
    assert input_statistics([cells] * 50).std[0] == pytest.approx(
        math.sqrt(1e-4 * (1 - 1e-4)) / 255, rel=1e-13
    )


def test_blocks_may_differ_in_size() -> None:
    small, large = pictures(3, 4), pictures(2, 7, seed=1)
    every = np.concatenate([small.reshape(-1, 3), large.reshape(-1, 3)]) / 255
    np.testing.assert_allclose(input_statistics([small, large]).std, every.std(0))


def test_statistics_of_the_training_cells_do_not_see_other_rows() -> None:
    # The paper's released code normalises the test set with the test set's own mean and spread.
    cells = pictures()
    training = [0, 2, 3, 7]
    before = input_statistics(cells[row][None] for row in training)
    others = np.setdiff1d(np.arange(12), training)
    cells[others] = 255 - cells[others] // 3
    assert input_statistics(cells[row][None] for row in training) == before
    assert input_statistics([cells]) != before


def test_normalising_the_training_cells_gives_mean_zero_and_spread_one() -> None:
    cells = pictures()
    light = torch.from_numpy(cells).permute(0, 3, 1, 2).float() / 255
    result = normalise(light, "training", input_statistics([cells]))
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3))


def test_normalising_by_picture_takes_light_and_tint_away() -> None:
    light = batch()
    result = normalise(light, "picture")
    torch.testing.assert_close(result.mean((2, 3)), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((2, 3), correction=0), torch.ones(5, 3))
    tinted = light * torch.tensor([0.9, 0.5, 0.7])[:, None, None] + 0.1
    torch.testing.assert_close(normalise(tinted, "picture"), result, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["training", "picture", "none"])
def test_a_picture_does_not_depend_on_its_batch(mode) -> None:
    light = batch()
    statistics = InputStatistics((0.7, 0.6, 0.7), (0.2, 0.3, 0.1))
    together = normalise(light, mode, statistics)
    for place in range(len(light)):
        assert torch.equal(normalise(light[place : place + 1], mode, statistics)[0], together[place])


def test_none_is_the_batch_itself() -> None:
    light = batch()
    assert normalise(light, "none") is light


def test_an_even_picture_becomes_zero_and_rounding_is_not_blown_up() -> None:
    even = torch.full((1, 3, 4, 4), 0.5)
    assert torch.equal(normalise(even, "picture"), torch.zeros(1, 3, 4, 4))
    statistics = InputStatistics((0.5, 0.5, 0.5), (0.0, 0.0, 0.0))
    assert torch.equal(normalise(even, "training", statistics), torch.zeros(1, 3, 4, 4))
    nearly = even + SMALLEST_SPREAD / 10 * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert normalise(nearly, "picture").abs().max() < 0.5


def test_statistics_survive_json() -> None:
    statistics = input_statistics([pictures()])
    assert InputStatistics(**json.loads(json.dumps(dataclasses.asdict(statistics)))) == statistics


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.1, 0.2), (1, 1, 1)),
        ((0, 0, 0), (1, -1, 1)),
        ((0, math.nan, 0), (1, 1, 1)),
        ((0,) * 3, (math.inf,) * 3),
    ],
)
def test_statistics_that_are_none_are_refused(mean, std) -> None:
    with pytest.raises(SettingError, match="three finite numbers"):
        InputStatistics(mean, std)


def test_mistakes_are_refused() -> None:
    with pytest.raises(DataError, match="no training pictures"):
        input_statistics([])
    with pytest.raises(ValueError, match="uint8"):
        input_statistics([pictures().astype(np.float32)])  # type: ignore[list-item]
    with pytest.raises(SettingError, match="needs the statistics"):
        normalise(batch(), "training")
    with pytest.raises(SettingError, match=r"'target'.*training, picture, none"):
        normalise(batch(), "target")  # type: ignore[arg-type]
