from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukonca.assessment.prediction import Predictions
from leukonca.errors import DataError, SettingError

CLASSES = ("monocyte", "my own class")
SUFFIXES = (".csv", ".jsonl", ".parquet")


def three(truth=("monocyte", "", "my own class")):
    return Predictions(
        classes=CLASSES,
        paths=["NA", "broken, so to say.png", 'Zelle "ä"\n.png'],
        probabilities=np.array([[1 / 3, 2 / 3], [np.nan, np.nan], [0.5, 0.5]]),
        spread=np.array([0.1, np.nan, 0.0]),
        errors=["", "the file is empty", ""],
        truth=None if truth is None else list(truth),
    )


def judged():
    """Five cells of classes with trying names: sure, ambiguous, foreign, unreadable, of an empty set."""
    return Predictions(
        classes=("a|b", "b\\", "c"),
        paths=[f"{number}.png" for number in range(5)],
        probabilities=np.array([[0.9, 0.1, 0], [0.5, 0.5, 0], [1, 0, 0], [np.nan] * 3, [0.4, 0.3, 0.3]]),
        spread=np.zeros(5),
        errors=["", "", "", "is empty", ""],
        sets=np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=bool),
        familiarity=np.array([0.5, 1.0, 0.0, np.nan, 1 / 3]),
        foreign=np.array([False, False, True, False, False]),
    )


def assert_same(one: Predictions, other: Predictions) -> None:
    assert (one.classes, one.paths, one.errors, one.truth) == (
        other.classes,
        other.paths,
        other.errors,
        other.truth,
    )
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.spread, other.spread)


def test_the_winner_is_named_and_a_failed_file_has_none():
    found = three()
    assert found.predicted.tolist() == [1, -1, 0]  # of equals the first
    assert found.labels == ["my own class", "", "monocyte"]
    assert found.ok.tolist() == [True, False, True]
    np.testing.assert_array_equal(found.confidence, [2 / 3, np.nan, 0.5])


def test_the_table_has_one_row_a_file_and_one_column_a_class():
    frame = three().to_frame()
    assert list(frame.columns) == [
        "path",
        "label",
        "p_monocyte",
        "p_my own class",
        "spread",
        "error",
        "truth",
    ]
    assert frame.loc[1, "label"] == ""
    assert frame.loc[1, "error"] == "the file is empty"
    assert "truth" not in three(truth=None).to_frame()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("truth", [None, ("monocyte", "", "my own class")])
def test_a_written_table_comes_back_exactly(tmp_path, suffix, truth):
    written = three(truth)
    file = tmp_path / "new folder" / f"results{suffix.upper()}"
    written.write(file)
    assert_same(Predictions.read(file), written)
    assert os.listdir(file.parent) == [file.name]  # no draft is left


