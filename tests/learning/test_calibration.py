from __future__ import annotations

import math

import numpy as np
import pytest

from leukonca.errors import DataError
from leukonca.learning.calibration import fit_temperature
from leukonca.learning.losses import LossName
from reference.trust import averaged, negative_log_likelihood


def drawn(temperature: float, loss: LossName, cells: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Logits of one seed, and truths drawn from the probabilities that they mean at a temperature."""
    chance = np.random.default_rng(3)
    logits = chance.normal(0, 3, (1, cells, 4))
    chances = averaged(logits, temperature, loss)
    truth = (chances.cumsum(axis=1) < chance.random((cells, 1))).sum(axis=1)
    return logits, truth


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "bce"])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_truth_is_found(loss: LossName, temperature: float) -> None:
    found = fit_temperature(*drawn(temperature, loss), loss)
    assert found == pytest.approx(temperature, rel=0.08)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_what_is_minimised_is_that_of_the_averaged_probabilities(loss: LossName) -> None:
    chance = np.random.default_rng(5)
    logits, truth = chance.normal(0, 2, (3, 40, 3)), chance.integers(0, 3, 40)
    logits[:, np.arange(40), truth] += 2

    def cost(temperature: float) -> float:
        prior = math.log(temperature) ** 2 / 2
        return negative_log_likelihood(logits, truth, temperature, loss) + prior

    found = fit_temperature(logits, truth, loss)
    around = np.geomspace(0.05, 20, 200)
    assert cost(found) <= min(cost(float(temperature)) for temperature in around) + 1e-9
    alone = fit_temperature(logits[:1], truth, loss)
    assert abs(math.log(alone / found)) > 0.02  # another number of seeds needs another temperature


def test_a_few_cells_that_are_all_right_do_not_make_a_model_sure_of_everything() -> None:
    truth = np.arange(6) % 3
    found = fit_temperature(4 * np.eye(3)[truth][None], truth, "cross_entropy")
    assert 0.5 < found <= 1


def test_without_cells_or_with_a_broken_model_there_is_no_temperature() -> None:
    with pytest.raises(DataError, match="at least one labelled cell"):
        fit_temperature(np.empty((1, 0, 2)), np.empty(0, np.int64), "bce")
    with pytest.raises(DataError, match="not finite"):
        fit_temperature(np.full((1, 1, 2), np.nan), np.zeros(1, np.int64), "bce")
