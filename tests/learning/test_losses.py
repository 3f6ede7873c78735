from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leukonca.errors import SettingError
from leukonca.learning.losses import make_loss, probabilities

NAMES = ("bce", "cross_entropy", "focal")
LOGITS = torch.tensor([[0.0, math.log(3.0)], [math.log(3.0), 0.0]])
TARGET = torch.tensor([1, 1])
WEIGHTS = [0.5, 1.0, 1.5, 1.0]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return 3 * torch.randn(10, 4, generator=generator), torch.arange(10) % 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4: entries log 2, log 4/3 | log 4, log 2.
        ("bce", (math.log(2) + math.log(4 / 3) + math.log(4) + math.log(2)) / 4),
        # softmax of (0, log 3) is (1/4, 3/4).
        ("cross_entropy", (math.log(4 / 3) + math.log(4)) / 2),
        ("focal", ((1 / 4) ** 2 * math.log(4 / 3) + (3 / 4) ** 2 * math.log(4)) / 2),
    ],
)
def test_values_worked_out_by_hand(name, value: float) -> None:
    assert make_loss(name)(LOGITS, TARGET).item() == pytest.approx(value, rel=1e-6)


def test_label_smoothing_worked_out_by_hand() -> None:
    loss = make_loss("cross_entropy", label_smoothing=0.2)(LOGITS[:1], TARGET[:1])
    assert loss.item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4), rel=1e-6)


def test_bce_is_torchs_on_one_hot_labels() -> None:
    logits, target = batch()
    expected = F.binary_cross_entropy(torch.sigmoid(logits), F.one_hot(target, 4).float())
    torch.testing.assert_close(make_loss("bce")(logits, target), expected)


def test_cross_entropy_is_torchs() -> None:
    logits, target = batch()
    loss = make_loss("cross_entropy", class_weights=WEIGHTS, label_smoothing=0.1)
    expected = F.cross_entropy(logits, target, weight=torch.tensor(WEIGHTS), label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, target), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_without_focus_is_cross_entropy(weights: list[float] | None) -> None:
    logits, target = batch()
    focal = make_loss("focal", class_weights=weights, gamma=0.0)
    torch.testing.assert_close(
        focal(logits, target), make_loss("cross_entropy", class_weights=weights)(logits, target)
    )


@pytest.mark.parametrize("name", NAMES)
def test_class_weights_make_the_weighted_mean_of_the_pictures(name) -> None:
    logits, target = batch()
    plain = make_loss(name)
    each = torch.stack([plain(logits[i : i + 1], target[i : i + 1]) for i in range(10)])
    weights = torch.tensor(WEIGHTS)[target]
    expected = (weights * each).sum() / weights.sum()
    torch.testing.assert_close(make_loss(name, class_weights=WEIGHTS)(logits, target), expected)


@pytest.mark.parametrize("name", NAMES)
def test_equal_class_weights_change_nothing(name) -> None:
    logits, target = batch()
    torch.testing.assert_close(
        make_loss(name, class_weights=[2.0] * 4)(logits, target), make_loss(name)(logits, target)
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.0, 50.0, 1e4, 1e30])
def test_gradients_stay_finite_at_extreme_logits(name, gamma: float, size: float) -> None:
    logits = (torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]) * size).requires_grad_()
    loss = make_loss(name, gamma=gamma, class_weights=[1.0, 2.0, 3.0])(logits, torch.tensor([0, 0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_focal_gradient_is_that_of_its_definition() -> None:
    logits, target = batch()
    logits = logits.double().requires_grad_()
    p = logits.softmax(1)[torch.arange(10), target]
    (expected,) = torch.autograd.grad((-((1 - p) ** 2) * p.log()).mean(), logits)
    (ours,) = torch.autograd.grad(make_loss("focal")(logits, target), logits)
    torch.testing.assert_close(ours, expected)


def test_class_weights_are_no_part_of_the_models_weights() -> None:
    assert not make_loss("focal", class_weights=WEIGHTS).state_dict()


@pytest.mark.parametrize("name", NAMES)
@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-30, 30, width=32)))
def test_probabilities_rank_as_the_logits_and_sum_to_one(name, logits: np.ndarray) -> None:
    result = probabilities(torch.from_numpy(logits), name).numpy()
    assert result.dtype == np.float64
    np.testing.assert_allclose(result.sum(1), 1)
    for row, scores in zip(result, logits, strict=True):
        # Rounded equals are allowed, reversals are not.
        assert (np.diff(row[np.argsort(scores, kind="stable")]) >= -1e-15).all()


def test_probabilities_of_bce_are_normalised_sigmoids() -> None:
    logits, _ = batch()
    scores = torch.sigmoid(logits.double())
    torch.testing.assert_close(probabilities(logits, "bce"), scores / scores.sum(1, keepdim=True))
    torch.testing.assert_close(probabilities(logits, "focal"), logits.double().softmax(1))


def test_probabilities_of_bce_survive_vanishing_and_saturated_scores() -> None:
    vanishing, saturated = probabilities(torch.tensor([[-2e3, -2.001e3, -3e3], [20.0, 21.0, 19.0]]), "bce")
    torch.testing.assert_close(vanishing, torch.tensor([-2e3, -2.001e3, -3e3]).double().softmax(0))
    assert saturated.argmax() == 1
    assert saturated.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "hinge"}, "'hinge'.*bce, cross_entropy, focal"),
        ({"name": "cross_entropy", "label_smoothing": 1.0}, r"label_smoothing = 1\.0"),
        ({"name": "focal", "gamma": -1.0}, r"gamma = -1\.0"),
        ({"name": "focal", "gamma": math.nan}, "gamma = nan"),
        ({"name": "bce", "class_weights": [1.0, 0.0]}, r"class_weights = \[1\.0, 0\.0\]"),
        ({"name": "bce", "class_weights": [[1.0]]}, "class_weights"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make_loss(**options)


def test_probabilities_of_an_unknown_loss_are_refused() -> None:
    with pytest.raises(SettingError, match="'hinge'"):
        probabilities(LOGITS, "hinge")  # type: ignore[arg-type]
