from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from leukonca.errors import ModelError
from leukonca.learning.familiarity import Familiarity
from reference.trust import mahalanobis


def cells(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes with one oblique covariance."""
    chance = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(0, 1, (5, 5))
    labels = chance.integers(0, 3, count)
    return chance.normal(0, 1, (count, 5)) @ mixing + 6 * np.eye(5)[labels], labels


@pytest.fixture(scope="module")
def known() -> Familiarity:
    return Familiarity.fit(*cells(300, 1), cells(100, 2)[0])


def test_the_distance_is_that_of_mahalanobis_to_the_nearest_class(known: Familiarity) -> None:
    features, labels = cells(300, 1)
    means = [features[labels == k].mean(axis=0) for k in range(3)]
    spread = features.std(axis=0)
    covariance, _ = ledoit_wolf((features - np.array(means)[labels]) / spread, assume_centered=True)
    new, _ = cells(20, 3)
    expected = [mahalanobis(row / spread, [mean / spread for mean in means], covariance) for row in new]
    np.testing.assert_allclose(known.distance(new), expected, rtol=1e-4)


def test_a_feature_counts_in_units_of_its_spread(known: Familiarity) -> None:
    units = np.array([0.1, 1, 3, 20, 2])
    features, labels = cells(300, 1)
    other = Familiarity.fit(features * units, labels, cells(100, 2)[0] * units)
    np.testing.assert_allclose(other.distances, known.distances, rtol=1e-4)


def test_where_another_appearance_leads_is_less_strange(known: Familiarity) -> None:
    features, labels = cells(300, 1)
    chance = np.random.default_rng(5)
    shifts = np.outer(chance.uniform(0, 3, 80), [1.0, 0, 0, 0, -2.0])  # all of them to one side
    means = [features[labels == k].mean(axis=0) for k in range(3)]
    spread = features.std(axis=0)
    covariance, _ = ledoit_wolf((features - np.array(means)[labels]) / spread, assume_centered=True)
    for shift in shifts:
        covariance += 4 * np.outer(shift / spread, shift / spread) / len(shifts)
    tolerant = Familiarity.fit(features, labels, cells(100, 2)[0], shifts)
    new, _ = cells(20, 3)
    expected = [mahalanobis(row / spread, [mean / spread for mean in means], covariance) for row in new]
    np.testing.assert_allclose(tolerant.distance(new), expected, rtol=1e-4)
    elsewhere, other = np.array([[3.0, 0, 0, 0, -6.0]]), np.array([[0, 12.0, 0, 0, 0]])
    moved, away = features[:1] + elsewhere, features[:1] + other
    assert known.of(moved)[0] < tolerant.of(moved)[0]
    assert tolerant.of(away)[0] == 0


def test_familiarity_is_the_share_of_held_out_cells_that_are_as_strange(known: Familiarity) -> None:
    new = np.concatenate([cells(20, 3)[0], 100 * np.ones((1, 5))])
    held_out = known.distance(cells(100, 2)[0])
    expected = [(held_out >= distance).mean() for distance in known.distance(new)]
    np.testing.assert_allclose(known.of(new), expected, atol=1e-9)
    assert known.of(new)[-1] == 0


def test_the_distance_of_several_views_is_the_mean_of_theirs(known: Familiarity) -> None:
    views = np.stack([cells(20, seed)[0] for seed in (3, 4, 5)])
    expected = np.mean([known.distance(view) for view in views], axis=0)
    np.testing.assert_allclose(known.distance(views), expected)
    seen = Familiarity.fit(*cells(300, 1), views)
    np.testing.assert_allclose(seen.distances, np.sort(expected), rtol=1e-6)
    assert (seen.of(views) > 0).all()


def test_a_share_of_the_held_out_cells_is_below_that_share(known: Familiarity) -> None:
    own = known.of(cells(100, 2)[0])
    for share in (0.02, 0.1, 0.5):
        assert share - 0.0101 <= (own < share).mean() <= share
    assert own.min() > 0  # the strangest is as strange as itself
    assert not (own < 0).any()


def test_a_feature_that_never_moved_in_training_makes_no_numbers_overflow() -> None:
    features, labels = cells(300, 1)
    features[:, 2] = 7.0
    known = Familiarity.fit(features, labels, features[:50])
    new = features[:1].copy()
    new[0, 2] += 3
    assert np.isfinite(known.distance(new)).all()
    assert known.of(new)[0] == 0
    still = Familiarity.fit(np.ones((4, 3)), np.array([0, 0, 1, 1]), np.ones((2, 3)))
    assert still.of(np.ones((1, 3)))[0] == 1


def test_a_class_without_training_cells_is_no_class() -> None:
    features, labels = cells(300, 1)
    assert Familiarity.fit(features, np.where(labels == 1, 7, labels), features[:30]).centres.shape == (3, 5)


def test_features_that_are_not_numbers_are_strange(known: Familiarity) -> None:
    assert known.of(np.full((1, 5), np.nan))[0] == 0


@pytest.mark.parametrize(
    ("whitening", "centres", "distances", "message"),
    [
        ((2, 3), (1, 2), [1.0], "do not fit together"),
        ((2, 2), (1, 3), [1.0], "do not fit together"),
        ((2, 2), (0, 2), [1.0], "do not fit together"),
        ((2, 2), (1, 2), [], "do not fit together"),
        ((2, 2), (1, 2), [2.0, 1.0], "not sorted"),
        ((2, 2), (1, 2), [np.nan], "not finite"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    whitening: tuple[int, int], centres: tuple[int, int], distances: list[float], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Familiarity(
            np.ones(whitening, np.float32), np.ones(centres, np.float32), np.array(distances, np.float32)
        )


def test_features_of_another_network_are_refused(known: Familiarity) -> None:
    with pytest.raises(ModelError, match="fitted on 5 features, the network gives 4"):
        known.distance(np.zeros((1, 4)))
