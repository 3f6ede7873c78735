from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from leukonca.assessment.intervals import draws
from leukonca.assessment.measured import MeasuredCells
from leukonca.assessment.metrics import CLASS_MEASURES, SUMMARY_MEASURES, Metrics, measure
from leukonca.errors import DataError, SettingError
from reference import classification

CLASSES = ("basophil", "eosinophil", "lymphocyte", "monocyte")


def cells(n=240, classes=CLASSES, seed=0):
    generator = np.random.default_rng(seed)
    k = len(classes)
    truth = generator.integers(0, k, size=n)
    probabilities = generator.dirichlet(np.ones(k), size=n) + 0.35 * np.eye(k)[truth]
    return [classes[index] for index in truth], probabilities / probabilities.sum(axis=1, keepdims=True)


def test_point_values_are_those_of_scikit_learn():
    truth, probabilities = cells()
    predicted = [CLASSES[index] for index in probabilities.argmax(axis=1)]
    found = measure(truth, probabilities, CLASSES, resamples=0)
    assert found.accuracy.value == pytest.approx(sk.accuracy_score(truth, predicted))
    assert found.balanced_accuracy.value == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert found.macro_f1.value == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    assert found.weighted_f1.value == pytest.approx(sk.f1_score(truth, predicted, average="weighted"))
    assert found.macro_auroc.value == pytest.approx(
        sk.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro", labels=CLASSES)
    )
    assert found.nll.value == pytest.approx(sk.log_loss(truth, probabilities, labels=CLASSES))
    one_hot = np.array([[name == label for name in CLASSES] for label in truth], float)
    assert found.brier.value == pytest.approx(((probabilities - one_hot) ** 2).sum(axis=1).mean())
    assert found.macro_average_precision.value == pytest.approx(
        sk.average_precision_score(one_hot, probabilities, average="macro")
    )
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(truth, predicted, labels=CLASSES))
    report = sk.classification_report(truth, predicted, labels=CLASSES, output_dict=True)
    for entry in found.per_class:
        assert entry.precision.value == pytest.approx(report[entry.name]["precision"])
        assert entry.recall.value == pytest.approx(report[entry.name]["recall"])
        assert entry.f1.value == pytest.approx(report[entry.name]["f1-score"])
        assert (entry.support, entry.predicted) == (truth.count(entry.name), predicted.count(entry.name))


def test_a_weighting_measures_what_its_cells_written_out_measure():
    truth, probabilities = cells(n=60, seed=1)
    probabilities[:, 1] = 0.001  # eosinophil is never called
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    whole = MeasuredCells.of(truth, probabilities, CLASSES)
    weights = next(draws(np.arange(60), 4, np.random.default_rng(0)))
    weights[np.array(truth) == "monocyte", 3] = 0  # one draw misses a class
    together = whole.drawn(weights)
    for r in range(4):
        written = classification.repeated(np.arange(60), weights[:, r])
        alone = MeasuredCells.of([truth[i] for i in written], probabilities[written], CLASSES).point()
        for name in (*SUMMARY_MEASURES, *CLASS_MEASURES):
            np.testing.assert_allclose(together[name][r], alone[name], err_msg=name)


def test_intervals_hold_the_value_and_narrow_with_more_cells():
    few = measure(*cells(n=60), CLASSES, resamples=300)
    many = measure(*cells(n=2000), CLASSES, resamples=300)
    for name in ("accuracy", "macro_f1", "macro_auroc", "brier"):
        small, large = getattr(few, name), getattr(many, name)
        assert small.low < small.value < small.high
        assert large.high - large.low < 0.5 * (small.high - small.low)


def test_a_seed_repeats_the_intervals_and_another_does_not():
    first, again, other = (
        measure(*cells(), CLASSES, resamples=50, seed=seed).to_dict() for seed in (1, 1, 2)
    )
    assert first == again
    assert first["accuracy"] != other["accuracy"]


def test_intervals_over_groups_are_wider_where_groups_differ():
    truth = ["basophil"] * 200
    right = np.repeat([1, 1, 1, 0, 0], 40)  # five slides: all right or all wrong
    probabilities = np.column_stack([right, 1 - right, 0 * right, 0 * right]).astype(float)
    groups = [f"slide {row // 40}" for row in range(200)]
    alone = measure(truth, probabilities, CLASSES, resamples=400)
    grouped = measure(truth, probabilities, CLASSES, groups=groups, resamples=400)
    assert (alone.clusters, grouped.clusters) == (None, 5)
    assert grouped.accuracy.high - grouped.accuracy.low > 3 * (alone.accuracy.high - alone.accuracy.low)
    assert "groups" in grouped.to_dict()["intervals"]


