from __future__ import annotations

import numpy as np
import pytest
import torch

from explanation.scenes import model, smear
from leukonca.cells.framing import Framing, frame
from leukonca.errors import SettingError
from leukonca.explanation.automaton import mean_states
from leukonca.explanation.features import cell_features, default_steps

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
    found = cell_features(model(), PICTURES, IMAGES, steps=[4, 2], seeds=2)
    assert found.shape == (2, 2 * 3 * 16)
    assert found.dtype == np.float32
    expected = []
    for step in (4, 2):
        for statistic in (np.max, np.mean, np.std):
            each = [
                [[statistic(channel) for channel in cell] for cell in recorded(step, seed)] for seed in (0, 1)
            ]
            expected.append(np.mean(each, axis=0))
    assert found == pytest.approx(np.concatenate(expected, axis=1), abs=1e-5)


def test_features_hold_what_the_head_sees() -> None:
    trained = model()
    found = cell_features(trained, PICTURES, IMAGES, steps=[4], seeds=1)
    with torch.no_grad():
        run = trained.network.rollout(trained.normalised(PICTURES), torch.from_numpy(IMAGES))  # type: ignore[operator]
    assert found[:, :32] == pytest.approx(run.pooled.numpy(), abs=1e-5)


def test_states_are_averaged_over_the_seeds() -> None:
    found = mean_states(model(), PICTURES, IMAGES, 3, seeds=3, purpose="a test")
    assert found == pytest.approx(np.mean([recorded(3, seed) for seed in range(3)], axis=0), abs=1e-5)


@pytest.mark.parametrize(("steps", "chosen"), [(16, (4, 8, 16)), (4, (1, 2, 4)), (2, (1, 2)), (1, (1,))])
def test_default_steps(steps: int, chosen: tuple[int, ...]) -> None:
    assert default_steps(model(steps=steps)) == chosen


def test_no_seed_is_refused() -> None:
    with pytest.raises(SettingError, match="seeds=0 must be at least 1"):
        cell_features(model(), PICTURES, IMAGES, seeds=0)
