from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest

from leukonca.assessment.crossval import over_folds, write_crossval_report
from leukonca.assessment.metrics import measure
from leukonca.assessment.prediction import Predictions
from leukonca.errors import DataError

CLASSES = ("basophil", "monocyte", "platelet")


def fold(*right, classes=CLASSES):
    """A fold of basophils, each called right or called a monocyte."""
    table = np.eye(len(classes))[[0 if value else 1 for value in right]]
    return measure(["basophil"] * len(right), table, classes, resamples=0)


def test_mean_and_deviation_are_those_of_a_sample_of_folds():
    folds = [fold(1, 1, 1, 1), fold(1, 1, 1, 0), fold(1, 0, 0, 0)]
    summary = over_folds(folds)
    assert summary["accuracy"]["mean"] == pytest.approx(2 / 3)
    assert summary["accuracy"]["sd"] == pytest.approx(statistics.stdev([1.0, 0.75, 0.25]))
    assert summary["per_class"]["basophil"]["recall"]["folds"] == 3
    assert summary["per_class"]["platelet"]["f1"]["folds"] == 0
    assert math.isnan(summary["per_class"]["platelet"]["f1"]["mean"])


def test_one_fold_has_no_deviation():
    assert math.isnan(over_folds([fold(1, 0)])["accuracy"]["sd"])


def test_folds_must_be_there_and_alike():
    with pytest.raises(DataError, match="without folds"):
        over_folds([])
    with pytest.raises(DataError, match="fold 1 has the classes basophil, monocyte, "):
        over_folds([fold(1), fold(1, classes=("basophil", "monocyte"))])


def test_a_report_of_folds_holds_each_and_all(tmp_path):
    generator = np.random.default_rng(0)
    truth = [CLASSES[index] for index in generator.integers(0, 2, size=60)]
    table = generator.dirichlet(np.ones(3), size=60)
    pooled = Predictions(CLASSES, [f"{i}.png" for i in range(60)], table, np.zeros(60), [""] * 60)
    folds = [measure(truth[i::3], table[i::3], CLASSES, resamples=0) for i in range(3)]
    metrics = write_crossval_report(
        tmp_path,
        folds,
        pooled,
        truth,
        {"Model": "tiny"},
        load_picture=lambda _: np.zeros((8, 8, 3), np.uint8),
        resamples=20,
    )
    entry = json.loads((tmp_path / "crossval.json").read_text("utf-8"))
    assert len(entry["folds"]) == 3
    assert entry["pooled"] == metrics.to_dict()
    assert entry["summary"]["per_class"]["platelet"]["f1"]["mean"] is None
    np.testing.assert_array_equal(metrics.confusion, sum(fold.confusion for fold in folds))
    page = (tmp_path / "crossval.html").read_text("utf-8")
    mean, deviation = (100 * entry["summary"]["accuracy"][key] for key in ("mean", "sd"))
    gap = "\N{NO-BREAK SPACE}"
    assert f"{mean:.1f}{gap}±{gap}{deviation:.1f}{gap}%" in page
    assert f"3{gap}models were trained" in page
    assert {file.name for file in tmp_path.iterdir()} == {
        "predictions.csv",
        "confusion.csv",
        "confusion.png",
        "reliability.png",
        "crossval.html",
        "crossval.json",
    }
