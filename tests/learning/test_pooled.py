from __future__ import annotations

import math

import numpy as np
import pytest

from leukonca.errors import ModelError
from leukonca.learning.pooled import PooledStatistics, shrunk

SOURCE = PooledStatistics(np.linspace(-3, 5, 40), np.linspace(0.5, 2, 40))


def sample(cells: int, moved: float = 0.0, stretched: float = 1.0, seed: int = 0) -> PooledStatistics:
    """Statistics of Gaussian cells, by so many spreads away from those at home."""
    drawn = np.random.default_rng(seed).normal(size=(cells, 40))
    return PooledStatistics.of((drawn * stretched + moved) * SOURCE.spread + SOURCE.mean)


def distance(found: PooledStatistics, moved: float, stretched: float) -> float:
    """Mean squared distance of mean and logarithmic spread from the truth, in spreads of the source."""
    means = (found.mean - SOURCE.mean) / SOURCE.spread - moved
    return float(np.mean(means**2) + np.mean(np.log(found.spread / SOURCE.spread / stretched) ** 2))


def test_statistics_are_over_all_but_the_features() -> None:
    features = np.random.default_rng(1).normal(size=(3, 5, 4))
    found = PooledStatistics.of(features)
    rows = [features[view, cell] for view in range(3) for cell in range(5)]
    np.testing.assert_allclose(found.mean, np.mean(rows, axis=0))
    np.testing.assert_allclose(found.spread, np.std(rows, axis=0))
    standardised = found.standardised(features)
    np.testing.assert_allclose(standardised.mean((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose(standardised.std((0, 1)), 1)


def test_a_feature_that_never_varies_can_be_standardised() -> None:
    found = PooledStatistics.of(np.ones((4, 2)))
    np.testing.assert_array_equal(found.standardised(np.ones((4, 2))), 0)


@pytest.mark.parametrize("cells", [2, 5, 20, 200])
def test_cells_of_the_same_laboratory_change_little(cells: int) -> None:
    measured = sample(cells)
    assert distance(shrunk(SOURCE, measured, cells), 0, 1) < 0.4 * distance(measured, 0, 1)


@pytest.mark.parametrize("cells", [5, 20, 200])
def test_a_far_laboratory_is_believed(cells: int) -> None:
    found = shrunk(SOURCE, sample(cells, moved=6, stretched=2.5), cells)
    assert distance(found, 6, 2.5) < 0.05 * distance(SOURCE, 6, 2.5)


def test_more_cells_are_believed_more() -> None:
    shares = []
    for cells in (2, 10, 1000):
        measured = PooledStatistics(SOURCE.mean + 0.5 * SOURCE.spread, SOURCE.spread * 1.2)
        found = shrunk(SOURCE, measured, cells)
        shares.append((found.mean - SOURCE.mean) / (measured.mean - SOURCE.mean))
        # Found by hand for the mean: 1 - (1.2² / n) / 0.5², and not below 0.
        np.testing.assert_allclose(shares[-1], max(0, 1 - 1.44 / cells / 0.25))
    assert shares[0].max() < shares[1].min() < shares[2].min()


def test_a_single_cell_has_a_place_and_no_spread() -> None:
    measured = PooledStatistics(SOURCE.mean + 7 * SOURCE.spread, np.zeros(40))
    found = shrunk(SOURCE, measured, 1)
    np.testing.assert_allclose(found.spread, SOURCE.spread)
    np.testing.assert_allclose((found.mean - SOURCE.mean) / SOURCE.spread, 7 * (1 - 1 / 49))


def test_the_same_statistics_stay() -> None:
    found = shrunk(SOURCE, SOURCE, 50)
    np.testing.assert_array_equal(found.mean, SOURCE.mean)
    np.testing.assert_allclose(found.spread, SOURCE.spread)


@pytest.mark.parametrize(
    ("mean", "spread", "said"),
    [
        ([1.0, 2.0], [1.0], "do not fit"),
        ([[1.0]], [[1.0]], "do not fit"),
        ([math.nan], [1.0], "not finite"),
        ([1.0], [math.inf], "not finite"),
    ],
)
def test_impossible_statistics_are_refused(mean: list[float], spread: list[float], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        PooledStatistics(np.array(mean), np.array(spread))
