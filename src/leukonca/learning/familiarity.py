"""How much a picture resembles the cells that a model was trained on, whatever it calls it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from leukonca.errors import ModelError

__all__ = ["FEWEST_HELD_OUT", "Familiarity"]

Floats = npt.NDArray[np.float64]

FEWEST_HELD_OUT = 20
"""With fewer held-out cells nothing can be said of the strangest few in a hundred of them."""

# Another laboratory may differ from a cell's own picture by more than training varied it: by twice as much,
# which is four times in variances. What docs/explanation/trust.md shows was measured with it.
_VARIATION = 4.0

# Features and directions whose deviation in training was a smaller share of the liveliest one's are taken to
# have varied so much: what never moved must not make every new picture infinitely strange, nor may rounding.
_SMALLEST = 1e-3
_NOTHING = 1e-9  # where not one feature moved


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Distances to the training cells in the features of a network, and how far held-out cells are.

    The distance is that of Mahalanobis to the nearest class, with one covariance for all classes (K. Lee et
    al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018), shrunk as
    O. Ledoit and M. Wolf propose (J. Multivariate Anal. 88 (2004) 365), of features in units of their
    standard deviation. To it comes what varying stain, camera and focus makes of the features: along those
    directions another laboratory's cells lie, which are no less cells for it.

    Attributes:
        whitening: float32 [F, F]; features times it have that covariance 1.
        centres: float32 [C, F], mean features of each training class, whitened.
        distances: float32 [n], sorted, of the held-out cells.

    Raises:
        ModelError: Shapes do not fit, a value is not finite, or the distances are not sorted.
    """

    whitening: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        length = len(self.whitening)
        fits = self.whitening.shape == (length, length) and self.centres.shape == (len(self.centres), length)
        if not fits or not len(self.centres) or self.distances.ndim != 1 or not len(self.distances):
            shapes = [list(array.shape) for array in (self.whitening, self.centres, self.distances)]
            raise ModelError(
                f"familiarity: whitening, centres and distances of shapes {shapes} do not fit together"
            )
        for name in ("whitening", "centres", "distances"):
            if not np.isfinite(getattr(self, name)).all():
                raise ModelError(f"familiarity: {name} has values that are not finite")
        if (np.diff(self.distances) < 0).any():
            raise ModelError("familiarity: distances are not sorted")

    @classmethod
    def fit(
        cls,
        features: Floats,
        labels: npt.NDArray[np.int64],
        held_out: Floats,
        shifts: Floats | None = None,
    ) -> Familiarity:
        """Learn what training cells are like.

        Args:
            features: float64 [N, F] of training cells.
            labels: int64 [N], their class numbers.
            held_out: float64 [V, n, F] of cells that were not trained on, in the V views that new ones will
                have; or [n, F], in one.
            shifts: float64 [M, F], by how much the features of some training cells moved as their pictures
                were varied in stain, camera and focus; ``None``: cells of other laboratories are as strange
                as they look.
        """
        present, number = np.unique(labels, return_inverse=True)
        means = np.stack([features[labels == label].mean(axis=0) for label in present])
        spread = features.std(axis=0)
        # A feature that hardly moves must not count for nothing beside one that moves much: cut-off cells
        # show in such features.
        spread = np.maximum(spread, max(_SMALLEST * float(spread.max()), _NOTHING))
        covariance = LedoitWolf(assume_centered=True).fit((features - means[number]) / spread).covariance_
        if shifts is not None and len(shifts):
            moved = shifts / spread
            # About no movement, not about the mean one: what moves all cells alike is what laboratories do.
            covariance = covariance + _VARIATION * (moved.T @ moved) / len(moved)
        variances, directions = np.linalg.eigh(covariance)
        floor = _SMALLEST**2 * max(float(variances[-1]), 1.0)
        whitening = (directions / np.sqrt(np.maximum(variances, floor)) / spread[:, None]).astype(np.float32)
        centres = (means @ whitening).astype(np.float32)
        # Measured with the numbers as they are stored, so that new cells are measured alike.
        distances = _distances(held_out, whitening, centres)
        return cls(whitening, centres, np.sort(distances).astype(np.float32))

    def distance(self, features: Floats) -> Floats:
        """Return the squared distance to the nearest class, float64 [B], the mean over the views.

        Not the distance of the mean features: a part of a cell is strange in another way in each orientation,
        and averaged it looks like a cell.

        Args:
            features: float64 [V, B, F], in each of V views; or [B, F], in one.

        Raises:
            ModelError: The features have another length.
        """
        if features.shape[-1] != len(self.whitening):
            raise ModelError(
                f"familiarity was fitted on {len(self.whitening)} features, the network gives "
                f"{features.shape[-1]}; calibrate this model anew"
            )
        return _distances(features, self.whitening, self.centres)

    def of(self, features: Floats) -> Floats:
        """Return the share of held-out cells that are at least as strange, float64 [B] in 0–1.

        Of cells like those, a share s has a familiarity below about s, so that flagging below 0.01 flags one
        in a hundred of one's own cells. 0 is stranger than all of them.
        """
        below = np.searchsorted(self.distances, self.distance(features).astype(np.float32), side="left")
        return np.asarray(1 - below / len(self.distances), dtype=np.float64)


def _distances(
    features: Floats, whitening: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]
) -> Floats:
    white = features @ whitening.astype(np.float64)
    # One class after the other: all at once would take classes times the memory.
    each = [np.square(white - centre).sum(axis=-1) for centre in centres.astype(np.float64)]
    nearest: Floats = np.min(each, axis=0)
    over_views: Floats = nearest.reshape(-1, nearest.shape[-1]).mean(axis=0)
    return over_views
