"""From the grid to a vector: how the channels are pooled before the head."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from leukonca.errors import SettingError
from leukonca.nca.architecture import PoolingKind

__all__ = ["AttentionPooling", "MaxMeanPooling", "MaxPooling", "MeanPooling", "pooling"]


class MaxPooling(nn.Module):
    """The maximum of each channel over the grid (MaxNCA): [B, C, H, W] → [B, C]."""

    def forward(self, state: Tensor) -> Tensor:  # noqa: D102
        return state.amax(dim=(2, 3))


class MeanPooling(nn.Module):
    """The mean of each channel over the grid: [B, C, H, W] → [B, C]."""

    def forward(self, state: Tensor) -> Tensor:  # noqa: D102
        return state.mean(dim=(2, 3))


class MaxMeanPooling(nn.Module):
    """Maximum and mean side by side: [B, C, H, W] → [B, 2·C]."""

    def forward(self, state: Tensor) -> Tensor:  # noqa: D102
        return torch.cat((state.amax(dim=(2, 3)), state.mean(dim=(2, 3))), dim=1)


class AttentionPooling(nn.Module):
    """Learned attention, then the mean of the top share of each channel (aNCA, arXiv 2508.12324).

    A 1×1 convolution and a sigmoid give each site a weight in (0, 1); each channel is multiplied by it
    and its highest values (10 % of the sites, at least one) are averaged: [B, C, H, W] → [B, C].
    """

    def __init__(self, channels: int, share: float = 0.1) -> None:
        super().__init__()
        self.share = share
        self.attention = nn.Conv2d(channels, 1, 1)

    def weights(self, state: Tensor) -> Tensor:
        """Return the attention of each site, [B, 1, H, W] in (0, 1)."""
        return torch.sigmoid(self.attention(state))

    def forward(self, state: Tensor) -> Tensor:  # noqa: D102
        attended = (state * self.weights(state)).flatten(2)
        count = max(1, round(self.share * attended.shape[2]))
        return attended.topk(count, dim=2).values.mean(dim=2)


def pooling(kind: PoolingKind, channels: int) -> tuple[nn.Module, int]:
    """Return the pooling module of a kind and the length of the vector that it gives.

    Raises:
        SettingError: The kind is unknown.
    """
    if kind == "max":
        return MaxPooling(), channels
    if kind == "mean":
        return MeanPooling(), channels
    if kind == "max_mean":
        return MaxMeanPooling(), 2 * channels
    if kind == "attention":
        return AttentionPooling(channels), channels
    raise SettingError(f"pooling {kind!r} is unknown; known: {', '.join(get_args(PoolingKind))}")
