from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import runs
from leukonca.assessment.expected import BLOOD, expecting, learnt_shares, shares_of
from leukonca.assessment.prediction import Predictions
from leukonca.errors import ModelError, SettingError


def said(classes, *rows, errors=None):
    n = len(rows)
    return Predictions(
        tuple(classes), [f"{i}.png" for i in range(n)], np.array(rows), np.zeros(n), errors or [""] * n
    )


def test_bayes_rule_recovers_the_posterior_of_the_place_of_use():
    """Two Gaussian classes: the posterior under any shares is known in closed form."""
    values = np.linspace(-2, 3, 11)
    likelihood = np.stack((np.exp(-(values**2) / 2), np.exp(-((values - 1) ** 2) / 2)), axis=1)

    def posterior(*shares):
        joint = likelihood * np.array(shares)
        return joint / joint.sum(axis=1, keepdims=True)

    found = expecting(
        said(("neutrophil", "eosinophil"), *posterior(0.3, 0.7)),
        {"neutrophil": 60, "eosinophil": 3},
        {"neutrophil": 0.3, "eosinophil": 0.7},
    )
    np.testing.assert_allclose(found.probabilities, posterior(60 / 63, 3 / 63), rtol=1e-12)
    assert np.isnan(found.spread).all()


def test_other_classes_and_kinds_of_a_type_keep_their_proportions():
    classes = ("neutrophil_banded", "neutrophil_segmented", "eosinophil", "platelet")
    learnt = dict(zip(classes, (0.1, 0.3, 0.4, 0.2), strict=True))
    before = said(classes, (0.1, 0.2, 0.4, 0.3))
    found = expecting(before, {"neutrophil": 2.0, "eosinophil": 1.0}, learnt).probabilities[0]
    assert found[3] == 0.3
    assert found[1] / found[0] == pytest.approx(2)
    # Learnt as often as each other, now two to one: the odds of 0.3 to 0.4 double.
    assert (found[0] + found[1]) / found[2] == pytest.approx(2 * 0.3 / 0.4)
    assert found.sum() == pytest.approx(1)


def test_what_was_learnt_changes_nothing_and_rows_keep_their_places():
    classes = ("neutrophil", "eosinophil", "platelet")
    learnt = {"neutrophil": 0.5, "eosinophil": 0.2, "platelet": 0.3}
    rows = ((0.2, 0.7, 0.1), (np.nan,) * 3, (0.0, 0.0, 1.0))
    before = said(classes, *rows, errors=["", "broken", ""])
    found = expecting(before, {"neutrophil": 5, "eosinophil": 2}, learnt)
    np.testing.assert_allclose(found.probabilities, rows, rtol=1e-12)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"neutrophil": 0.0, "eosinophil": 1.0}, "share of neutrophil, 0, must be a number above 0"),
        ({"neutrophil": float("nan"), "eosinophil": 1.0}, "nan, must be a number above 0"),
        ({"neutrophil": 1.0, "smudge_cell": 1.0}, "does not know smudge_cell"),
        ({"neutrophil": 1.0}, "two types or more"),
    ],
)
def test_shares_that_cannot_be(shares, message):
    with pytest.raises(SettingError, match=message):
        expecting(said(("neutrophil", "eosinophil"), (0.5, 0.5)), shares, {})


def test_shares_are_read():
    assert shares_of("Blood") == dict(BLOOD)
    assert shares_of("Neutrophils=60, eosinophil=3") == {"neutrophil": 60.0, "eosinophil": 3.0}
    for text, message in (("neutrophil", "TYPE=SHARE"), ("monocyte=1,monocyte=2", "comes twice")):
        with pytest.raises(SettingError, match=message):
            shares_of(text)


@pytest.mark.parametrize("balance", ["none", "sampling", "sqrt", "weights"])
def test_a_model_knows_what_its_training_showed(balance):
    model = runs.run().model()
    counts = dict(zip(model.classes, range(4, 4 + 3 * len(model.classes), 3), strict=True))
    settings = {"balance": balance, "weight_scheme": "inverse"}
    model = replace(model, provenance={"cells": {"train": counts}, "settings": settings})
    found = np.array([learnt_shares(model)[name] for name in model.classes])
    n = np.array(list(counts.values()), dtype=float)
    power = {"none": 1, "sampling": 0, "sqrt": 0.5, "weights": 0}[balance]
    np.testing.assert_allclose(found, n**power / (n**power).sum())


def test_a_model_that_does_not_know_says_so():
    model = runs.run().model()
    with pytest.raises(ModelError, match="train it anew"):
        learnt_shares(replace(model, provenance={}))
    adapted = {**model.provenance, "adapted": [{"labels": {"monocyte": 5}}]}
    with pytest.raises(ModelError, match="was adapted with labels"):
        learnt_shares(replace(model, provenance=adapted))
    unlabelled = {**model.provenance, "adapted": [{"labels": {}}]}
    assert learnt_shares(replace(model, provenance=unlabelled)) == learnt_shares(model)
