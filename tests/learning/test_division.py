from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError
from leukonca.learning.division import divide, with_classes
from leukonca.learning.settings import Settings

LABELS = ["eosinophil"] * 40 + ["lymphocyte"] * 25 + ["monocyte"] * 15


def manifest(labels: list[str] = LABELS, **columns: Any) -> Manifest:
    count = len(labels)
    frame = pd.DataFrame(
        {
            "path": [f"/cells/{row}.png" for row in range(count)],
            "label": labels,
            "hash": [f"{row:032x}" for row in range(count)],
            **columns,
        }
    )
    return Manifest(frame)


def parts(divided: Manifest) -> np.ndarray:
    return divided.frame["split"].to_numpy(dtype=object)


def counts(divided: Manifest) -> dict[str, int]:
    return divided.frame["split"].value_counts().to_dict()


def test_own_parts_are_kept() -> None:
    own = np.random.default_rng(0).choice(["train", "val", "test"], len(LABELS))
    for wanted in (Settings(), Settings(fractions=(0.5, 0.5, 0.0))):
        assert parts(divide(manifest(split=own), wanted)).tolist() == own.tolist()


def test_own_parts_without_validation_give_some_training_cells_for_it() -> None:
    own = np.array(["train", "test"] * (len(LABELS) // 2))
    divided = parts(divide(manifest(split=own), Settings()))
    assert (divided[own == "test"] == "test").all()
    assert set(divided[own == "train"]) == {"train", "val"}
    assert (divided == "val").sum() == pytest.approx(0.1 * (own == "train").sum(), abs=2)


def test_own_parts_of_some_cells_alone_are_refused() -> None:
    own = ["train"] * 10 + [""] * (len(LABELS) - 10)
    with pytest.raises(DataError, match="10 of 80 cells have a split and the others have none"):
        divide(manifest(split=own), Settings())


def test_fractions_hold_in_every_class() -> None:
    divided = divide(manifest(), Settings(fractions=(0.6, 0.2, 0.2)))
    table = pd.crosstab(divided.frame["label"], divided.frame["split"])
    for label, total in pd.Series(LABELS).value_counts().items():
        np.testing.assert_allclose(
            table.loc[label, ["train", "val", "test"]], total * np.array([0.6, 0.2, 0.2]), atol=1
        )


@pytest.mark.parametrize("fold", range(5))
def test_folds_are_those_of_scikit_learn(fold: int) -> None:
    # FACTS: the paper divides with StratifiedKFold(5, shuffle=True, random_state=42).
    divided = parts(divide(manifest(), Settings(folds=5, fold=fold)))
    splitter = StratifiedKFold(5, shuffle=True, random_state=42)
    expected = list(splitter.split(np.zeros(len(LABELS)), LABELS))[fold][1]
    assert np.flatnonzero(divided == "test").tolist() == expected.tolist()
    assert (divided == "val").sum() == pytest.approx(6.4, abs=2)


def test_the_seed_chooses_the_division() -> None:
    first = parts(divide(manifest(), Settings()))
    assert (parts(divide(manifest(), Settings())) == first).all()
    assert not (parts(divide(manifest(), Settings(seed=1))) == first).all()


FEW = st.sampled_from("abcdefghijkl")


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.just("") | FEW, min_size=60, max_size=60),
    twins=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=10),
    folds=st.sampled_from([0, 3]),
    seed=st.integers(0, 3),
)
def test_neither_groups_nor_copies_of_a_picture_are_divided(
    groups: list[str], twins: list[tuple[int, int]], folds: int, seed: int
) -> None:
    labels = ["eosinophil", "lymphocyte", "monocyte"] * 20
    cells = manifest(labels, group=groups)
    hashes = cells.frame["hash"].to_numpy(dtype=object, copy=True)
    for one, other in twins:
        hashes[one] = hashes[other]
    cells = cells.with_column("hash", hashes)
    try:
        divided = divide(cells, Settings(folds=folds, seed=seed))
    except DataError:
        return  # groups can be such that no division gives every class to the training
    frame = divided.frame
    assert set(frame["split"]) <= {"train", "val", "test"}
    for column in ("group", "hash"):
        for value, members in frame.groupby(column)["split"]:
            assert not value or len(set(members)) == 1


def test_a_chain_of_groups_and_copies_stays_together() -> None:
    # a–b share a picture, b–c another: whoever divides a from c divides one of the two pictures.
    groups = ["a", "a", "b", "b", "c", "c"] + [f"g{row}" for row in range(54)]
    labels = ["eosinophil", "lymphocyte", "monocyte"] * 20
    cells = manifest(labels, group=groups)
    hashes = cells.frame["hash"].to_numpy(dtype=object, copy=True)
    hashes[2], hashes[4] = hashes[1], hashes[3]
    for seed in range(8):
        divided = parts(divide(cells.with_column("hash", hashes), Settings(seed=seed)))
        assert len(set(divided[:6])) == 1


def test_a_group_called_like_a_row_is_no_row() -> None:
    labels = ["eosinophil", "lymphocyte"] * 20
    groups = ["row 1", "", "row 3", ""] * 10
    divided = divide(manifest(labels, group=groups), Settings())
    # Were row 1 in the group "row 1", a class would be bound to that group.
    assert set(parts(divided)[1::2]) == {"train", "val", "test"}


def test_unknown_hashes_bind_nothing_together() -> None:
    divided = divide(manifest().with_column("hash", [""] * len(LABELS)), Settings())
    assert set(parts(divided)) == {"train", "val", "test"}


