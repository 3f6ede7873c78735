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
from leukonca.learning.geometry import SYMMETRIES, symmetry
from leukonca.learning.losses import LossName, probabilities
from leukonca.learning.networks import Network
from leukonca.learning.pooled import PooledStatistics
from leukonca.learning.shapes import BaselineShape
from leukonca.learning.statistics import InputStatistics, Normalisation, normalise
from leukonca.learning.trust import Trust
from leukonca.nca.firing import derive_seed
from leukonca.nca.settling import Settling, settle

__all__ = ["Observation", "TrainedModel"]

# As many answers as firing seeds are averaged elsewhere.
_TURNS = 4
NO_IDS: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Observation:
    """What a network made of some pictures in R runs: in every view under every firing seed.

    Attributes:
        logits: float64 [R, B, K].
        features: float64 [V, B, F], by which foreign pictures are told, in each of the V views; the mean over
            the firing seeds.
        steps: float64 [B], steps that the automaton took, the mean over the runs; 0 for a baseline.
    """

    logits: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64]
    steps: npt.NDArray[np.float64]


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
        seen_validation: The same for the pictures that chose the best epoch, or that ``trust`` comes from.
        pooled: Mean and spread of the pooled features on its training cells, by which it can be adapted to
            another laboratory; ``None`` where they are not known.
        views: In how many of the eight orientations each picture is seen; the answers are averaged. 0, when
            it is made, stands for 1 where a firing seed matters, over which answers are averaged then, and
            for the four quarter turns where none does. A model file keeps those that ``trust`` is fitted for.
        settling: When a picture stops before the last step; ``None``: never. Not kept in a model file.
        trust: Its calibration, and what it knows of foreign pictures; ``None`` for a model without. Fitted
            for all steps; with ``settling`` it is an approximation.
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
    views: int = 0
    settling: Settling | None = None
    trust: Trust | None = None

    def __post_init__(self) -> None:
        if not self.views:
            object.__setattr__(self, "views", 1 if self.draws else _TURNS)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def draws(self) -> bool:
        """Whether its answers depend on a firing seed: not where every site fires, or nothing does."""
        shape = self.network.architecture
        return not isinstance(shape, BaselineShape) and shape.firing < 1

    def firing_seeds(self, count: int) -> range:
        """Return the firing seeds 0 … ``count`` - 1, or the first alone where the answers depend on none."""
        return range(count if self.draws else 1)

    @property
    def steps(self) -> int:
        """Steps of the automaton from the picture to the decision; 0 for a baseline."""
        shape = self.network.architecture
        return 0 if isinstance(shape, BaselineShape) else shape.steps

    def with_statistics(self, statistics: InputStatistics) -> TrainedModel:
        """Return the same model with other input statistics."""
        return replace(self, statistics=statistics, normalisation="training")

    def with_views(self, views: int) -> TrainedModel:
        """Return the same model seeing each picture in so many orientations.

        Args:
            views: 1 (as it is) to 8, in the order of :func:`leukonca.learning.geometry.symmetry`: 4 are the
                quarter turns, 8 the mirrored ones, too.

        Raises:
            SettingError: ``views`` is out of this range.
        """
        if not 1 <= views <= SYMMETRIES:
            raise SettingError(f"views={views} must be 1 to {SYMMETRIES}: the orientations of a square")
        return replace(self, views=views)

    def with_settling(self, settling: Settling | None) -> TrainedModel:
        """Return the same model stopping pictures as ``settling`` says.

        Raises:
            SettingError: The model is a baseline, which has no steps.
        """
        if settling is not None and isinstance(self.network, Baseline):
            raise SettingError(
                f"settle={settling.tolerance:g}: the baseline {self.network.architecture.kind} takes no "
                "steps of which some could be left out; leave settle away"
            )
        return replace(self, settling=settling)

    def normalised(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        """Return the network's input, float32 [B, 3, S, S], of framed pictures, uint8 [B, S, S, 3]."""
        batch = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device)
        batch = batch.permute(0, 3, 1, 2).float() / 255
        return normalise(batch, self.normalisation, self.statistics)

    @torch.inference_mode()
    def observe(
        self, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seeds: int
    ) -> Observation:
        """Run the network in each view, under the firing seeds 0 … ``seeds`` - 1, or once where none matters.

        The first view fires by the seed as it is, every other one by ``derive_seed(seed, view)``, so that
        the views of a picture do not fire alike.

        Args:
            pictures: Framed pictures, uint8 [B, S, S, 3].
            images: Identities of the pictures, int64 [B].
            seeds: Number of firing seeds, at least 1.
        """
        # As for evaluation: a baseline would else drop values and look at the whole batch.
        self.network.eval()
        inputs = self.normalised(pictures)
        ids = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        runs = [
            self._run(symmetry(inputs, view).contiguous(), ids, derive_seed(seed, view) if view else seed)
            for view in range(self.views)
            for seed in self.firing_seeds(seeds)
        ]
        features = np.stack([_array(features) for _, features, _ in runs])
        each_view = features.reshape(self.views, len(runs) // self.views, *features.shape[1:])
        return Observation(
            logits=np.stack([_array(logits) for logits, _, _ in runs]),
            # Of seeds only the mean is kept: they differ by chance, views by what the picture shows.
            features=each_view.mean(axis=1),
            steps=np.mean([_array(taken) for _, _, taken in runs], axis=0),
        )

    def _run(self, inputs: Tensor, ids: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, features, and steps taken, of one firing seed."""
        if isinstance(self.network, Baseline) or self.settling is None:
            logits, features = self.network.logits_and_features(inputs, ids, seed)
            return logits, features, torch.full((len(ids),), self.steps)
        return settle(
            self.network,
            inputs,
            ids,
            seed=seed,
            settling=self.settling,
            probabilities=lambda logits: probabilities(logits / self.temperature, self.loss),
        )

    @property
    def temperature(self) -> float:
        """What its logits are divided by before they become probabilities; 1 without calibration."""
        return self.trust.temperature if self.trust else 1.0

    def stated(
        self, logits: npt.NDArray[np.float64], *, temperature: float | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the probabilities that logits stand for, both float64 [..., K].

        Args:
            logits: The network's.
            temperature: What to divide them by; its own by default.
        """
        divisor = self.temperature if temperature is None else temperature
        return probabilities(torch.from_numpy(logits) / divisor, self.loss).numpy()

    @torch.inference_mode()
    def probabilities(
        self, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seed: int
    ) -> npt.NDArray[np.float64]:
        """Return the calibrated probability of each class for one firing seed and view, float64 [B, K].

        Args:
            pictures: Framed pictures, uint8 [B, S, S, 3].
            images: Identities of the pictures, int64 [B].
            seed: Firing seed.
        """
        self.network.eval()
        ids = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return self.stated(_array(self._run(self.normalised(pictures), ids, seed)[0]))


def _array(tensor: Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = tensor.cpu().double().numpy()
    return array
