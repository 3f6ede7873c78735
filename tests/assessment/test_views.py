from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from leukonca.assessment.metrics import measure
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.views import align, among
from leukonca.errors import DataError
from leukonca.vocabulary import CLASS_SETS

THIRTEEN, EIGHT, FIVE = (CLASS_SETS[name] for name in ("thirteen", "eight", "five"))


def said(classes, *rows):
    """One prediction a row: a class name, or a mapping of names to probabilities."""
    table = np.zeros((len(rows), len(classes)))
    for place, row in enumerate(rows):
        for name, value in ({row: 1.0} if isinstance(row, str) else row).items():
            table[place, classes.index(name)] = value
    n = len(rows)
    return Predictions(tuple(classes), [f"{i}.png" for i in range(n)], table, np.full(n, 0.1), [""] * n)


def test_labels_among_the_classes_change_nothing():
    predictions = said(EIGHT, "platelet", "monocyte")
    aligned, truth, note = align(predictions, ["platelet", ""])
    assert (aligned.classes, truth, note) == (EIGHT, ["platelet", ""], "")
    assert aligned.truth == truth
    np.testing.assert_array_equal(aligned.probabilities, predictions.probabilities)


def test_finer_labels_become_the_model_s_coarser_classes():
    aligned, truth, note = align(said(EIGHT, "neutrophil", "lymphocyte"), ["neutrophil_banded", "myelocyte"])
    assert aligned.classes == EIGHT
    assert truth == ["neutrophil", "immature_granulocyte"]
    assert "neutrophil_banded as neutrophil" in note


def test_finer_classes_are_summed_into_the_data_s_coarser_labels():
    row = {"neutrophil_banded": 0.3, "neutrophil_segmented": 0.3, "monocyte": 0.4}
    aligned, truth, note = align(said(THIRTEEN, row, "smudge_cell"), ["neutrophil", "lymphocyte"])
    assert truth == ["neutrophil", "lymphocyte"]
    assert aligned.labels == ["neutrophil", "smudge_cell"]  # the sum wins over the single winner
    assert aligned.probabilities[0, aligned.classes.index("neutrophil")] == pytest.approx(0.6)
    assert "neutrophil_banded and neutrophil_segmented as neutrophil" in note
    # Classes that the data lack stay, in the model's order, and calling them is an error.
    assert aligned.classes[:4] == THIRTEEN[:4]
    assert "smudge_cell" in aligned.classes
    assert measure(truth, aligned.probabilities, aligned.classes).accuracy.value == 0.5


def test_the_spread_of_a_sum_is_not_known():
    row = {"neutrophil_banded": 0.3, "neutrophil_segmented": 0.3, "monocyte": 0.4}
    aligned, _, _ = align(said(THIRTEEN, row, "monocyte"), ["neutrophil", "neutrophil"])
    assert math.isnan(aligned.spread[0])
    assert aligned.spread[1] == 0.1


def test_labels_that_the_model_cannot_express_are_left_out_in_place():
    truth = ["smudge_cell", "monocyte", "smudge_cell", "myeloblast", "lymphocyte_atypical"]
    aligned, view, note = align(said(EIGHT, *["monocyte"] * 5), truth)
    assert view == ["", "monocyte", "", "", "lymphocyte"]
    assert len(aligned) == 5
    assert "3 cells were left out" in note
    assert "myeloblast (1), smudge_cell (2)" in note
    assert measure(view, aligned.probabilities, aligned.classes).unlabelled == 3


def test_siblings_are_not_merged():
    model = ("lymphocyte_typical", "monocyte")
    _, view, note = align(
        said(model, "lymphocyte_typical", "monocyte"), ["lymphocyte_atypical", "lymphocyte_typical"]
    )
    assert view == ["", "lymphocyte_typical"]
    assert "1 cell was left out" in note


