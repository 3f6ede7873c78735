"""Probabilities that come true: the temperature of a model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar

from leukonca.errors import DataError
from leukonca.learning.losses import LossName, probabilities

__all__ = ["fit_temperature"]

Floats = npt.NDArray[np.float64]

_LOWEST, _HIGHEST = 0.05, 20.0


def fit_temperature(logits: Floats, truth: npt.NDArray[np.int64], loss: LossName) -> float:
    """Return the temperature T under which the averaged probabilities explain the truth best.

    Logits are divided by T before they become probabilities (C. Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017), and these are averaged over the firing seeds, as in a prediction. T minimises

        - Σ log(mean over seeds of p(truth)) + (log T)² / 2

    The second term, a log-normal prior around 1, is nothing beside some hundred cells. It matters where all
    of a few cells are right: without it T would fall to 0, and the model be sure of everything.

    Args:
        logits: float64 [S, N, K], of S firing seeds and N cells; N at least 1.
        truth: int64 [N], class numbers.
        loss: The loss that the model was trained with.

    Returns:
        T in [0.05, 20]. Below 1 the model was too modest (label smoothing makes it so), above 1 too sure.

    Raises:
        DataError: There is no cell, or a logit is not finite.
    """
    if not len(truth):
        raise DataError("calibration needs at least one labelled cell that the model was not trained on")
    if not np.isfinite(logits).all():
        raise DataError("calibration: the model gives logits that are not finite; it cannot be used")
    every, own = torch.from_numpy(logits), torch.from_numpy(truth)[:, None]

    def cost(log_temperature: float) -> float:
        mean = probabilities(every / math.exp(log_temperature), loss).mean(0)
        # A probability of 0 is a rounding of what is at least this.
        likelihood = mean.gather(1, own).clamp(min=1e-300).log().sum()
        return float(log_temperature**2 / 2 - likelihood)

    bounds = (math.log(_LOWEST), math.log(_HIGHEST))
    return math.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x)