@pytest.mark.parametrize(("kind", "column"), [("group", "group"), ("picture", "hash")])
def test_own_parts_that_leak_are_refused(kind: str, column: str) -> None:
    own = ["train", "val", "test", "train"] * 20
    values = [f"v{row}" for row in range(len(LABELS))]
    values[8] = values[6] = "shared"
    with pytest.raises(DataError, match=rf"{kind} 'shared' in test and train.*/cells/6\.png"):
        divide(manifest(split=own).with_column(column, values), Settings())
    # In one part it is harmless.
    values[6], values[12] = "v6", "shared"
    divide(manifest(split=own).with_column(column, values), Settings())


def test_a_class_without_training_cells_is_named() -> None:
    own = ["train", "val"] * 32 + ["test"] * 16  # monocytes are the last 15
    with pytest.raises(DataError, match="no training cell of monocyte; "):
        divide(manifest(split=own), Settings())


@pytest.mark.parametrize(
    ("fractions", "part"), [((0.0, 0.5, 0.5), "train"), ((0.5, 0.0, 0.5), "val"), ((0.0, 0.0, 1.0), "train")]
)
def test_a_part_without_cells_is_named(fractions: tuple[float, float, float], part: str) -> None:
    with pytest.raises(DataError, match=f"no {part} cells; change fractions"):
        divide(manifest(), Settings(fractions=fractions))


def test_a_division_without_test_cells_is_allowed() -> None:
    assert set(parts(divide(manifest(), Settings(fractions=(0.8, 0.2, 0.0))))) == {"train", "val"}


@pytest.mark.parametrize("own", [False, True])
def test_the_limit_takes_training_cells_alone(own: bool) -> None:
    cells = manifest(split=["train", "train", "val", "test", "train"] * 16) if own else manifest()
    free, limited = (parts(divide(cells, Settings(limit_per_class=limit))) for limit in (0, 7))
    changed = free != limited
    assert set(free[changed]) == {"train"}
    assert set(limited[changed]) == {""}
    kept = pd.Series(LABELS)[limited == "train"].value_counts()
    assert kept.to_dict() == {"eosinophil": 7, "lymphocyte": 7, "monocyte": 7}


def test_a_smaller_limit_keeps_some_of_the_larger() -> None:
    small, large = (parts(divide(manifest(), Settings(limit_per_class=limit))) for limit in (3, 6))
    assert (large[small == "train"] == "train").all()


def test_what_is_given_is_left_as_it_was() -> None:
    cells = manifest(split=["train", "val"] * 40)
    before = cells.frame.copy()
    divide(cells, Settings(limit_per_class=2))
    pd.testing.assert_frame_equal(cells.frame, before)


def test_auto_keeps_the_labels_and_leaves_the_unlabelled_out() -> None:
    cells = manifest(["neutrophil_banded", "my own", "", "lymphocyte"])
    found = with_classes(cells, "auto").frame
    assert found["label"].tolist() == ["neutrophil_banded", "my own", "lymphocyte"]
    assert found["path"].tolist() == ["/cells/0.png", "/cells/1.png", "/cells/3.png"]


def test_finer_labels_go_to_the_coarser_class(caplog: pytest.LogCaptureFixture) -> None:
    labels = ["neutrophil_banded", "neutrophil_segmented", "lymphocyte_atypical", "monocyte"]
    labels += ["platelet", "platelet", "erythroblast", "my own", ""]
    with caplog.at_level(logging.WARNING):
        found = with_classes(manifest(labels), "five").frame
    assert found["label"].tolist() == ["neutrophil", "neutrophil", "lymphocyte", "monocyte"]
    messages = [record.getMessage() for record in caplog.records]
    assert sorted(messages) == [
        "1 cells labelled 'erythroblast' have no place in the class set 'five': left out",
        "1 cells labelled 'my own' have no place in the class set 'five': left out",
        "2 cells labelled 'platelet' have no place in the class set 'five': left out",
    ]


def test_coarse_labels_have_no_place_among_finer_classes() -> None:
    labels = ["neutrophil", "lymphocyte", "basophil", "monocyte"]
    assert with_classes(manifest(labels), "thirteen").frame["label"].tolist() == ["basophil", "monocyte"]


def test_a_use_with_all_cells_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert len(with_classes(manifest(), "eight")) == len(LABELS)
    assert not caplog.records


@pytest.mark.parametrize(
    ("labels", "classes", "found"),
    [
        (["", ""], "auto", "no labels"),
        (["monocyte"] * 3, "auto", "monocyte"),
        (["platelet", "erythroblast"], "five", "no labels"),
        (["neutrophil_banded", "neutrophil_segmented"], "five", "neutrophil"),
    ],
)
def test_fewer_than_two_classes_are_refused(labels: list[str], classes: str, found: str) -> None:
    with pytest.raises(DataError, match=f"at least 2 classes; these have {found}"):
        with_classes(manifest(labels), classes)


def test_folds_of_cells_that_have_a_split_are_refused() -> None:
    frame = pd.DataFrame(
        {"path": list("abcd"), "label": ["x", "y"] * 2, "split": ["train", "train", "val", "val"]}
    )
    with pytest.raises(DataError, match="folds=2, but these cells have a split of their own"):
        divide(Manifest(frame), Settings(folds=2))


def test_a_picture_under_two_labels_is_told(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"path": [f"{row}.png" for row in range(40)], "label": ["x", "y"] * 20})
    frame["hash"] = [f"{row}" for row in range(39)] + ["0"]
    divided = divide(Manifest(frame), Settings()).frame
    assert "2 files are pictures that occur under two labels, the first: 0.png" in caplog.text
    assert divided["split"].iloc[0] == divided["split"].iloc[39]