def test_both_sides_may_be_finer_at_once():
    model = ("neutrophil", "lymphocyte_typical", "lymphocyte_atypical")
    aligned, view, _ = align(
        said(model, "neutrophil", "lymphocyte_atypical"), ["neutrophil_segmented", "lymphocyte"]
    )
    assert aligned.classes == ("neutrophil", "lymphocyte")
    assert view == aligned.labels == ["neutrophil", "lymphocyte"]


def test_a_user_s_own_classes_meet_by_name_only():
    aligned, view, note = align(said(("ghost", "monocyte"), "ghost", "ghost"), ["ghost", "spectre"])
    assert (aligned.labels, view) == (["ghost", "ghost"], ["ghost", ""])
    assert "spectre (1)" in note


def test_unreadable_files_stay_unreadable():
    predictions = Predictions(
        THIRTEEN, ["x"] * 2, np.stack([np.full(13, np.nan), np.eye(13)[8]]), np.zeros(2), ["broken", ""]
    )
    aligned, _, _ = align(predictions, ["neutrophil", "neutrophil"])
    assert aligned.labels == ["", "neutrophil"]
    assert aligned.errors == ["broken", ""]


def test_nothing_in_common_is_refused():
    with pytest.raises(DataError, match=r"none of the data's labels \(smudge_cell\)"):
        align(said(FIVE, "monocyte"), ["smudge_cell"])
    with pytest.raises(DataError, match="2 true labels"):
        align(said(FIVE, "monocyte"), ["monocyte", "monocyte"])


def test_among_some_types_the_others_probability_is_shared_out():
    row = {"neutrophil": 0.2, "monocyte": 0.1, "platelet": 0.6, "immature_granulocyte": 0.1}
    known = among(said(EIGHT, row), FIVE)
    assert known.classes == FIVE
    expected = {"neutrophil": 2 / 3, "monocyte": 1 / 3}
    np.testing.assert_allclose(known.probabilities[0], [expected.get(name, 0) for name in FIVE], atol=1e-12)
    assert math.isnan(known.spread[0])


def test_among_coarser_types_kinds_are_summed_and_truth_is_kept():
    row = {"neutrophil_banded": 0.3, "neutrophil_segmented": 0.3, "monocyte": 0.2, "smudge_cell": 0.2}
    predictions, _, _ = align(said(THIRTEEN, row), ["neutrophil_banded"])
    known = among(predictions, ("neutrophil", "monocyte"))
    np.testing.assert_allclose(known.probabilities, [[0.75, 0.25]])
    assert known.truth == ["neutrophil_banded"]


def test_among_a_cell_that_is_surely_something_else_gets_no_name_by_division_by_zero():
    known = among(said(EIGHT, "platelet"), FIVE)
    np.testing.assert_allclose(known.probabilities, np.full((1, 5), 0.2))


def test_among_needs_two_types_that_the_model_knows():
    with pytest.raises(DataError, match="smudge_cell, monocyte the model knows monocyte"):
        among(said(EIGHT, "monocyte"), ("smudge_cell", "monocyte"))


def test_sets_are_of_the_view_and_so_are_the_probabilities_before_calibration():
    predictions = said(THIRTEEN, "neutrophil_banded", "monocyte", "smudge_cell")
    sets = np.zeros((3, 13), dtype=bool)
    for name in ("neutrophil_banded", "neutrophil_segmented"):
        sets[0, THIRTEEN.index(name)] = True
    sets[1, [THIRTEEN.index("monocyte"), THIRTEEN.index("neutrophil_banded")]] = True
    before = np.full((3, 13), 1 / 13)
    familiarity = np.array([0.1, 0.2, 0.3])
    aligned, _, _ = align(
        replace(predictions, sets=sets, uncalibrated=before, familiarity=familiarity),
        ["neutrophil", "monocyte", "lymphocyte"],
    )
    named = [
        [name for name, inside in zip(aligned.classes, row, strict=True) if inside] for row in aligned.sets
    ]
    assert named == [["neutrophil"], ["neutrophil", "monocyte"], []]
    assert aligned.uncalibrated[0, aligned.classes.index("neutrophil")] == pytest.approx(2 / 13)
    np.testing.assert_array_equal(aligned.familiarity, familiarity)
