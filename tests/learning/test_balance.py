from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leukonca.errors import DataError, SettingError
from leukonca.learning.balance import (
    Balance,
    cell_weights,
    class_weights,
    epoch_order,
    limit_per_class,
)

LABELS = np.repeat([0, 1, 2, 4], [8000, 1500, 480, 20])
MODES = get_args(Balance)
SOME_LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array)


def test_cell_weights_make_classes_equally_likely() -> None:
    weights = cell_weights(LABELS)
    np.testing.assert_allclose(np.bincount(LABELS, weights), [0.25, 0.25, 0.25, 0, 0.25])
    np.testing.assert_allclose(cell_weights(LABELS, power=0), 1 / len(LABELS))
    by_root = np.bincount(LABELS, cell_weights(LABELS, power=0.5))
    np.testing.assert_allclose(
        by_root, np.sqrt([8000, 1500, 480, 0, 20]) / np.sqrt([8000, 1500, 480, 20]).sum()
    )


def test_class_weights_worked_out_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1])
    np.testing.assert_allclose(class_weights(labels, 2), [0.4, 1.6])
    np.testing.assert_allclose(class_weights(labels, 2, scheme="sqrt"), [2 / 3, 4 / 3])
    # beta = 1/2: the effective numbers of 4 and 1 are 1.875 and 1.
    expected = np.array([1 / 1.875, 1])
    np.testing.assert_allclose(
        class_weights(labels, 2, scheme="effective", beta=0.5), expected / expected.mean()
    )


def test_class_weights_of_an_absent_class_are_neutral() -> None:
    weights = class_weights(LABELS, 6)
    assert weights[[3, 5]].tolist() == [1, 1]
    assert weights.mean() == pytest.approx(1)


def test_effective_weights_lie_between_none_and_inverse() -> None:
    np.testing.assert_allclose(class_weights(LABELS, 5, scheme="effective", beta=0), 1)
    np.testing.assert_allclose(
        class_weights(LABELS, 5, scheme="effective", beta=1 - 1e-9), class_weights(LABELS, 5), rtol=1e-4
    )


@pytest.mark.parametrize("balance", ["none", "weights"])
@given(labels=SOME_LABELS, seed=st.integers(0, 1 << 63), epoch=st.integers(0, 10_000))
def test_without_sampling_every_row_comes_once(balance: Balance, labels, seed, epoch) -> None:
    order = epoch_order(labels, epoch=epoch, seed=seed, balance=balance)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("balance", ["sampling", "sqrt"])
@given(labels=SOME_LABELS, seed=st.integers(0, 1 << 63), epoch=st.integers(0, 10_000))
def test_sampling_gives_rows_of_the_table(balance: Balance, labels, seed, epoch) -> None:
    order = epoch_order(labels, epoch=epoch, seed=seed, balance=balance)
    assert order.dtype == np.int64
    assert len(order) == len(labels)
    assert 0 <= order.min() <= order.max() < len(labels)


@pytest.mark.parametrize(("balance", "power"), [("sampling", 1.0), ("sqrt", 0.5)])
def test_sampling_shows_classes_as_often_as_it_says(balance: Balance, power: float) -> None:
    shown = np.bincount(LABELS[epoch_order(LABELS, epoch=3, seed=7, balance=balance)], minlength=5)
    expected = np.bincount(LABELS, cell_weights(LABELS, power=power)) * len(LABELS)
    assert shown[3] == 0
    assert stats.chisquare(shown[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_sampling_reaches_every_row_of_a_class_alike() -> None:
    orders = [epoch_order(LABELS, epoch=e, seed=1, balance="sampling") for e in range(4)]
    rare = np.concatenate(orders)
    counts = np.bincount(rare[rare >= len(LABELS) - 20] - (len(LABELS) - 20), minlength=20)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("balance", MODES)
def test_an_order_is_repeated_and_depends_on_seed_and_epoch(balance: Balance) -> None:
    def order(seed: int, epoch: int) -> bytes:
        return epoch_order(LABELS, epoch=epoch, seed=seed, balance=balance).tobytes()

    assert order(5, 2) == order(5, 2)
    assert len({order(seed, epoch) for seed in (0, 1, 5) for epoch in (0, 1, 2)}) == 9


def test_orders_stay_as_they_are_across_versions() -> None:
    # Computed once with numpy 2.4: a change here would change what --resume of an older run repeats.
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    assert epoch_order(labels, epoch=0, seed=42).tolist() == [3, 4, 7, 5, 1, 2, 0, 6]
    assert epoch_order(labels, epoch=1, seed=42, balance="sampling").tolist() == [7, 4, 6, 2, 3, 5, 2, 7]


@given(labels=SOME_LABELS, n=st.integers(1, 12), seed=st.integers(0, 1 << 40))
def test_limit_per_class_keeps_up_to_n_rows_of_each(labels: np.ndarray, n: int, seed: int) -> None:
    rows = limit_per_class(labels, n, seed)
    assert (np.diff(rows) > 0).all()
    kept = np.bincount(labels[rows], minlength=6)
    np.testing.assert_array_equal(kept, np.minimum(np.bincount(labels, minlength=6), n))
    assert set(rows) <= set(limit_per_class(labels, n + 1, seed))


def test_limit_per_class_depends_on_its_seed() -> None:
    assert len({limit_per_class(LABELS, 5, seed).tobytes() for seed in range(10)}) == 10


def test_mistakes_are_refused() -> None:
    with pytest.raises(DataError, match="no cells"):
        epoch_order(np.array([], dtype=int), epoch=0, seed=0)
    with pytest.raises(DataError, match="label -1"):
        cell_weights(np.array([0, -1]))
    with pytest.raises(DataError, match="label 4"):
        class_weights(LABELS, 4)
    with pytest.raises(SettingError, match=r"'even'.*sampling, sqrt, weights"):
        epoch_order(LABELS, epoch=0, seed=0, balance="even")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"'cubic'.*effective"):
        class_weights(LABELS, 5, scheme="cubic")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"beta = 1\.0"):
        class_weights(LABELS, 5, scheme="effective", beta=1.0)
    with pytest.raises(SettingError, match="seed = -1"):
        epoch_order(LABELS, epoch=0, seed=-1)
    with pytest.raises(SettingError, match="epoch = -2"):
        epoch_order(LABELS, epoch=-2, seed=0)
    with pytest.raises(SettingError, match="cells per class = 0"):
        limit_per_class(LABELS, 0, 1)
    with pytest.raises(ValueError, match="integers"):
        cell_weights(np.array([0.5]))  # type: ignore[arg-type]
