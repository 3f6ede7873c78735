"""Asking for one answer to differently stained versions of one cell.

After D. Hendrycks et al., "AugMix: a simple data processing method to improve robustness and uncertainty",
arXiv 1912.02781 (2020), here with two versions, each of them varied and each with its label.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["disagreement"]


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean Jensen–Shannon divergence of two answers, in nats: from 0 (alike) to ln 2.

    Args:
        one: Logits, float [B, K].
        other: Logits, float [B, K].
    """
    first, second = F.log_softmax(one.float(), dim=1), F.log_softmax(other.float(), dim=1)
    middle = torch.logaddexp(first, second) - math.log(2)
    divergences = [F.kl_div(middle, each, reduction="batchmean", log_target=True) for each in (first, second)]
    return (divergences[0] + divergences[1]) / 2
