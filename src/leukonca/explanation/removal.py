"""What stands where a part of a picture is taken away: the clear field between the cells.

Every method that takes something away, or compares with its absence, uses this one definition, so that none
has an advantage. A flat colour such as black or grey is nothing that a slide shows, and a blurred cell is
still a cell; the plasma between cells is what would be seen if the part were not there.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.firing import Firing, derive_seed, fires

__all__ = ["BRIGHTEST", "clear_field", "erase", "halves", "in_patches", "spread_patches"]

BRIGHTEST: Final = 0.1
"""The share of the pixels of a picture that counts as clear field: its brightest."""


# Keeps the drawing of halves apart from that of firing sites, which uses the same hash.
_HALVES: Final = derive_seed(0x68616C76)


def clear_field(pictures: Tensor) -> Tensor:
    """Return for each picture an empty field of its own slide.

    Its colour is the median, channel by channel, of the picture's brightest tenth (by the sum of the three
    channels): light passes unhindered where nothing is. The median leaves out glints and vacuoles.

    Args:
        pictures: float [B, 3, H, W], normalised or not: brightness need only rise in every channel.

    Returns:
        float [B, 3, H, W], even within each picture.
    """
    pixels = pictures.flatten(2)
    count = max(1, round(BRIGHTEST * pixels.shape[2]))
    brightest = pixels.sum(1, keepdim=True).topk(count, dim=2).indices
    colour = pixels.gather(2, brightest.expand(-1, 3, -1)).median(dim=2).values
    return colour[:, :, None, None].expand_as(pictures).clone()


def erase(pictures: Tensor, gone: Tensor, field: Tensor) -> Tensor:
    """Return the pictures with some pixels replaced by those of the clear field.

    Args:
        pictures: float [B, 3, H, W].
        gone: bool [B, H, W], the pixels to take away.
        field: float [B, 3, H, W], of :func:`clear_field`.
    """
    return torch.where(gone[:, None], field, pictures)


def halves(images: Tensor, order: int, rows: int, columns: int) -> Tensor:
    """Return one random half of the patches of each picture, bool [B, rows, columns]; the rest is the other.

    Each patch is drawn by itself with probability one half, by the hash that also decides firing
    (:mod:`leukonca.nca.firing`): a picture's halves depend on its identity and ``order`` alone.

    Args:
        images: int64 [B], identities of the pictures.
        order: The number of the drawing, from 0.
        rows: Patches from top to bottom.
        columns: Patches from left to right.
    """
    return fires(Firing(_HALVES, images, 0.5), order, rows, columns)


def in_patches(relevance: Tensor, side: int) -> Tensor:
    """Return the sum of a map over squares of ``side`` pixels, row by row: [B, H, W] → [B, patches].

    Raises:
        SettingError: The map does not consist of whole squares.
    """
    if side < 1 or relevance.shape[1] % side or relevance.shape[2] % side:
        raise SettingError(
            f"patch={side} px does not divide a map of {relevance.shape[1]} × {relevance.shape[2]} px"
        )
    return F.avg_pool2d(relevance[:, None], side).flatten(1) * side**2


def spread_patches(patches: Tensor, height: int, width: int, side: int) -> Tensor:
    """Return each square's value at each of its pixels: [B, patches] → [B, height, width]."""
    grid = patches.reshape(len(patches), height // side, width // side)
    return grid.repeat_interleave(side, 1).repeat_interleave(side, 2)
