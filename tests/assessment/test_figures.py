from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from leukonca.assessment.figures import (
    confusion_figure,
    f1_figure,
    history_figure,
    reliability_figure,
    review_figure,
    save_figure,
    title_of,
    to_png,
)
from leukonca.assessment.intervals import Estimate
from leukonca.assessment.metrics import measure
from leukonca.assessment.promises import ReviewCurve, SetFigures
from leukonca.errors import SettingError
from leukonca.vocabulary import CLASS_SETS

PNG = b"\x89PNG\r\n\x1a\n"


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("classes", [("a", "b"), CLASS_SETS["eight"], CLASS_SETS["thirteen"]])
def test_a_confusion_matrix_says_every_count_and_every_name(classes):
    k = len(classes)
    counts = np.arange(1, k * k + 1).reshape(k, k)
    counts[0] = 0  # a class without cells
    figure = confusion_figure(counts, classes)
    axes = figure.axes[0]
    assert texts(axes) == [str(number) for number in counts[1:].ravel()]
    titles = [title_of(name) for name in classes]
    assert [label.get_text() for label in axes.get_xticklabels()] == titles
    assert [label.get_text() for label in axes.get_yticklabels()] == titles
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares[1:].sum(axis=1), 1)
    assert to_png(figure).startswith(PNG)


def test_a_user_s_class_is_neither_a_formula_nor_too_long():
    figure = confusion_figure(np.eye(2, dtype=int), ["$\\frac$", "x" * 90])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[0] == "$\\frac$"
    assert len(labels[1]) < 30
    assert to_png(figure).startswith(PNG)  # drawing a formula that is none would fail


def test_a_reliability_diagram_has_a_point_a_filled_bin():
    confidence = np.array([0.05, 0.95, 0.97, 0.99])
    figure = reliability_figure(confidence, [False, True, True, False], bins=10)
    points = figure.axes[0].lines[1]
    np.testing.assert_allclose(points.get_xdata(), [0.05, 0.97])
    np.testing.assert_allclose(points.get_ydata(), [0, 2 / 3])
    heights = [patch.get_height() for patch in figure.axes[1].patches]
    assert heights == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]


def test_the_f1_of_classes_without_cells_is_not_drawn():
    metrics = measure(["a", "b", "a"], np.eye(3)[[0, 1, 1]], ("a", "b", "c"), resamples=20)
    labels = [label.get_text() for label in f1_figure(metrics).axes[0].get_yticklabels()]
    assert labels == ["b  (n = 1)", "a  (n = 2)"]  # drawn from below


def test_a_history_is_averaged_by_epoch_and_parted_by_kind():
    history = pd.DataFrame(
        {
            "epoch": [0, 0, 0, 1],
            "train_loss": [3.0, 1.0, np.nan, 1.0],
            "val_acc": [np.nan, np.nan, 0.5, 0.75],
            "lr": [0.1] * 4,
            "empty_loss": [np.nan] * 4,
        }
    )
    losses, scores = history_figure(history).axes
    assert [line.get_label() for line in losses.lines] == ["train loss"]
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), [2, 1])
    np.testing.assert_array_equal(scores.lines[0].get_ydata(), [0.5, 0.75])
    assert history_figure(history[["epoch", "lr"]]) is None
    assert history_figure(history.iloc[:0]) is None


def test_a_figure_is_written_the_same_each_time(tmp_path):
    def figure():
        return confusion_figure(np.eye(2, dtype=int), "ab")

    save_figure(figure(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == to_png(figure())
    save_figure(figure(), tmp_path / "a.svg")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    with pytest.raises(SettingError, match=r"\.png or \.svg"):
        save_figure(figure(), tmp_path / "a.pdf")


def test_reports_load_neither_windows_nor_tensors():
    # In a process of its own: other tests' libraries load both.
    code = (
        "import sys, leukonca.assessment.crossval; print({'matplotlib.pyplot', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_review_figure_marks_the_sets_that_leave_something_to_the_model():
    curve = ReviewCurve.of(np.linspace(0.5, 1, 10), np.arange(10) > 2)
    sets = [
        SetFigures(0.9, Estimate(0.9), 0.8, "a", 1.1, 0.8, 0.95, 0.0),
        SetFigures(0.99, Estimate(0.99), 0.9, "a", 3.0, 0.0, float("nan"), 0.0),
    ]
    axes = review_figure(curve, sets).axes[0]
    line, marks = axes.lines
    np.testing.assert_allclose(line.get_ydata(), curve.accuracy[:6])
    np.testing.assert_allclose([marks.get_xdata(), marks.get_ydata()], [[0.2], [0.95]])
    assert texts(axes) == ["90%"]
    assert len(review_figure(curve).axes[0].lines) == 1
