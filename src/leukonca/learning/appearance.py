"""How a cell looks: dye, lens, camera and sensor, in the order in which light meets them.

Pictures are float32 [B, 3, H, W], transmitted light as a share of white; parameters are float64, one value
for each picture. Nothing here clamps: the last step of ``augment`` does it once.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from leukonca.cells.framing import FIELD
from leukonca.learning.draws import normals

__all__ = ["add_noise", "adjust_camera", "blur", "cut_off", "redevelop", "restain"]

# Absorbance of methylene blue (with its azures) and of eosin in red, green and blue: the dyes of Giemsa's and
# May-Grünwald's stains, as measured for Giemsa by G. Landini (ImageJ, "Colour Deconvolution"), after
# A. C. Ruifrok and D. A. Johnston, Anal. Quant. Cytol. Histol. 23 (2001) 291. They play the parts that
# haematoxylin and eosin have in tissue.
_METHYLENE_BLUE: Final = (0.834750233, 0.513556283, 0.196330403)
_EOSIN: Final = (0.092789, 0.954111, 0.283111)

# Half a grey level of 8 bits: black has an absorbance of 6.2 instead of an infinite one.
_DARKEST: Final = 1 / 510

# NTSC's luma and its two chroma axes (Rec. 601 luma): a grey has no chroma, and turning or stretching chroma
# leaves luma alone.
_YIQ: Final = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


# Pixels after which the blur's kernel would repeat; its greatest sigma is 5 px, so 64 is beyond 12 of them.
_PERIOD: Final = 64


@functools.cache
def _dye_projections() -> tuple[Tensor, Tensor]:
    """Return [3, 3] matrices that keep, of an absorbance, what methylene blue and what eosin contribute.

    The third direction is perpendicular to both dyes and belongs to neither.
    """
    dyes = torch.tensor((_METHYLENE_BLUE, _EOSIN), dtype=torch.float64)
    dyes = dyes / dyes.norm(dim=1, keepdim=True)
    rows = torch.cat((dyes, torch.linalg.cross(dyes[0], dyes[1])[None]))
    unmix = torch.linalg.inv(rows)
    return torch.outer(rows[0], unmix[:, 0]), torch.outer(rows[1], unmix[:, 1])


@functools.cache
def _chroma_maps() -> tuple[Tensor, Tensor, Tensor]:
    """Return [3, 3] matrices: what keeps luma, what keeps chroma, what turns chroma by a quarter."""
    to_yiq = torch.tensor(_YIQ, dtype=torch.float64)
    from_yiq = torch.linalg.inv(to_yiq)
    keep_luma = torch.outer(from_yiq[:, 0], to_yiq[0])
    keep_chroma = torch.eye(3, dtype=torch.float64) - keep_luma
    turn = torch.outer(from_yiq[:, 2], to_yiq[1]) - torch.outer(from_yiq[:, 1], to_yiq[2])
    return keep_luma, keep_chroma, turn


def _mix_channels(pictures: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Return matrix · colour + offset of every pixel; ``matrix`` [B, 3, 3], ``offset`` [B, 3]."""
    weights = matrix.float()[:, :, :, None, None]
    mixed = torch.addcmul(offset.float()[:, :, None, None], weights[:, :, 0], pictures[:, 0:1])
    mixed.addcmul_(weights[:, :, 1], pictures[:, 1:2])
    return mixed.addcmul_(weights[:, :, 2], pictures[:, 2:3])


