"""A trained model with all that it needs to be used: how a picture becomes its input, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.cells.framing import Framing
from leukonca.learning.losses import LossName, probabilities
from leukonca.learning.statistics import InputStatistics, Normalisation, normalise
from leukonca.learning.trust import Trust
from leukonca.nca.classifier import CellClassifier

__all__ = ["Observation", "TrainedModel"]

NO_IDS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Observation:
    """What a network made of some pictures under several firing seeds.

    Attributes:
        logits: float64 [S, B, K].
        features: float64 [B, F], the mean over the seeds; ``None`` where the network shows none.
    """

    logits: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network, its classes, and the way from a picture to its input.

    Attributes:
        network: The automaton.
        classes: Names of its outputs, in their order.
        framing: How a decoded picture becomes the square input.
        normalisation: How the input is normalised.
        statistics: Of the training cells; ``None`` where ``normalisation`` does not need them.
        loss: The loss it was trained with, which decides how logits become probabilities.
        provenance: Where it comes from: data, split, seed, settings, figures, versions. JSON values.
        seen_training: Identities (:func:`leukonca.nca.firing.image_id`) of the pictures that it was
            trained on, int64 [n], sorted. What was seen in training is never counted in an assessment.
        seen_validation: The same for the pictures that chose the best epoch, or that ``trust`` comes from.
        trust: Its calibration, and what it knows of foreign pictures; ``None`` for a model without.
    """

    network: CellClassifier
    classes: tuple[str, ...]
    framing: Framing
    normalisation: Normalisation
    statistics: InputStatistics | None
    loss: LossName
    provenance: dict[str, Any] = field(default_factory=dict)
    seen_training: npt.NDArray[np.int64] = field(default_factory=lambda: NO_IDS)
    seen_validation: npt.NDArray[np.int64] = field(default_factory=lambda: NO_IDS)
    trust: Trust | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def with_statistics(self, statistics: InputStatistics) -> TrainedModel:
        """Return the same model with other input statistics."""
        return replace(self, statistics=statistics, normalisation="training")

    def normalised(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        """Return the network's input, float32 [B, 3, S, S], of framed pictures, uint8 [B, S, S, 3]."""
        batch = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device)
        batch = batch.permute(0, 3, 1, 2).float() / 255
        return normalise(batch, self.normalisation, self.statistics)

    @torch.inference_mode()
    def observe(
        self, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seeds: int
    ) -> Observation:
        """Run the network once for each of the firing seeds 0 … ``seeds`` - 1.

        Args:
            pictures: Framed pictures, uint8 [B, S, S, 3].
            images: Identities of the pictures, int64 [B].
            seeds: Number of firing seeds, at least 1.
        """
        # The automaton has no dropout or batch statistics, but its pooling or head might one day.
        self.network.eval()
        inputs = self.normalised(pictures)
        ids = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        # A network of another kind may have no features to show.
        both = getattr(self.network, "logits_and_features", None)
        logits, features = [], []
        for seed in range(seeds):
            if both is None:
                logits.append(_array(self.network(inputs, ids, seed)))
            else:
                shown = both(inputs, ids, seed)
                logits.append(_array(shown[0]))
                features.append(_array(shown[1]))
        return Observation(np.stack(logits), np.mean(features, axis=0) if features else None)

    def stated(
        self, logits: npt.NDArray[np.float64], *, temperature: float | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the probabilities that logits stand for, both float64 [..., K].

        Args:
            logits: The network's.
            temperature: What to divide them by; by default what the model was calibrated to.
        """
        if temperature is None:
            temperature = self.trust.temperature if self.trust else 1.0
        return probabilities(torch.from_numpy(logits) / temperature, self.loss).numpy()

    @torch.inference_mode()
    def probabilities(
        self, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seed: int
    ) -> npt.NDArray[np.float64]:
        """Return the calibrated probability of each class for one firing seed, float64 [B, K].

        Args:
            pictures: Framed pictures, uint8 [B, S, S, 3].
            images: Identities of the pictures, int64 [B].
            seed: Firing seed.
        """
        self.network.eval()
        ids = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return self.stated(_array(self.network(self.normalised(pictures), ids, seed)))


def _array(tensor: Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = tensor.cpu().double().numpy()
    return array
