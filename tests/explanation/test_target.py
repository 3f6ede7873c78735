from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from leukonca.errors import SettingError
from leukonca.explanation.target import Target

LOGITS = torch.tensor([[1.0, 3.0, -2.0], [0.5, 0.0, 4.0]], dtype=torch.float64)
CLASSES = torch.tensor([1, 0])


def test_values() -> None:
    assert Target("logit", CLASSES).value(LOGITS).tolist() == [3.0, 0.5]
    assert Target("class", CLASSES, torch.tensor([2, 1])).value(LOGITS).tolist() == [5.0, 0.5]
    odds = [3 - math.log(math.exp(1) + math.exp(-2)), 0.5 - math.log(1 + math.exp(4))]
    assert Target("rest", CLASSES).value(LOGITS).tolist() == pytest.approx(odds)


def test_against_the_rest_is_the_log_odds_of_softmax() -> None:
    share = LOGITS.softmax(1)[[0, 1], CLASSES]
    torch.testing.assert_close(Target("rest", CLASSES).value(LOGITS), (share / (1 - share)).log())


@pytest.mark.parametrize("kind", ["logit", "rest", "class"])
def test_weights_are_the_gradient(kind: Any) -> None:
    target = Target(kind, CLASSES, torch.tensor([2, 1]) if kind == "class" else None)
    logits = LOGITS.clone().requires_grad_(True)
    target.value(logits).sum().backward()
    torch.testing.assert_close(target.weights(LOGITS), logits.grad)


@pytest.mark.parametrize("kind", ["logit", "rest", "class"])
@pytest.mark.parametrize("far", [1.0, 15.0])
def test_weights_cover_the_difference_from_a_reference(kind: Any, far: float) -> None:
    target = Target(kind, CLASSES, torch.tensor([2, 1]) if kind == "class" else None)
    reference = torch.tensor([[-1.0, 0.5, 1.0], [1.0, -0.5, -1.0]], dtype=torch.float64) * far
    weights = target.weights(LOGITS, reference)
    covered = (weights * (LOGITS - reference)).sum(1)
    torch.testing.assert_close(covered, target.value(LOGITS) - target.value(reference), rtol=1e-9, atol=1e-9)


def test_rows_are_chosen_and_repeated() -> None:
    target = Target("class", CLASSES, torch.tensor([2, 1])).rows(torch.tensor([1, 1, 0]))
    assert target.classes.tolist() == [0, 0, 1]
    assert target.others is not None
    assert target.others.tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("odds", CLASSES), "target 'odds' is unknown; known: logit, rest, class"),
        (("class", CLASSES), "others belong to 'class'"),
        (("logit", CLASSES, CLASSES), "others belong to 'class'"),
        (("logit", torch.tensor([0.5])), "classes must be int64 [B], not torch.float32 [1]"),
        (("class", CLASSES, torch.tensor([1])), "others must be int64 [B], not torch.int64 [1]"),
        (("class", CLASSES, torch.tensor([2, 0])), "picture 1 holds class 0 against itself"),
    ],
)
def test_impossible_targets_are_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(SettingError, match=re.escape(words)):
        Target(*arguments)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([0, 3], "classes from 0 to 3, but the model has 3"),
        ([-1, 0], "classes from -1 to 0, but the model has 3"),
        ([0, 1, 2], "target of 3 pictures does not fit logits of shape [2, 3]"),
    ],
)
def test_classes_that_the_model_has_not_are_refused(classes: list[int], words: str) -> None:
    for ask in (Target("rest", torch.tensor(classes)).value, Target("rest", torch.tensor(classes)).weights):
        with pytest.raises(SettingError, match=re.escape(words)):
            ask(LOGITS)