def test_one_group_alone_gives_no_interval_rather_than_a_false_one():
    truth, probabilities = cells(n=20)
    found = measure(truth, probabilities, CLASSES, groups=["slide"] * 20)
    assert math.isnan(found.accuracy.low)
    assert found.clusters == 1


def test_a_class_without_cells_is_left_out_and_calling_it_stays_an_error():
    truth = ["basophil", "basophil", "lymphocyte", "lymphocyte"]
    probabilities = np.eye(4)[[0, 3, 2, 2]]  # one basophil is called a monocyte
    found = measure(truth, probabilities, CLASSES, resamples=50)
    by_name = {entry.name: entry for entry in found.per_class}
    assert found.present == ("basophil", "lymphocyte")
    assert (by_name["monocyte"].support, by_name["monocyte"].predicted) == (0, 1)
    assert math.isnan(by_name["monocyte"].f1.value)
    assert math.isnan(by_name["monocyte"].f1.low)
    assert found.accuracy.value == 0.75
    assert found.balanced_accuracy.value == 0.75
    assert found.macro_f1.value == pytest.approx((2 / 3 + 1) / 2)
    assert found.to_dict()["macro_over"] == "macro over the 2 classes present"
    assert found.to_dict()["per_class"]["monocyte"]["auroc"]["value"] is None


def test_a_single_cell_is_measured_without_intervals():
    found = measure(["monocyte"], [[0.1, 0.2, 0.3, 0.4]], CLASSES)
    assert (found.accuracy.value, found.n) == (1.0, 1)
    assert math.isnan(found.accuracy.low)
    assert math.isnan(found.macro_auroc.value)


def test_files_without_reading_or_truth_are_left_out_and_counted():
    truth, probabilities = cells(n=12)
    kept = measure(truth[2:], probabilities[2:], CLASSES, resamples=20)
    probabilities[0] = np.nan
    truth[1] = ""
    found = measure(truth, probabilities, CLASSES, groups=["a", *[""] * 11], resamples=20)
    assert (found.n, found.unreadable, found.unlabelled) == (10, 1, 1)
    assert found.accuracy.value == kept.accuracy.value


def test_metrics_survive_json():
    truth, probabilities = cells(n=30, classes=CLASSES[:3])
    probabilities = np.column_stack([probabilities, np.zeros(30)])
    found = measure(truth, probabilities, CLASSES, resamples=20, seed=7)
    back = Metrics.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert back.to_dict() == found.to_dict()
    assert found.to_dict()["seed"] == 7
    frame = found.to_frame()
    assert list(frame["class"]) == list(CLASSES)
    assert {"f1", "f1_low", "f1_high", "support"} <= set(frame.columns)
    assert found.confusion_frame().loc["basophil"].sum() == truth.count("basophil")


@pytest.mark.parametrize("entry", [{}, {"classes": ["a"], "per_class": 3}])
def test_a_foreign_file_is_not_taken_for_metrics(entry):
    with pytest.raises(DataError, match=r"metrics\.json"):
        Metrics.from_dict(entry)


@pytest.mark.parametrize(
    ("truth", "probabilities", "options", "error", "message"),
    [
        (["platelet"], [[1, 0, 0, 0]], {}, DataError, "'platelet'"),
        (["monocyte"], [[1, 0]], {}, DataError, "shape"),
        (["monocyte"], [[math.nan] * 4], {}, DataError, "1 could not be read"),
        ([], np.zeros((0, 4)), {}, DataError, "no cell is left"),
        (["monocyte"], [[1, 0, 0, 0]], {"groups": ["a", "b"]}, DataError, "2 groups"),
        (["monocyte"], [[1, 0, 0, 0]], {"resamples": -1}, SettingError, "resamples is -1"),
    ],
)
def test_mistakes_are_named(truth, probabilities, options, error, message):
    with pytest.raises(error, match=message):
        measure(truth, probabilities, CLASSES, **options)
