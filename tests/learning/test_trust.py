from __future__ import annotations

import numpy as np
import pytest

from leukonca.errors import ModelError, SettingError
from leukonca.learning.trust import Trust
from reference.trust import prediction_set


def test_sets_hold_what_is_likely_enough() -> None:
    chance = np.random.default_rng(1)
    scores = np.sort(chance.random(50).astype(np.float32))
    probabilities = chance.dirichlet(np.ones(4), 30)
    for coverage in (0.3, 0.9, 0.99):
        expected = [prediction_set(scores.tolist(), row.tolist(), coverage) for row in probabilities]
        found = Trust(1.0, scores).sets(probabilities, coverage)
        assert [np.flatnonzero(row).tolist() for row in found] == expected


def test_a_held_out_cell_keeps_its_own_class_in_the_precision_of_the_file() -> None:
    probabilities = np.array([[1 / 3, 2 / 3], [0.1, 0.9]])
    scores = np.sort((1 - probabilities[:, 0]).astype(np.float32))
    assert Trust(1.0, scores).sets(probabilities, 0.66)[:, 0].tolist() == [True, True]


def test_an_unread_file_has_an_empty_set() -> None:
    for coverage in (0.5, 0.99):
        found = Trust(1.0, np.array([0.5], np.float32)).sets(np.full((1, 3), np.nan), coverage)
        assert not found.any()


def test_impossible_values_are_refused() -> None:
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="temperature"):
            Trust(temperature, np.zeros(1, np.float32))
    for scores in ([], [0.5, 0.4], [1.5], [np.nan], [[0.5]]):
        with pytest.raises(ModelError, match="scores"):
            Trust(1.0, np.array(scores, np.float32))
    with pytest.raises(SettingError, match="coverage"):
        Trust(1.0, np.zeros(1, np.float32)).sets(np.ones((1, 1)), 1.0)