@given(
    paths=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_any_file_name_and_any_number_comes_back(paths, seed):
    n = len(paths)
    generator = np.random.default_rng(seed)
    written = Predictions(
        ("a", "b", "c"), paths, generator.dirichlet([0.1] * 3, size=n), generator.random(n), [""] * n
    )
    with tempfile.TemporaryDirectory() as folder:
        for suffix in SUFFIXES:
            file = Path(folder) / f"results{suffix}"
            written.write(file)
            assert_same(Predictions.read(file), written)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_undecodable_file_name_is_written_with_an_escape(tmp_path, suffix):
    file = tmp_path / f"results{suffix}"
    Predictions(("a",), [os.fsdecode(b"cell-\xff.png")], np.ones((1, 1)), np.zeros(1), [""]).write(file)
    assert Predictions.read(file).paths[0].startswith("cell-")


def test_json_lines_hold_null_and_never_nan(tmp_path):
    three().write(tmp_path / "results.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text("utf-8").splitlines()]
    assert rows[1]["p_monocyte"] is None
    assert rows[1]["error"] == "the file is empty"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "results.csv"
    three().write(file)
    before = file.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match=r"results\.csv.*full"):
        three(truth=None).write(file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_subset_takes_a_mask_or_rows():
    found = three()
    assert_same(found.subset(found.ok), found.subset([0, 2]))
    assert found.subset([2, 0]).truth == ["my own class", "monocyte"]
    assert len(found.subset(np.zeros(3, dtype=bool))) == 0


@pytest.mark.parametrize("name", ["results.xlsx", "results", "results.csv.gz"])
def test_another_suffix_is_refused_with_those_allowed(tmp_path, name):
    with pytest.raises(SettingError, match=r"\.csv, \.jsonl, \.parquet"):
        three().write(tmp_path / name)
    assert os.listdir(tmp_path) == []
    with pytest.raises(SettingError, match="suffix"):
        Predictions.read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "not a readable"),
        ("a.csv", b"path,label\nx,y\n", "columns path, label"),
        ("a.csv", b"path,p_a,p_b\nx,0.5,much\n", "'p_b' must hold numbers"),
        ("a.csv", b"path,p_a,p_b\nx,50,50\n", "sum to 1"),
        ("a.csv", b"path,p_a,p_b\nx,,\n", "the reason why not"),
        ("a.csv", b"\xff\xfe\x00", "not a readable"),
        ("a.jsonl", b"{", "not a readable"),
        ("a.jsonl", b"[1, 2]\n3\n", "not a readable|columns"),
        ("a.parquet", b"PAR1", "not a readable"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Predictions.read(file)
    assert str(file) in str(caught.value)


def test_a_missing_table_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Predictions.read(tmp_path / "none.csv")


def test_unknown_columns_do_not_matter(tmp_path):
    file = tmp_path / "a.csv"
    pd.DataFrame({"path": ["x"], "remark": ["?"], "p_a": [0.25], "p_b": [0.75]}).to_csv(file, index=False)
    assert Predictions.read(file).labels == ["b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a", "a")}, "once"),
        ({"probabilities": np.ones((2, 1))}, r"shape \(2, 1\)"),
        ({"spread": np.zeros(3)}, "3 entries in spread"),
        ({"truth": ["a"]}, "1 entries in truth"),
        ({"probabilities": np.array([[0.5, 0.5], [1.5, -0.5]])}, "prediction 1"),
        ({"errors": ["", "broken"]}, "must have no probabilities"),
    ],
)
def test_rows_that_are_no_predictions_are_refused(change, message):
    fields = {
        "classes": ("a", "b"),
        "paths": ["x", "y"],
        "probabilities": np.full((2, 2), 0.5),
        "spread": np.zeros(2),
        "errors": ["", ""],
    }
    with pytest.raises(DataError, match=message):
        Predictions(**fields | change)


def test_a_foreign_picture_is_not_named_and_a_person_is_told_why():
    found = judged()
    assert found.labels == ["a|b", "a|b", "", "", "a|b"]
    assert found.predicted.tolist() == [0, 0, 0, -1, 0]
    assert found.reasons == ["", "ambiguous", "foreign|ambiguous", "unreadable", "ambiguous"]
    frame = found.to_frame()
    assert frame["set"].tolist() == ["a\\|b", "a\\|b|b\\\\", "a\\|b|b\\\\|c", "", ""]
    assert frame["review"].tolist() == ["no", "yes", "yes", "yes", "yes"]
    assert list(frame.columns) == [
        *("path", "label", "set", "p_a|b", "p_b\\", "p_c", "spread", "familiarity", "review", "reason"),
        "error",
    ]


def test_what_was_not_asked_is_no_column():
    only_sets = replace(judged(), familiarity=None, foreign=None)
    assert only_sets.reasons == ["", "ambiguous", "ambiguous", "unreadable", "ambiguous"]
    assert only_sets.labels[2] == "a|b"
    only_foreign = replace(judged(), sets=None)
    assert only_foreign.reasons == ["", "", "foreign", "unreadable", ""]
    neither = replace(judged(), sets=None, foreign=None)
    assert neither.reasons is None
    assert list(neither.to_frame().columns)[-3:] == ["spread", "familiarity", "error"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sets_and_flags_come_back_exactly(tmp_path, suffix):
    file = tmp_path / f"t{suffix}"
    judged().write(file)
    found = Predictions.read(file)
    assert_same(found, judged())
    for name in ("sets", "familiarity", "foreign"):
        np.testing.assert_array_equal(getattr(found, name), getattr(judged(), name))
    assert (found.labels, found.reasons) == (judged().labels, judged().reasons)


def test_a_set_of_unknown_classes_is_refused(tmp_path):
    file = tmp_path / "t.csv"
    judged().write(file)
    file.write_text(file.read_text("utf-8").replace('"a\\|b|b\\\\"', '"a\\|b|d"'), encoding="utf-8")
    with pytest.raises(DataError, match="row 1 has 'd' in its set, which is none of its classes"):
        Predictions.read(file)


def test_a_part_keeps_its_sets_and_flags():
    part = judged().subset([2, 0])
    assert part.reasons == ["foreign|ambiguous", ""]
    np.testing.assert_array_equal(part.familiarity, [0, 0.5])
    with pytest.raises(DataError, match="have 4 entries in sets; expected 5"):
        replace(judged(), sets=np.ones((4, 3), bool))
