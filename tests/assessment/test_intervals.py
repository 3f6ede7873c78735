from __future__ import annotations

import json
import math

import numpy as np
import pytest

from leukonca.assessment import intervals
from leukonca.assessment.intervals import Estimate, cluster_index, draws, percentile_interval


def all_draws(clusters, resamples, seed=0):
    return np.concatenate(list(draws(clusters, resamples, np.random.default_rng(seed))), axis=1)


def test_every_draw_takes_as_many_cells_as_there_are():
    weights = all_draws(np.arange(30), 200)
    assert weights.shape == (30, 200)
    np.testing.assert_array_equal(weights.sum(axis=0), 30)
    assert weights.mean() == pytest.approx(1.0)
    assert 0.3 < (weights == 0).mean() < 0.43  # 1/e of the cells are not drawn


def test_groups_are_drawn_whole():
    clusters = np.array([0, 0, 1, 2, 2, 2])
    weights = all_draws(clusters, 50)
    for members in ([0, 1], [3, 4, 5]):
        assert (weights[members] == weights[members[0]]).all()
    np.testing.assert_array_equal(weights[[0, 2, 3]].sum(axis=0), 3)


def test_draws_do_not_depend_on_how_they_are_divided(monkeypatch):
    whole = all_draws(np.arange(17), 23)
    monkeypatch.setattr(intervals, "_CHUNK", 17 * 4)
    np.testing.assert_array_equal(whole, all_draws(np.arange(17), 23))


def test_cells_without_a_group_stand_alone():
    assert cluster_index(["b", "", "a", "b", "", "0"]).tolist() == [0, 1, 2, 0, 3, 4]


def test_bounds_are_percentiles_of_the_draws_that_could_tell():
    values = np.column_stack([np.arange(201.0), np.full(201, np.nan), np.arange(201.0)])
    values[101:, 2] = np.nan
    low, high = percentile_interval(values)
    np.testing.assert_allclose(low, [5, np.nan, 2.5])
    np.testing.assert_allclose(high, [195, np.nan, 97.5])


def test_the_interval_of_a_mean_is_the_one_of_the_textbook():
    sample = np.random.default_rng(1).normal(size=400)
    weights = all_draws(np.arange(400), 4000)
    low, high = percentile_interval(sample @ weights / 400)
    half = 1.96 * sample.std() / np.sqrt(400)
    assert low == pytest.approx(sample.mean() - half, abs=0.008)
    assert high == pytest.approx(sample.mean() + half, abs=0.008)


def test_what_cannot_be_told_is_null_in_json_and_comes_back():
    text = json.dumps(Estimate(0.5, 0.25).to_dict(), allow_nan=False)
    back = Estimate.from_dict(json.loads(text))
    assert (back.value, back.low) == (0.5, 0.25)
    assert math.isnan(back.high)
