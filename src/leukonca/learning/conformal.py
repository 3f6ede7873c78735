"""Prediction sets that hold the truth as often as was asked."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from leukonca.errors import SettingError

__all__ = ["conformal_quantile", "require_coverage"]


def require_coverage(coverage: float) -> None:
    """Check a coverage that was asked for.

    Raises:
        SettingError: It does not lie between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise SettingError(f"coverage={coverage!r} must lie between 0 and 1, such as 0.95")


def conformal_quantile(scores: npt.NDArray[np.floating], coverage: float) -> float:
    """Return the score up to which a class belongs to a prediction set.

    Split conformal prediction (V. Vovk, A. Gammerman, G. Shafer, *Algorithmic Learning in a Random World*,
    2005): with n held-out cells it is the ⌈(n + 1) · coverage⌉-th smallest score of their true classes. The
    set of a new cell *of the same kind* then holds its true class with at least that probability, over the
    choice of the held-out cells and the new one together.

    Args:
        scores: float [n], sorted, how little the true class of each held-out cell conforms.
        coverage: Between 0 and 1.

    Returns:
        The score, ∞ where so few cells cannot promise that coverage: every class then belongs to the set.

    Raises:
        SettingError: The coverage does not lie between 0 and 1.
    """
    require_coverage(coverage)
    # Rounded, so that 20 · 0.95 stays 19 whatever binary fractions make of it.
    rank = math.ceil(round((len(scores) + 1) * coverage, 9))
    return math.inf if rank > len(scores) else float(scores[rank - 1])