def restain(pictures: Tensor, *, blue: Tensor, eosin: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """Change the amount of dye and the colour of the light, in absorbance (Beer–Lambert).

    With absorbance A = -ln(light), A' = gain · (A + (blue - 1)·A_blue + (eosin - 1)·A_eosin) + offset, where
    A_blue and A_eosin are the shares of the two dyes of Giemsa's stain.

    Args:
        pictures: float32 [B, 3, H, W] in [0, 1].
        blue: Factor on the amount of methylene blue, [B].
        eosin: Factor on the amount of eosin, [B].
        gain: Factor on the absorbance of each colour channel, [B, 3].
        offset: Added to the absorbance of each channel, [B, 3]; 0.1 takes about 10 % of the light.

    Returns:
        float32 [B, 3, H, W], above 0, perhaps above 1.
    """
    absorbance = pictures.clamp(min=_DARKEST).log_().neg_()
    of_blue, of_eosin = (projection.to(pictures.device) for projection in _dye_projections())
    dyes = (
        torch.eye(3, dtype=torch.float64, device=pictures.device)
        + (blue - 1)[:, None, None] * of_blue
        + (eosin - 1)[:, None, None] * of_eosin
    )
    return _mix_channels(absorbance, gain[:, :, None] * dyes, offset).neg_().exp_()


def redevelop(pictures: Tensor, *, gamma: Tensor, crosstalk: Tensor, blue_left: Tensor) -> Tensor:
    """Record the absorbance of a picture as another camera would.

    With A the absorbance relative to the empty field, A' = crosstalk · A^gamma, and blue is then multiplied
    by ``blue_left``. Where A is below 0 (brighter than the field) its sign is kept. The field stays as it is.

    Args:
        pictures: float32 [B, 3, H, W] in [0, 1], whose empty field has the grey level ``FIELD``.
        gamma: Power for each colour channel, [B, 3].
        crosstalk: [B, 3, 3].
        blue_left: [B].

    Returns:
        float32 [B, 3, H, W], above 0, perhaps above 1.
    """
    field = FIELD / 255
    absorbance = pictures.clamp(min=_DARKEST).div_(field).log_().neg_()
    power = absorbance.abs().pow_(gamma.float()[:, :, None, None])
    absorbance = torch.copysign(power, absorbance)
    left = torch.stack((torch.ones_like(blue_left), torch.ones_like(blue_left), blue_left), 1)
    mixed = _mix_channels(absorbance, left[:, :, None] * crosstalk, torch.zeros_like(left))
    return mixed.neg_().exp_().mul_(field)


def cut_off(pictures: Tensor, *, edges: Tensor) -> Tensor:
    """Replace what lies beyond some edges by empty field.

    Args:
        pictures: float32 [B, 3, H, W].
        edges: Depth at the left, right, top and bottom as a share of the side, [B, 4].

    Returns:
        float32 [B, 3, H, W].
    """
    height, width = pictures.shape[2:]
    across = (torch.arange(width, device=pictures.device) + 0.5) / width
    down = (torch.arange(height, device=pictures.device) + 0.5) / height
    left, right, top, bottom = edges.T[:, :, None]
    kept_across, kept_down = (across > left) & (across < 1 - right), (down > top) & (down < 1 - bottom)
    kept = kept_down[:, :, None] & kept_across[:, None, :]
    return torch.where(kept[:, None], pictures, FIELD / 255)


def blur(pictures: Tensor, *, sigma: Tensor, largest: float) -> Tensor:
    """Blur by a Gaussian, out of focus; the border pixels continue outwards.

    The kernel is the discrete Gaussian exp(-t) · I_n(t), t = sigma² (T. Lindeberg, "Scale-space for discrete
    signals", IEEE TPAMI 12 (1990) 234), whose variance is sigma² at any sigma. A Gaussian read off at whole
    pixels does nothing at all below 0.3 px, which is much of the range that matters here.

    Args:
        pictures: float32 [B, 3, H, W].
        sigma: Standard deviation in pixels, [B]; 0 leaves a picture as it is.
        largest: The greatest sigma possible. It sets how far the kernel reaches, so that the sum of a
            picture never depends on the sigma of its neighbours in the batch.

    Returns:
        float32 [B, 3, H, W].
    """
    reach = max(1, math.ceil(3 * largest))
    # From its Fourier transform exp(t · (cos ω - 1)); the period is far longer than any kernel allowed.
    omega = torch.arange(_PERIOD, dtype=torch.float64, device=pictures.device) * (2 * math.pi / _PERIOD)
    places = torch.arange(reach + 1, device=pictures.device)
    spectrum = torch.exp((sigma**2)[:, None] * (omega.cos() - 1))
    kernel = (spectrum[:, None] * torch.cos(places[:, None] * omega)).mean(2)
    kernel = kernel / (2 * kernel.sum(1, keepdim=True) - kernel[:, :1])
    weights = kernel.float()[:, :, None, None, None]
    for axis, padding in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        length = pictures.shape[axis]
        padded = F.pad(pictures, padding, mode="replicate")
        pictures = padded.narrow(axis, reach, length) * weights[:, 0]
        for step in range(1, reach + 1):
            pair = padded.narrow(axis, reach - step, length) + padded.narrow(axis, reach + step, length)
            pictures.addcmul_(pair, weights[:, step])
    return pictures


def adjust_camera(
    pictures: Tensor, *, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> Tensor:
    """Apply saturation, hue, brightness and contrast as one affine map of colours.

    Saturation and hue leave luma as it is. Brightness multiplies, contrast stretches about the picture's
    own mean luma, which it leaves as it is.

    Args:
        pictures: float32 [B, 3, H, W].
        brightness: Factor on all channels, [B].
        contrast: Factor on the distance from the mean luma, [B].
        saturation: Factor on the distance of a colour from its grey, [B]; 0 gives a grey picture.
        hue: Turn of the chroma plane in degrees, [B].

    Returns:
        float32 [B, 3, H, W], perhaps outside [0, 1].
    """
    keep_luma, keep_chroma, turn = (matrix.to(pictures.device) for matrix in _chroma_maps())
    radians = hue * (math.pi / 180)
    matrix = (
        keep_luma
        + (saturation * radians.cos())[:, None, None] * keep_chroma
        + (saturation * radians.sin())[:, None, None] * turn
    )
    # Row 0 of keep_luma is the luma of a colour, as every row is.
    luma = (pictures.mean((2, 3), dtype=torch.float64) * keep_luma[0]).sum(1, keepdim=True)
    shift = ((1 - contrast) * brightness)[:, None] * luma
    return _mix_channels(pictures, (contrast * brightness)[:, None, None] * matrix, shift.expand(-1, 3))


def add_noise(pictures: Tensor, *, deviation: Tensor, keys: Tensor) -> Tensor:
    """Add independent Gaussian noise to every value.

    Args:
        pictures: float32 [B, 3, H, W].
        deviation: Standard deviation, [B], as a share of white.
        keys: What the noise of each picture depends on, int64 [B].

    Returns:
        float32 [B, 3, H, W], perhaps outside [0, 1].
    """
    noise = normals(keys, pictures[0].numel()).view(pictures.shape)
    return torch.addcmul(pictures, noise, deviation.float()[:, None, None, None])
