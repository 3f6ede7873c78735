from __future__ import annotations

import numpy as np
import pytest
import torch

from explanation.scenes import model, smear
from leukonca.cells.framing import Framing, frame
from leukonca.errors import SettingError
from leukonca.explanation.automaton import mean_states
from leukonca.explanation.features import vectors_of

PICTURES = np.stack([frame(smear(seed=seed)[0], Framing(32)) for seed in range(2)])
IMAGES = np.array([3, 1 << 60])


def recorded(step: int, seed: int) -> np.ndarray:
    trained = model()
    with torch.no_grad():
        run = trained.network.rollout(  # type: ignore[operator]
            trained.normalised(PICTURES), torch.from_numpy(IMAGES), seed=seed, record=frozenset([step])
        )
    return run.states[step].numpy()


def test_features_are_maximum_mean_and_deviation_of_every_channel() -> None:
    found = vectors_of(model(), PICTURES, IMAGES, seeds=2).features
    assert found.shape == (2, 3 * 16)
    assert found.dtype == np.float32
    states = [recorded(4, seed) for seed in (0, 1)]
    expected = [
        np.mean([[[statistic(channel) for channel in cell] for cell in state] for state in states], axis=0)
        for statistic in (np.max, np.mean, np.std)
    ]
    assert found == pytest.approx(np.concatenate(expected, axis=1), abs=1e-5)


@pytest.mark.parametrize("pooling", ["max", "mean", "max_mean", "attention"])
def test_pooled_is_what_the_head_sees(pooling: str) -> None:
    trained = model(pooling=pooling)
    found = vectors_of(trained, PICTURES, IMAGES, seeds=1)
    with torch.no_grad():
        run = trained.network.rollout(trained.normalised(PICTURES), torch.from_numpy(IMAGES))  # type: ignore[operator]
    assert found.pooled == pytest.approx(run.pooled.numpy(), abs=1e-5)
    if pooling == "max_mean":
        assert (found.features[:, :32] == found.pooled).all()


def test_states_are_averaged_over_the_seeds() -> None:
    found = mean_states(model(), PICTURES, IMAGES, 3, seeds=3, purpose="a test")
    assert found == pytest.approx(np.mean([recorded(3, seed) for seed in range(3)], axis=0), abs=1e-5)


def test_no_seed_is_refused() -> None:
    with pytest.raises(SettingError, match="seeds=0 must be at least 1"):
        vectors_of(model(), PICTURES, IMAGES, seeds=0)
