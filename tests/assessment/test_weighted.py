from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from leukonca.assessment.weighted import (
    calibration_bin,
    confusion_matrices,
    expected_calibration_error,
    mean_known,
    ranking,
    ratio,
)
from reference import classification


@st.composite
def ranked_cells(draw):
    n = draw(st.integers(1, 25))
    positive = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    scores = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))  # few values: many ties
    weights = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return np.array(positive), np.array(scores) / 6, np.array(weights, float)


@given(ranked_cells())
@settings(max_examples=300, deadline=None)
def test_ranking_is_the_slow_definition_with_ties_and_weights(cells):
    positive, scores, weights = cells
    auroc, precision = ranking(positive, scores, weights[:, None])
    np.testing.assert_allclose(auroc[0], classification.auroc(positive, scores, weights), rtol=1e-12)
    np.testing.assert_allclose(
        precision[0], classification.average_precision(positive, scores, weights), rtol=1e-12
    )


@pytest.mark.parametrize("decimals", [1, 12])
def test_ranking_is_scikit_learn_with_sample_weight(decimals):
    generator = np.random.default_rng(3)
    positive = generator.random(200) < 0.3
    scores = np.round(generator.random(200) + 0.3 * positive, decimals)
    weights = generator.integers(0, 4, size=(200, 7)).astype(float)
    auroc, precision = ranking(positive, scores, weights)
    for r in range(7):
        assert auroc[r] == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights[:, r]))
        assert precision[r] == pytest.approx(
            average_precision_score(positive, scores, sample_weight=weights[:, r])
        )


def test_confusion_is_scikit_learn_with_sample_weight():
    generator = np.random.default_rng(4)
    truth, predicted = generator.integers(0, 5, size=(2, 90))
    truth[truth == 3] = 2  # a class without cells
    weights = generator.integers(0, 4, size=(90, 6)).astype(float)
    matrices = confusion_matrices(truth, predicted, 5, weights)
    assert matrices.shape == (6, 5, 5)
    for r in range(6):
        expected = confusion_matrix(truth, predicted, labels=range(5), sample_weight=weights[:, r])
        np.testing.assert_array_equal(matrices[r], expected)


def test_calibration_error_is_that_of_torchmetrics():
    generator = np.random.default_rng(5)
    probabilities = generator.dirichlet([0.5] * 4, size=400)
    truth = generator.integers(0, 4, size=400)
    ours = expected_calibration_error(
        probabilities.max(axis=1), probabilities.argmax(axis=1) == truth, np.ones((400, 1))
    )
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=4, n_bins=15, norm="l1"
    )
    assert ours[0] == pytest.approx(float(theirs), abs=1e-6)


def test_calibration_error_of_weights_is_that_of_the_cells_written_out():
    generator = np.random.default_rng(6)
    confidence, correct = generator.random(50), generator.random(50) < 0.5
    weights = generator.integers(0, 4, size=(50, 3)).astype(float)
    together = expected_calibration_error(confidence, correct, weights)
    for r in range(3):
        sure, right = (classification.repeated(values, weights[:, r]) for values in (confidence, correct))
        alone = expected_calibration_error(sure, right, np.ones((len(sure), 1)))
        assert together[r] == pytest.approx(alone[0])


def test_bins_hold_their_upper_edge_and_both_ends_of_the_scale():
    assert calibration_bin(np.array([0.0, 0.25, 0.2500001, 1.0]), 4).tolist() == [0, 0, 1, 3]


def test_a_ratio_to_nothing_and_a_mean_of_nothing_are_unknown():
    np.testing.assert_array_equal(ratio([1.0, 1.0], [2.0, 0.0]), [0.5, np.nan])
    np.testing.assert_array_equal(mean_known(np.array([[1.0, np.nan, 3.0], [np.nan] * 3])), [2.0, np.nan])
