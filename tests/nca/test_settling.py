from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.settling import Settling, settle

STEPS = 16
IMAGES = torch.tensor([5, 2**40, 7, 8, 9, 10])


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def network() -> CellClassifier:
    draw = torch.Generator().manual_seed(0)
    made = CellClassifier(Architecture(size=8, channels=8, hidden=12, steps=STEPS, head_hidden=8), 3)
    made.engine = "eager"
    for parameter in made.parameters():
        parameter.uniform_(-0.35, 0.35, generator=draw)
    return made


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(len(IMAGES), 3, 8, 8, generator=torch.Generator().manual_seed(1))


def softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def by_definition(network: CellClassifier, picture: Tensor, image: Tensor, settling: Settling) -> int:
    """The step at which a picture stops, from the record of a whole rollout."""
    every, least = settling.every or 2, settling.least or 8
    states = network.rollout(picture[None], image[None], seed=3, record=frozenset(range(STEPS + 1))).states
    answers = [softmax(network.decide(states[step])[0])[0] for step in range(STEPS + 1)]
    for step in range(least, STEPS, every):
        if max(abs(answers[step] - answers[step - every]).tolist()) <= settling.tolerance:
            return step
    return STEPS


@pytest.mark.parametrize("settling", [Settling(0.02), Settling(0.05, every=3, least=4), Settling(0.01, 1, 5)])
def test_each_picture_stops_where_the_definition_says(
    settling: Settling, network: CellClassifier, pictures: Tensor
) -> None:
    logits, features, steps = settle(
        network, pictures, IMAGES, seed=3, settling=settling, probabilities=softmax
    )
    expected = [by_definition(network, *pair, settling) for pair in zip(pictures, IMAGES, strict=True)]
    assert steps.tolist() == expected
    assert len(set(expected)) > 2, "the example should have pictures that stop at different steps"
    record = frozenset(expected)
    states = network.rollout(pictures, IMAGES, seed=3, record=record).states
    for row, step in enumerate(expected):
        torch.testing.assert_close(logits[row], network.decide(states[step])[0][row], rtol=0, atol=1e-5)
        torch.testing.assert_close(features[row], network.features(states[step])[row], rtol=0, atol=1e-5)


def test_a_picture_stops_alike_in_every_batch(network: CellClassifier, pictures: Tensor) -> None:
    options = {"seed": 3, "settling": Settling(0.05), "probabilities": softmax}
    logits, _, steps = settle(network, pictures, IMAGES, **options)  # type: ignore[arg-type]
    order = torch.tensor([4, 1, 5])
    for rows in (order, *order[:, None]):
        some, _, taken = settle(network, pictures[rows], IMAGES[rows], **options)  # type: ignore[arg-type]
        assert taken.tolist() == steps[rows].tolist()
        torch.testing.assert_close(some, logits[rows], rtol=0, atol=1e-5)


def test_tolerance_zero_takes_all_steps_of_a_lively_automaton(
    network: CellClassifier, pictures: Tensor
) -> None:
    logits, _, steps = settle(network, pictures, IMAGES, seed=3, settling=Settling(0), probabilities=softmax)
    assert steps.tolist() == [STEPS] * len(IMAGES)
    torch.testing.assert_close(logits, network(pictures, IMAGES, 3), rtol=0, atol=1e-5)


def test_a_broken_picture_runs_to_the_end_and_stays_broken(network: CellClassifier, pictures: Tensor) -> None:
    pictures[1, 0, 3, 3] = math.nan
    settling = Settling(1.0)
    logits, _, steps = settle(network, pictures, IMAGES, seed=3, settling=settling, probabilities=softmax)
    assert steps.tolist() == [8, STEPS, 8, 8, 8, 8]
    assert logits.isnan().any(dim=1).tolist() == [False, True, False, False, False, False]


def test_no_pictures(network: CellClassifier, pictures: Tensor) -> None:
    logits, _, steps = settle(
        network, pictures[:0], IMAGES[:0], seed=3, settling=Settling(0.1), probabilities=softmax
    )
    assert (logits.shape, steps.shape) == ((0, 3), (0,))


@pytest.mark.parametrize(
    ("settling", "steps", "looks"),
    [
        (Settling(0.1), 64, [24, 32, 40, 48, 56, 64]),
        (Settling(0.1), 12, [5, 6, 7, 8, 9, 10, 11, 12]),
        (Settling(0.1), 1, [0, 1]),
        (Settling(0.1, every=5, least=2), 12, [0, 5, 10, 12]),
        (Settling(0.1, every=4, least=40), 12, [12]),
    ],
)
def test_when_pictures_are_looked_at(settling: Settling, steps: int, looks: list[int]) -> None:
    assert settling.looks(steps) == looks


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tolerance": -0.1}, r"settle=-0\.1: a change of a probability is in \[0, 1\]"),
        ({"tolerance": math.nan}, "settle=nan"),
        ({"tolerance": 0.1, "every": 0}, "every=0 must be at least 1"),
        ({"tolerance": 0.1, "least": -3}, "least=-3 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Settling(**values)  # type: ignore[arg-type]
