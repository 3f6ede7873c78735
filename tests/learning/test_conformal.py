from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leukonca.errors import SettingError
from leukonca.learning.conformal import conformal_quantile
from reference.trust import prediction_set


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30, unique=True),
    st.floats(0.01, 0.99),
)
def test_coverage_over_all_choices_of_the_new_cell_is_exact(scores: list[float], coverage: float) -> None:
    """Of n + 1 cells each is the new one once: just as many are covered as the theorem says."""
    covered = 0
    for new in scores:
        others = np.array(sorted(score for score in scores if score != new))
        covered += new <= conformal_quantile(others, coverage)
    assert covered == math.ceil(round(len(scores) * coverage, 9))
    assert covered / len(scores) >= coverage - 1e-9


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
    st.sampled_from([0.05, 0.5, 0.8, 0.9, 0.95, 0.99]),
)
def test_sets_are_those_of_the_definition(
    held_out: list[float], probabilities: list[float], coverage: float
) -> None:
    limit = conformal_quantile(np.array(sorted(held_out)), coverage)
    found = [k for k, p in enumerate(probabilities) if 1 - p <= limit]
    assert found == prediction_set(held_out, probabilities, coverage)


def test_too_few_cells_promise_nothing() -> None:
    scores = np.linspace(0, 1, 19)
    assert conformal_quantile(scores, 0.95) == 1.0  # the 19th of 19: binary fractions must not make it 20
    assert conformal_quantile(scores, 0.96) == math.inf


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.5, 95.0, math.nan])
def test_a_coverage_lies_between_0_and_1(coverage: float) -> None:
    with pytest.raises(SettingError, match="must lie between 0 and 1"):
        conformal_quantile(np.array([0.5]), coverage)
