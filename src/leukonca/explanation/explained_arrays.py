"""The arrays of an explained cell, for whoever wants to compute with them.

S is the side of what the model sees in pixels, n its sites a side, T its steps, C its channels and K its
classes.

================================  ==================================================================
key                               content
================================  ==================================================================
``classes``                       names of the K classes
``probabilities``                 float64 [K], as ``classify`` gives them
``explained``, ``against``        numbers of the explained class and of the one that it is held against
``picture``                       uint8 [H, W, 3], as decoded
``framed``                        uint8 [S, S, 3], what the model sees
``place``                         float64 [4], where that lies in the picture: left, top, width, height, px
``mask``                          uint8 [H, W]: 0 around the cell, 128 its cytoplasm, 255 its nucleus
``relevance_pixels``              float32 [3, S, S], of the red, green and blue of each pixel, in logits
``relevance_value``               the explained number: the logit of the explained class
``relevance_background``          what the model says of the empty field
``relevance_bias``, ``…_stabiliser``, ``…_remainder``  float32 [T + 1], what else was absorbed in each step
``relevance_by_channel``          float32 [T + 1, C], relevance of each channel after each step
``relevance_by_site``             float32 [T + 1, n, n], of each site
``contrast_…``                    the same of the difference of the two logits
``channel_relevance``             float32 [C], contribution of each channel by the published method
``channel_order``                 int64 [C], channels from the most to the least relevant
``channel_steps``                 the steps of ``channel_maps``
``channel_maps``                  float32 [top, steps, n, n], sigmoid(x - 5) of the first channels of it
``channel_masks``                 bool [top, n, n], where such a channel is above its own 0.98 quantile
``evolution_channels``            int64 [top], the shown channels
``evolution_maps``                float32 [top, T + 1, n, n], their values under firing seed 0
``evolution_probabilities``       float64 [seeds, T + 1, K], after 0 … T steps
``decided``, ``settled``          the steps of that name
================================  ==================================================================

``relevance_pixels``, ``relevance_background``, ``relevance_bias``, ``relevance_stabiliser`` and
``relevance_remainder`` sum to ``relevance_value``; so do those of the contrast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from leukonca.explanation.explained import CellExplanation
from leukonca.explanation.relevance import Relevance

__all__ = ["arrays_of"]


def arrays_of(cell: CellExplanation) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a cell by the names above; none of them holds objects."""
    found, shown = cell.channels, cell.evolution
    return {
        "classes": np.array(cell.classes),
        "probabilities": cell.call.probabilities,
        "explained": np.array(cell.explained),
        "against": np.array(cell.against),
        "picture": cell.picture,
        "framed": cell.framed,
        "place": np.array(cell.place, dtype=np.float64),
        "mask": cell.outline.labelled,
        **_relevance("relevance", cell.relevance),
        **_relevance("contrast", cell.contrast),
        "channel_relevance": _array(found.relevance[0]),
        "channel_order": _array(found.order[0]),
        "channel_steps": np.array(found.steps),
        "channel_maps": _array(found.maps[0]),
        "channel_masks": _array(found.masks[0]),
        "evolution_channels": np.array(shown.channels, dtype=np.int64),
        "evolution_maps": shown.maps,
        "evolution_probabilities": shown.probabilities,
        "decided": np.array(shown.decided),
        "settled": np.array(shown.settled),
    }


def _relevance(name: str, relevance: Relevance) -> dict[str, npt.NDArray[Any]]:
    parts = ("pixels", "value", "background", "bias", "stabiliser", "remainder", "by_channel", "by_site")
    return {f"{name}_{part}": _array(getattr(relevance, part)[0]) for part in parts}


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.cpu().numpy()
    return array
