from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from leukonca.explanation.curves import HEIGHT, WIDTH, curve_of
from leukonca.explanation.evolution import Evolution


def evolution(steps: int) -> Evolution:
    rise = np.linspace(0.1, 0.9, steps + 1)
    mean = np.stack([rise, 0.95 - rise, np.full(steps + 1, 0.05)], axis=1)
    seeds = np.stack([mean, mean])
    maps = np.zeros((1, steps + 1, 2, 2), np.float32)
    return Evolution(np.zeros((2, 2, 3), np.uint8), ("neutrophil", "mine", "platelet"), seeds, (0,), maps)


def test_lines_go_from_the_first_to_the_last_probability() -> None:
    curve = curve_of(evolution(4))
    assert [line.name for line in curve.named] == ["neutrophil", "mine"]
    points = [tuple(map(float, point.split(","))) for point in curve.named[0].points.split()]
    assert points[0] == (0, pytest.approx(0.9 * HEIGHT))
    assert points[-1] == (WIDTH, pytest.approx(0.1 * HEIGHT))
    assert [line.name for line in curve.others] == [""]
    # A class that the vocabulary does not know has a colour all the same.
    assert all(line.colour.startswith("#") and len(line.colour) == 7 for line in curve.named)
    assert len({line.dash for line in curve.named}) == 2


@pytest.mark.parametrize("steps", [1, 3, 12, 16, 17, 64, 96])
def test_ticks_begin_and_end_with_the_steps_and_do_not_crowd(steps: int) -> None:
    ticks = curve_of(evolution(steps)).ticks
    assert ticks[0] == (0, 0)
    assert ticks[-1] == (steps, WIDTH)
    assert len(ticks) <= 10
    assert min(b - a for (_, a), (_, b) in pairwise(ticks)) >= WIDTH / 16
