"""Splits are checked against what they promise, and the folds against scikit-learn itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from leukonca.cells.splits import PARTS, Leak, leaks, stratified_folds, stratified_split
from leukonca.errors import DataError

LABELS = st.lists(
    st.sampled_from(["basophil", "monocyte", "neutrophil", "platelet"]), min_size=1, max_size=120
)
FRACTIONS = st.sampled_from(
    [(0.7, 0.1, 0.2), (0.8, 0.2, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.0, 0.0, 1.0), (0.5, 0.25, 0.25)]
)


def parts_of_groups(parts: np.ndarray, groups: list[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part, group in zip(parts, groups, strict=True):
        if group:
            found.setdefault(group, set()).add(str(part))
    return found


# ---------------------------------------------------------------- folds


def test_ungrouped_folds_are_those_of_the_paper() -> None:
    labels = np.random.default_rng(0).choice(["a", "b", "c"], 200, p=[0.6, 0.3, 0.1])
    expected = np.empty(200, dtype=int)
    for fold, (_, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=42).split(labels, labels)):
        expected[test] = fold
    np.testing.assert_array_equal(stratified_folds(labels), expected)
    np.testing.assert_array_equal(stratified_folds(labels, [""] * 200), expected)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(labels=LABELS, folds=st.integers(2, 5), seed=st.integers(0, 1000))
def test_ungrouped_folds_are_stratified_within_one_cell(labels: list[str], folds: int, seed: int) -> None:
    labels = labels + ["basophil", "monocyte", "neutrophil", "platelet"] * folds
    answer = stratified_folds(labels, folds=folds, seed=seed)
    assert answer.shape == (len(labels),)
    assert answer.dtype == np.int64
    for label, total in Counter(labels).items():
        counts = [np.sum(answer[np.array(labels) == label] == fold) for fold in range(folds)]
        assert sum(counts) == total
        assert max(counts) - min(counts) <= 1


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data(), labels=LABELS, folds=st.integers(2, 4), seed=st.integers(0, 1000))
def test_folds_never_divide_a_group(data: st.DataObject, labels: list[str], folds: int, seed: int) -> None:
    names = st.sampled_from(["", "p1", "p2", "p3", "p4"])
    groups = [data.draw(names) for _ in labels]
    singles = ["basophil", "monocyte", "neutrophil", "platelet"] * folds
    labels, groups = labels + singles, groups + [""] * len(singles)
    answer = stratified_folds(labels, groups, folds=folds, seed=seed)
    assert set(answer) == set(range(folds))
    assert all(len(parts) == 1 for parts in parts_of_groups(answer, groups).values())
    np.testing.assert_array_equal(answer, stratified_folds(labels, groups, folds=folds, seed=seed))


def test_grouped_folds_are_balanced() -> None:
    chance = np.random.default_rng(1)
    groups = [f"patient {number}" for number in range(40) for _ in range(25)]
    labels = chance.choice(["a", "b"], 1000, p=[0.8, 0.2]).tolist()
    answer = stratified_folds(labels, groups, folds=5)
    assert set(np.bincount(answer)) == {200}
    rare = np.bincount(answer[np.array(labels) == "b"])
    assert rare.max() - rare.min() <= 12


def test_the_seed_matters() -> None:
    labels = ["a", "b"] * 50
    assert (stratified_folds(labels, seed=1) != stratified_folds(labels, seed=2)).any()
    assert (stratified_split(labels, seed=1) != stratified_split(labels, seed=2)).any()


def test_impossible_folds_are_refused() -> None:
    with pytest.raises(DataError, match="basophil has 3"):
        stratified_folds(["basophil"] * 3 + ["monocyte"] * 9, folds=5)
    with pytest.raises(DataError, match="at least 2"):
        stratified_folds(["a"] * 3, folds=1)
    with pytest.raises(DataError, match="5 groups, but there are 2"):
        stratified_folds(["a"] * 10, ["p", "q"] * 5, folds=5)
    with pytest.raises(DataError, match="1 of 11 cells have no label"):
        stratified_folds(["a"] * 10 + [""], folds=5)
    with pytest.raises(DataError, match="no cells"):
        stratified_folds([], folds=5)
    with pytest.raises(DataError, match="2 labels but 1 groups"):
        stratified_folds(["a", "a"], ["p"], folds=2)


# ---------------------------------------------------------------- split


@settings(max_examples=80, deadline=None, derandomize=True)
@given(labels=LABELS, fractions=FRACTIONS, seed=st.integers(0, 1000))
def test_ungrouped_split_is_stratified_within_one_cell(
    labels: list[str], fractions: tuple[float, float, float], seed: int
) -> None:
    answer = stratified_split(labels, fractions=fractions, seed=seed)
    assert set(answer) <= set(PARTS)
    used = [part for part, share in zip(PARTS, fractions, strict=True) if share]
    for label, total in Counter(labels).items():
        counts = Counter(answer[np.array(labels) == label].tolist())
        assert sum(counts.values()) == total
        assert set(counts) <= set(used)
        if total >= len(used):
            assert set(counts) == set(used)
        if min(total * share for share in fractions if share) >= 1:
            for part, share in zip(PARTS, fractions, strict=True):
                assert abs(counts[part] - total * share) < 1 + 1e-6
    np.testing.assert_array_equal(answer, stratified_split(labels, fractions=fractions, seed=seed))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data(), labels=LABELS, fractions=FRACTIONS, seed=st.integers(0, 1000))
def test_split_never_divides_a_group(
    data: st.DataObject, labels: list[str], fractions: tuple[float, float, float], seed: int
) -> None:
    names = st.sampled_from(["", "p1", "p2", "p3"])
    groups = [data.draw(names) for _ in labels] + ["p1", "p2", "p3"]
    labels = [*labels, "basophil", "basophil", "basophil"]
    answer = stratified_split(labels, groups, fractions=fractions, seed=seed)
    used = {part for part, share in zip(PARTS, fractions, strict=True) if share}
    assert len(answer) == len(labels)
    assert set(answer) == used
    assert all(len(parts) == 1 for parts in parts_of_groups(answer, groups).values())
    np.testing.assert_array_equal(answer, stratified_split(labels, groups, fractions=fractions, seed=seed))


def test_grouped_split_keeps_the_fractions_and_the_rare_class() -> None:
    chance = np.random.default_rng(2)
    labels: list[str] = []
    groups: list[str] = []
    for patient in range(60):
        number = int(chance.integers(5, 60))
        labels += chance.choice(["common", "other"], number, p=[0.7, 0.3]).tolist()
        groups += [f"patient {patient}"] * number
    for patient in (3, 17, 40):
        labels += ["rare"] * 2
        groups += [f"patient {patient}"] * 2
    answer = stratified_split(labels, groups, fractions=(0.7, 0.1, 0.2))
    for label in ("common", "other"):
        counts = Counter(answer[np.array(labels) == label].tolist())
        for part, share in zip(PARTS, (0.7, 0.1, 0.2), strict=True):
            assert counts[part] / counts.total() == pytest.approx(share, abs=0.04)
    assert set(answer[np.array(labels) == "rare"]) == set(PARTS)


def test_grouped_split_does_not_depend_on_the_order_of_rows() -> None:
    chance = np.random.default_rng(3)
    labels = chance.choice(["a", "b"], 300)
    groups = chance.choice([f"p{number}" for number in range(20)], 300)
    order = chance.permutation(300)
    np.testing.assert_array_equal(
        stratified_split(labels, groups)[order], stratified_split(labels[order], groups[order])
    )


def test_small_classes_go_where_most_is_wanted() -> None:
    assert stratified_split(["a"]).tolist() == ["train"]
    assert sorted(stratified_split(["a", "a"])) == ["test", "train"]
    assert sorted(stratified_split(["a"] * 3)) == ["test", "train", "val"]
    assert Counter(stratified_split(["a"] * 10).tolist()) == {"train": 7, "val": 1, "test": 2}


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.1, 0.1), (0.7, 0.3), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)]
)
def test_impossible_fractions_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="sum to 1"):
        stratified_split(["a"] * 10, fractions=fractions)


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(DataError, match="3 parts need 3 groups, but there are 2"):
        stratified_split(["a"] * 10, ["p", "q"] * 5)
    with pytest.raises(DataError, match="no label"):
        stratified_split(["a", ""])
    assert stratified_split([]).tolist() == []


# ---------------------------------------------------------------- leaks


def test_leaks_name_group_picture_and_rows() -> None:
    splits = ["train", "test", "train", "val", "", "test"]
    groups = ["p1", "p1", "p2", "", "p2", "p3"]
    hashes = ["aa", "bb", "cc", "cc", "aa", ""]
    assert leaks(splits, groups, hashes) == [
        Leak("group", "p1", ("test", "train"), (0, 1)),
        Leak("picture", "cc", ("train", "val"), (2, 3)),
    ]
    assert leaks([], [], []) == []
    assert leaks([0, 1], ["p", "p"], ["", ""]) == [Leak("group", "p", ("0", "1"), (0, 1))]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_our_splits_never_leak_groups(seed: int) -> None:
    chance = np.random.default_rng(seed)
    labels = chance.choice(["a", "b"], 60)
    groups = chance.choice(["", "p1", "p2", "p3", "p4", "p5"], 60).tolist()
    for answer in (
        stratified_split(labels, groups, seed=seed),
        stratified_folds(labels, groups, folds=3, seed=seed),
    ):
        assert leaks(answer, groups, [""] * 60) == []
