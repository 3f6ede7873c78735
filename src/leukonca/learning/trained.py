"""A trained model with all that it needs to be used: how a picture becomes its input, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.cells.framing import Framing
from leukonca.errors import SettingError
from leukonca.learning.baselines import Baseline
from leukonca.learning.losses import LossName, probabilities
from leukonca.learning.networks import Network
from leukonca.learning.pooled import PooledStatistics
from leukonca.learning.shapes import BaselineShape
from leukonca.learning.statistics import InputStatistics, Normalisation, normalise
from leukonca.nca.settling import Settling, settle

__all__ = ["TrainedModel"]

NO_IDS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network, its classes, and the way from a picture to its input.

    Attributes:
        network: The automaton or baseline.
        classes: Names of its outputs, in their order.
        framing: How a decoded picture becomes the square input.
        normalisation: How the input is normalised.
        statistics: Of the training cells; ``None`` where ``normalisation`` does not need them.
        loss: The loss it was trained with, which decides how logits become probabilities.
        provenance: Where it comes from: data, split, seed, settings, figures, versions. JSON values.
        seen_training: Identities (:func:`leukonca.nca.firing.image_id`) of the pictures that it was
            trained on, int64 [n], sorted. What was seen in training is never counted in an assessment.
        seen_validation: The same for the pictures that chose the best epoch.
        pooled: Mean and spread of the pooled features on its training cells, by which it can be adapted to
            another laboratory; ``None`` where they are not known.
        settling: When a picture stops before the last step; ``None``: never. Not kept in a model file.
    """

    network: Network
    classes: tuple[str, ...]
    framing: Framing
    normalisation: Normalisation
    statistics: InputStatistics | None
    loss: LossName
    provenance: dict[str, Any] = field(default_factory=dict)
    seen_training: npt.NDArray[np.int64] = field(default_factory=lambda: NO_IDS)
    seen_validation: npt.NDArray[np.int64] = field(default_factory=lambda: NO_IDS)
    pooled: PooledStatistics | None = None
    settling: Settling | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def draws(self) -> bool:
        """Whether its answers depend on a firing seed; those of a baseline do not."""
        return not isinstance(self.network, Baseline)

    @property
    def steps(self) -> int:
        """Steps of the automaton from the picture to the decision; 0 for a baseline."""
        shape = self.network.architecture
        return 0 if isinstance(shape, BaselineShape) else shape.steps

    def with_statistics(self, statistics: InputStatistics) -> TrainedModel:
        """Return the same model with other input statistics."""
        return replace(self, statistics=statistics, normalisation="training")

    def with_settling(self, settling: Settling | None) -> TrainedModel:
        """Return the same model stopping pictures as ``settling`` says.

        Raises:
            SettingError: It is a baseline, which takes no steps.
        """
        if settling is not None and not self.steps:
            raise SettingError("a baseline takes no steps, so that none can be saved; leave settle away")
        return replace(self, settling=settling)

    def normalised(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        """Return the network's input, float32 [B, 3, S, S], of framed pictures, uint8 [B, S, S, 3]."""
        batch = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device)
        batch = batch.permute(0, 3, 1, 2).float() / 255
        return normalise(batch, self.normalisation, self.statistics)

    def probabilities(
        self, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seed: int
    ) -> npt.NDArray[np.float64]:
        """Return the probability of each class for one firing seed, float64 [B, K].

        Args:
            pictures: Framed pictures, uint8 [B, S, S, 3].
            images: Identities of the pictures, int64 [B].
            seed: Firing seed.
        """
        return self.probabilities_and_steps(pictures, images, seed)[0]

    @torch.inference_mode()
    def probabilities_and_steps(
        self, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seed: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return what :meth:`probabilities` does, and how many steps each picture took, int64 [B]."""
        # As for evaluation: a baseline would else drop values and look at the whole batch.
        self.network.eval()
        ids = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        inputs = self.normalised(pictures)
        if self.settling is None or isinstance(self.network, Baseline):
            logits = self.network(inputs, ids, seed)
            steps = torch.full((len(ids),), self.steps)
        else:
            logits, steps = settle(
                self.network,
                inputs,
                ids,
                seed=seed,
                settling=self.settling,
                probabilities=lambda logits: probabilities(logits, self.loss),
            )
        return probabilities(logits, self.loss).double().cpu().numpy(), steps.cpu().numpy()
