"""What is known of how far a model can be trusted, and how its answers are read in that light."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leukonca.errors import ModelError
from leukonca.learning.conformal import conformal_quantile
from leukonca.learning.familiarity import Familiarity

__all__ = ["FIRING_SEEDS", "FOREIGN_SHARE", "Trust"]

FIRING_SEEDS = 4
"""Over how many firing seeds a prediction is averaged where nothing else is said."""

FOREIGN_SHARE = 0.01
"""A picture is called foreign where fewer than this share of held-out cells are as strange."""


@dataclass(frozen=True, eq=False)
class Trust:
    """Calibration, conformal scores and familiarity of a model, from cells that it was not trained on.

    All of it holds for cells like those: of the laboratory, stain and camera that the model comes from.

    Attributes:
        temperature: What logits are divided by; see :func:`leukonca.learning.calibration.fit_temperature`.
        scores: float32 [n], sorted, 1 - probability of the true class of each held-out cell.
        familiarity: What the training cells are like; ``None`` where too few cells were at hand.
        fitted: Where it comes from: cells, seeds, figures before and after. JSON values.

    Raises:
        ModelError: A value is impossible.
    """

    temperature: float
    scores: npt.NDArray[np.float32]
    familiarity: Familiarity | None = None
    fitted: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ModelError(f"calibration: temperature {self.temperature!r} must be a number above 0")
        scores = self.scores
        if scores.ndim != 1 or not len(scores) or not ((scores >= 0) & (scores <= 1)).all():
            raise ModelError("calibration: the conformal scores must be numbers in 0–1, at least one")
        if (np.diff(scores) < 0).any():
            raise ModelError("calibration: the conformal scores are not sorted")

    @property
    def views(self) -> int:
        """In how many views the held-out cells were seen."""
        views = self.fitted.get("views", 1)
        return views if isinstance(views, int) else 1

    def sets(self, probabilities: npt.NDArray[np.float64], coverage: float) -> npt.NDArray[np.bool_]:
        """Return which classes belong to the prediction set of each cell, bool [N, K].

        A class belongs to it where 1 - p is at most the conformal quantile of the coverage: the score of
        M. Sadinle, J. Lei and L. Wasserman ("Least ambiguous set-valued classifiers with bounded error
        levels", J. Am. Stat. Assoc. 114 (2019) 223), which gives the smallest sets on average. Where less is
        asked than the share that the model has right, some sets are empty: no class is likely enough.

        Args:
            probabilities: float64 [N, K], calibrated; a row of NaN gives an empty set.
            coverage: Between 0 and 1.

        Raises:
            SettingError: The coverage does not lie between 0 and 1.
        """
        limit = conformal_quantile(self.scores, coverage)
        # In the precision of the scores, so that a held-out cell keeps its own class.
        return (1 - probabilities).astype(np.float32) <= np.float32(limit)
