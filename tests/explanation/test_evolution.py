from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from explanation.scenes import CLASSES, model, smear
from leukonca.cells.framing import Framing, frame
from leukonca.errors import ModelError, SettingError
from leukonca.explanation.evolution import Evolution, evolve, rank_channels
from leukonca.learning.networks import build
from leukonca.learning.shapes import BaselineShape

PICTURE = frame(smear()[0], Framing(32))


def said(rows: list[list[float]], tolerance: float = 0.05) -> Evolution:
    """An evolution of one firing seed whose classes have these probabilities."""
    maps = np.zeros((1, len(rows), 2, 2), dtype=np.float32)
    return Evolution(PICTURE, CLASSES, np.array([rows]), (4,), maps, tolerance)


def test_the_last_step_says_what_the_model_says() -> None:
    trained = model()
    told = evolve(trained, PICTURE, 77, seeds=3)
    images = np.array([77])
    for seed in range(3):
        expected = trained.probabilities(PICTURE[None], images, seed)[0]
        assert told.probabilities[seed, -1] == pytest.approx(expected, abs=1e-6)
    assert told.probabilities.shape == (3, 5, 3)
    assert told.steps == 4
    assert told.winner == told.mean[-1].argmax()


def test_every_step_is_that_of_an_automaton_with_so_many_steps() -> None:
    trained = model()
    told = evolve(trained, PICTURE, 5, seeds=1, channels=[0, 14])
    for steps in range(5):
        shorter = model(steps=max(steps, 1))
        shorter.network.load_state_dict(trained.network.state_dict())
        if steps == 0:
            state = trained.network.seed_state(trained.normalised(PICTURE[None]))  # type: ignore[operator]
            logits = trained.network.decide(state)[0].detach()  # type: ignore[operator]
        else:
            with torch.no_grad():
                run = shorter.network.rollout(  # type: ignore[operator]
                    trained.normalised(PICTURE[None]), torch.tensor([5]), seed=0
                )
            state, logits = run.state, run.logits
        assert told.probabilities[0, steps] == pytest.approx(logits.softmax(1)[0].numpy(), abs=1e-6)
        assert told.maps[:, steps] == pytest.approx(state[0, [0, 14]].numpy(), abs=1e-6)


def test_a_calibrated_model_is_calibrated_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = model()
    plain = evolve(trained, PICTURE, 5, seeds=1).probabilities
    monkeypatch.setattr(type(trained), "temperature", 2.0)
    cooled = np.sqrt(plain)
    cooled /= cooled.sum(axis=-1, keepdims=True)
    assert evolve(trained, PICTURE, 5, seeds=1).probabilities == pytest.approx(cooled, abs=1e-9)


@pytest.mark.parametrize(
    ("rows", "decided", "settled"),
    [
        ([[0.9, 0.1, 0]] * 4, 0, 0),
        ([[0.2, 0.8, 0], [0.6, 0.4, 0], [0.9, 0.1, 0], [0.92, 0.08, 0]], 1, 2),
        # It had the final class before, but left it again.
        ([[0.6, 0.4, 0], [0.4, 0.6, 0], [0.7, 0.3, 0]], 2, 2),
        # It was as it ends, but moved away once more.
        ([[0.9, 0.1, 0], [0.7, 0.3, 0], [0.9, 0.1, 0]], 0, 2),
        # A difference of the tolerance itself passes.
        ([[0.8, 0.2, 0], [0.85, 0.15, 0], [0.9, 0.1, 0]], 0, 1),
    ],
)
def test_when_it_is_decided_and_when_it_settles(rows: Any, decided: int, settled: int) -> None:
    assert (said(rows).decided, said(rows).settled) == (decided, settled)


def test_decision_is_of_the_mean_over_the_seeds() -> None:
    one = [[0.6, 0.4, 0.0], [0.9, 0.1, 0.0]]
    other = [[0.3, 0.7, 0.0], [0.8, 0.2, 0.0]]
    told = replace(said(one), probabilities=np.array([one, other]))
    assert told.mean[0] == pytest.approx([0.45, 0.55, 0])
    assert (told.winner, told.decided, told.settled) == (0, 1, 1)


@pytest.mark.parametrize("shape", [{}, {"pooling": "mean", "head": "channels"}, {"pooling": "attention"}])
def test_channels_are_ranked_by_what_scaling_them_does(shape: dict[str, Any]) -> None:
    network, exact = (model(**shape).network for _ in range(2))
    exact.double()
    state = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(1))

    def logit(scaled: torch.Tensor, row: int, class_: int) -> float:
        # decide() works in float32, too coarse for small differences.
        return float(exact.head(exact.pool(scaled))[row, class_].detach())  # type: ignore[operator, union-attr]

    order = rank_channels(network, state, torch.tensor([2, 0]))  # type: ignore[arg-type]
    for row, class_ in enumerate((2, 0)):
        effects = {}
        for channel in range(12, 16):
            values = []
            for factor in (1 + 1e-6, 1 - 1e-6):
                scaled = state.double()
                scaled[row, channel] *= factor
                values.append(logit(scaled, row, class_))
            effects[channel] = values[0] - values[1]
        assert order[row].tolist() == sorted(effects, key=lambda channel: -effects[channel])


def test_the_first_channels_are_shown_where_none_are_named() -> None:
    trained = model()
    told = evolve(trained, PICTURE, 5, top=2, seeds=1)
    run = trained.network.rollout(  # type: ignore[operator]
        trained.normalised(PICTURE[None]), torch.tensor([5]), seed=0
    )
    assert told.channels == tuple(rank_channels(trained.network, run.state)[0, :2].tolist())  # type: ignore[arg-type]


def test_wrong_use_is_refused() -> None:
    for options, message in (
        ({"seeds": 0}, "seeds=0 must be at least 1"),
        ({"top": 0}, "top=0: show at least 1 channel"),
        ({"channels": []}, "name at least one"),
        ({"channels": [16]}, r"channels \[16\]: name at least one of this automaton's, which are 0 to 15"),
        ({"tolerance": 0}, "tolerance=0: a difference of probabilities is in"),
    ):
        with pytest.raises(SettingError, match=message):
            evolve(model(), PICTURE, 5, **options)  # type: ignore[arg-type]
    pytest.importorskip("monai")
    with pytest.raises(ModelError, match="evolution looks at the states of an automaton"):
        evolve(replace(model(), network=build(BaselineShape("resnet18"), 3)), PICTURE, 5)
