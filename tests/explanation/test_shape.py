from __future__ import annotations

import math

import numpy as np
import pytest

from explanation.scenes import disc
from leukonca.explanation.shape import measure_shape, perimeter


@pytest.mark.parametrize("radius", [10, 23.5, 60])
def test_a_disc_is_as_long_around_as_geometry_says(radius: float) -> None:
    mask = disc((140, 150), 70.3, 71.6, radius)
    assert perimeter(mask) == pytest.approx(2 * math.pi * radius, rel=0.02)
    assert measure_shape(mask).circularity == pytest.approx(1, abs=0.04)


def test_a_square_and_a_bar_are_less_round_than_a_disc() -> None:
    square, bar = np.zeros((2, 100, 100), dtype=bool)
    square[30:70, 20:60] = True
    bar[45:55, 10:90] = True
    # Four directions make an upright square a little too short: by 8 % at most.
    assert 4 * 40 * 0.9 < perimeter(square) < 4 * 40 * 1.01
    assert measure_shape(bar).circularity < 0.6 < measure_shape(square).circularity < 0.97


def test_turning_a_mask_by_right_angles_changes_nothing() -> None:
    mask = np.random.default_rng(0).random((20, 31)) > 0.5
    assert perimeter(mask) == perimeter(np.rot90(mask)) == perimeter(mask[::-1])


def test_area_and_box() -> None:
    mask = np.zeros((50, 80), dtype=bool)
    mask[10:20, 30:70] = True
    shape = measure_shape(mask)
    assert (shape.area, shape.share, shape.box) == (400, 0.1, (30, 10, 40, 10))


def test_an_empty_mask_has_no_shape() -> None:
    shape = measure_shape(np.zeros((4, 4), dtype=bool))
    assert (shape.area, shape.share, shape.box) == (0, 0.0, (0, 0, 0, 0))
    assert math.isnan(shape.circularity)
