from __future__ import annotations

import json
import math

import numpy as np
import pytest

from leukonca.assessment.prediction import Predictions
from leukonca.assessment.promises import COVERAGES, REVIEWED, Promises, ReviewCurve
from leukonca.learning.trust import Trust

CLASSES = ("lymphocyte", "monocyte", "neutrophil_segmented")


def drawn(count: int, seed: int) -> tuple[Predictions, list[str]]:
    """Predictions whose probabilities are true, and the truth drawn from them; ``uncalibrated`` are not."""
    chance = np.random.default_rng(seed)
    logits = chance.normal(0, 2, (count, 3))
    table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = [CLASSES[chance.choice(3, p=row)] for row in table]
    before = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    return (
        Predictions(
            CLASSES,
            [f"{row}.png" for row in range(count)],
            table,
            np.zeros(count),
            [""] * count,
            familiarity=np.linspace(0, 1, count),
            uncalibrated=before,
        ),
        truth,
    )


def trust() -> Trust:
    """Fitted on cells of the same kind."""
    predictions, truth = drawn(2000, 1)
    own = predictions.probabilities[np.arange(2000), [CLASSES.index(name) for name in truth]]
    return Trust(3.0, np.sort(1 - own).astype(np.float32), None, {"cells": 2000})


def test_what_is_promised_at_home_comes_true() -> None:
    predictions, truth = drawn(3000, 2)
    found = Promises.of(trust(), predictions, truth, resamples=200)
    assert found.ece[1] < 0.02 < found.ece[0]
    assert found.nll[1] < found.nll[0]
    assert [figures.asked for figures in found.sets] == list(COVERAGES)
    for figures in found.sets:
        assert figures.reached.value == pytest.approx(figures.asked, abs=0.02)
        assert figures.reached.low < figures.reached.value < figures.reached.high
    assert found.foreign == pytest.approx(0.01, abs=1e-3)


def test_sets_are_counted_as_one_would_by_hand() -> None:
    predictions, truth = drawn(200, 3)
    known = trust()
    found = Promises.of(known, predictions, truth, resamples=0)
    for figures in found.sets:
        sets = known.sets(predictions.probabilities, figures.asked)
        named = [{CLASSES[k] for k in np.flatnonzero(row)} for row in sets]
        hits = [own in names for own, names in zip(truth, named, strict=True)]
        assert figures.reached.value == sum(hits) / 200
        assert math.isnan(figures.reached.low)
        assert figures.size == sum(map(len, named)) / 200
        assert figures.empty == sum(not names for names in named) / 200
        alone = [hit for hit, names in zip(hits, named, strict=True) if len(names) == 1]
        assert figures.single == len(alone) / 200
        assert figures.accuracy_of_single == pytest.approx(sum(alone) / len(alone))
        each = {name: [hit for hit, own in zip(hits, truth, strict=True) if own == name] for name in CLASSES}
        shares = {name: sum(own) / len(own) for name, own in each.items()}
        assert figures.lowest == pytest.approx(min(shares.values()))
        assert shares[figures.lowest_class] == pytest.approx(figures.lowest)
    json.dumps(found.to_dict(), allow_nan=False)


def test_labels_of_the_data_and_unknown_ones_are_seen_as_in_the_report() -> None:
    predictions, truth = drawn(50, 4)
    coarse = [name.replace("_segmented", "") for name in truth]
    coarse[0] = ""
    found = Promises.of(trust(), predictions, coarse, resamples=0)
    whole = Promises.of(trust(), predictions.subset(np.arange(50) > 0), truth[1:], resamples=0)
    assert [figures.reached.value for figures in found.sets] == [
        figures.reached.value for figures in whole.sets
    ]


def test_groups_widen_the_interval() -> None:
    predictions, truth = drawn(400, 5)
    alone = Promises.of(trust(), predictions, truth, resamples=300)
    groups = [f"slide {row // 40}" for row in range(400)]
    grouped = Promises.of(trust(), predictions, truth, groups=groups, resamples=300)
    assert grouped.sets[1].reached.value == alone.sets[1].reached.value
    assert grouped.sets[1].reached != alone.sets[1].reached
    one = Promises.of(trust(), predictions, truth, groups=["slide"] * 400, resamples=300)
    assert math.isnan(one.sets[1].reached.low)


def test_a_model_that_cannot_tell_foreign_pictures_says_nothing_of_them() -> None:
    predictions, truth = drawn(20, 6)
    plain = Predictions(CLASSES, predictions.paths, predictions.probabilities, np.zeros(20), [""] * 20)
    found = Promises.of(trust(), plain, truth, resamples=0)
    assert found.to_dict()["foreign"] is None
    assert found.ece[0] == found.ece[1]


def test_the_curve_is_the_accuracy_of_the_surest() -> None:
    chance = np.random.default_rng(7)
    confidence = chance.random(40)
    correct = chance.random(40) < confidence
    curve = ReviewCurve.of(confidence, correct)
    for share in (0.0, 0.1, 0.5, 0.99):
        left = sorted(range(40), key=lambda row: confidence[row])[math.floor(share * 40) :]
        assert curve.at(share) == pytest.approx(np.mean([correct[row] for row in left]))
    entry = curve.to_dict()
    assert entry["reviewed"] == list(REVIEWED)
    assert entry["accuracy_of_the_others"][0] == pytest.approx(correct.mean())
    assert entry["mean_error"] == pytest.approx(1 - np.mean([curve.at(r / 40) for r in range(40)]))


def test_a_single_cell_has_a_curve() -> None:
    assert ReviewCurve.of(np.array([0.4]), np.array([True])).at(0.5) == 1
