"""Where the pixels of a picture come from: centre crop, the eight symmetries, one affine resampling.

Pictures are float32 [B, 3, side, side]. Angles turn counter-clockwise as one looks at the picture; x grows
to the right and y downwards.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from leukonca.errors import SettingError

__all__ = ["SYMMETRIES", "centre_crop", "resample", "symmetry", "views"]

SYMMETRIES: Final = 8
"""How many ways a square can be laid on itself: four quarter turns, each without and with a mirror."""


def centre_crop(canvas: Tensor, size: int) -> Tensor:
    """Return the central ``size`` × ``size`` part as a view; an odd margin is wider at the right and below.

    Raises:
        SettingError: The canvas is smaller than ``size``, or ``size`` is not positive.
        ValueError: The canvas is not [B, 3, S, S].
    """
    if canvas.ndim != 4 or canvas.shape[1] != 3 or canvas.shape[2] != canvas.shape[3]:
        raise ValueError(f"canvas must have the shape [B, 3, S, S], not {list(canvas.shape)}")
    side = canvas.shape[-1]
    if not 1 <= size <= side:
        raise SettingError(
            f"size = {size}: must lie between 1 and the side of the canvas, {side} px; "
            "choose a smaller size or a larger canvas"
        )
    margin = (side - size) // 2
    return canvas[:, :, margin : margin + size, margin : margin + size]


def symmetry(pictures: Tensor, number: int) -> Tensor:
    """Return symmetry ``number`` (0–7) of square pictures [..., S, S]; 0 leaves them as they are.

    The pictures are mirrored left to right where ``number`` ≥ 4, then turned by ``number`` % 4 quarter
    turns.
    """
    mirrored = pictures.flip(-1) if number >= 4 else pictures
    return mirrored.rot90(number % 4, (-2, -1))


def views(canvas: Tensor, size: int, transforms: Literal["dihedral", "none"] = "dihedral") -> Tensor:
    """Return the symmetries of the centre crop, for averaging a model's answers over them.

    Args:
        canvas: [B, 3, S, S].
        size: Side of the crop, ≤ S.
        transforms: ``dihedral`` for all eight, view 0 being the plain crop; ``none`` for that one alone.

    Returns:
        [8, B, 3, size, size], or [1, B, 3, size, size] for ``none``.

    Raises:
        SettingError: ``transforms`` is unknown, or ``size`` does not fit the canvas.
    """
    counts = {"dihedral": SYMMETRIES, "none": 1}
    if transforms not in counts:
        raise SettingError(f"views = {transforms!r}: unknown; known: {', '.join(counts)}")
    pictures = centre_crop(canvas, size)
    return torch.stack([symmetry(pictures, number) for number in range(counts[transforms])])


def _inverse_symmetries() -> Tensor:
    """Return the matrices [8, 2, 2] that lead (x, y) from a symmetry's output back to its input."""
    matrices = []
    for number in range(SYMMETRIES):
        cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[number % 4]
        mirror = -1 if number >= 4 else 1
        matrices.append([[mirror * cosine, -mirror * sine], [sine, cosine]])
    return torch.tensor(matrices, dtype=torch.float64)


def resample(
    canvas: Tensor,
    size: int,
    *,
    number: Tensor,
    angle: Tensor,
    factor: Tensor,
    shift: Tensor,
) -> Tensor:
    """Lay each picture through symmetry, rotation, magnification and shift, in that order, and crop it.

    All turn about the middle of the centre crop, so the identity is the centre crop. The four are one
    affine map and one bilinear look-up: pixels are smoothed once, and what lies outside the crop but on
    the canvas comes into view where it should; beyond the canvas its picture is mirrored at the border,
    which leaves no black corners for a model to learn from.

    No filter guards against aliasing, because a factor never falls below 1/2 (see ``Augmentation.scale``):
    every pixel of the canvas still takes part in some bilinear look-up.

    Args:
        canvas: float32 [B, 3, S, S].
        size: Side of the output, ≤ S.
        number: Symmetry of each picture, int64 [B], 0–7.
        angle: Rotation in degrees, float64 [B].
        factor: Magnification, float64 [B]; above 1 the cell grows.
        shift: Movement (right, down) as a share of the output's side, float64 [B, 2].

    Returns:
        float32 [B, 3, size, size].
    """
    side = canvas.shape[-1]
    device = canvas.device
    radians = angle * (math.pi / 180)
    cosine, sine = radians.cos() / factor, radians.sin() / factor
    back = torch.stack((cosine, -sine, sine, cosine), 1).view(-1, 2, 2)
    unfold = _inverse_symmetries().to(device).index_select(0, number)
    matrix = (unfold[:, :, :, None] * back[:, None, :, :]).sum(2)  # [B, 2, 2], output offset → input offset

    # grid_sample's coordinates without aligned corners: pixel x of S lies at (2x + 1) / S - 1.
    places = torch.arange(size, dtype=torch.float64, device=device) - (size - 1) / 2
    middle = (side - size) // 2 + (size - 1) / 2
    origin = (2 * middle + 1) / side - 1 - (2 / side) * size * (matrix * shift[:, None, :]).sum(2)
    slope = matrix * (2 / side)
    along = (slope[:, :, 0, None] * places).float()  # [B, 2, size], what the column contributes
    down = (slope[:, :, 1, None] * places + origin[:, :, None]).float()
    grid = torch.empty(canvas.shape[0], size, size, 2, device=device)
    for axis in (0, 1):
        torch.add(along[:, axis, None, :], down[:, axis, :, None], out=grid[..., axis])
    return F.grid_sample(canvas, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
