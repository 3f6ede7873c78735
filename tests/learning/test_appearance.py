from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from scipy import ndimage, special

from leukonca.learning.appearance import add_noise, adjust_camera, blur, restain

LUMA = torch.tensor([0.299, 0.587, 0.114])
# Absorbances of methylene blue and eosin, written here again from the source named in the module.
BLUE = np.array([0.834750233, 0.513556283, 0.196330403])
EOSIN = np.array([0.092789, 0.954111, 0.283111])


def pictures(count: int = 3, side: int = 16) -> torch.Tensor:
    # Middle tones, so that nothing needs clamping.
    return 0.3 + 0.4 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(4))


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def stain(batch: torch.Tensor, blue=1.0, eosin=1.0, gain=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0)):
    count = len(batch)
    return restain(
        batch,
        blue=column(blue).expand(count),
        eosin=column(eosin).expand(count),
        gain=column(*gain).expand(count, 3),
        offset=column(*offset).expand(count, 3),
    )


def camera(batch: torch.Tensor, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0) -> torch.Tensor:
    names = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    return adjust_camera(batch, **{name: column(v).expand(len(batch)) for name, v in names.items()})


def luma(batch: torch.Tensor) -> torch.Tensor:
    return (batch * LUMA[:, None, None]).sum(1)


def test_neutral_parameters_change_nothing() -> None:
    batch = pictures()
    torch.testing.assert_close(stain(batch), batch, atol=1e-6, rtol=0)
    torch.testing.assert_close(camera(batch), batch, atol=1e-6, rtol=0)
    assert torch.equal(blur(batch, sigma=column(0, 0, 0), largest=1.5), batch)
    assert torch.equal(add_noise(batch, deviation=column(0, 0, 0), keys=torch.arange(3)), batch)


@pytest.mark.parametrize(("dye", "name"), [(BLUE, "blue"), (EOSIN, "eosin")])
def test_a_dye_factor_changes_the_amount_of_that_dye_alone(dye: np.ndarray, name: str) -> None:
    other = EOSIN if name == "blue" else BLUE
    amounts = np.random.default_rng(0).random((2, 6, 6)) * 0.8
    axes = np.stack([v / np.linalg.norm(v) for v in (dye, other)])
    light = np.exp(-np.einsum("kc,khw->chw", axes, amounts))
    expected = np.exp(-np.einsum("kc,khw->chw", axes, amounts * np.array([1.5, 1])[:, None, None]))
    ours = stain(torch.from_numpy(light).float()[None], **{name: 1.5})
    np.testing.assert_allclose(ours[0].numpy(), expected, atol=1e-6)


def test_gain_and_offset_are_of_absorbance() -> None:
    batch = pictures()
    gain, offset = (1.2, 0.8, 1.0), (0.1, 0.0, -0.2)
    expected = torch.stack([batch[:, c] ** gain[c] * np.exp(-offset[c]) for c in range(3)], 1)
    torch.testing.assert_close(stain(batch, gain=gain, offset=offset), expected, atol=1e-6, rtol=0)


def test_black_keeps_a_finite_absorbance() -> None:
    result = stain(torch.zeros(1, 3, 2, 2), blue=0.5, eosin=2.0, gain=(2.0, 0.5, 1.0))
    assert torch.isfinite(result).all()


def test_blur_is_the_discrete_gaussian_of_each_pictures_own_sigma() -> None:
    batch = pictures()
    sigmas = (0.2, 0.6, 1.3)
    ours = blur(batch, sigma=column(*sigmas), largest=1.3)
    for picture, blurred, sigma in zip(batch.numpy(), ours.numpy(), sigmas, strict=True):
        kernel = special.ive(np.abs(np.arange(-4, 5)), sigma**2)
        kernel /= kernel.sum()
        expected = picture
        for axis in (1, 2):
            expected = ndimage.correlate1d(expected, kernel, axis, mode="nearest")
        np.testing.assert_allclose(blurred, expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0, 2.5, 5.0])
def test_blur_spreads_a_point_by_its_sigma(sigma: float) -> None:
    point = torch.zeros(1, 3, 61, 61)
    point[:, :, 30, 30] = 1
    spread = blur(point, sigma=column(sigma), largest=5.0)[0, 0]
    offsets = torch.arange(61) - 30
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    # The kernel ends at three sigma of the largest, which cuts a little of the largest itself.
    assert (spread.sum(0) * offsets**2).sum().sqrt().item() == pytest.approx(sigma, rel=0.02)


def test_blur_reaches_beyond_a_small_picture() -> None:
    even = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(blur(even, sigma=column(5.0), largest=5.0), even)


def test_brightness_multiplies() -> None:
    batch = pictures()
    torch.testing.assert_close(camera(batch, brightness=1.3), batch * 1.3)


def test_contrast_stretches_about_the_mean_luma() -> None:
    batch = pictures()
    result = camera(batch, contrast=1.5)
    mean = luma(batch).mean((1, 2))[:, None, None, None]
    torch.testing.assert_close(result, mean + 1.5 * (batch - mean), atol=1e-6, rtol=0)
    torch.testing.assert_close(luma(result).mean((1, 2)), luma(batch).mean((1, 2)))


def test_saturation_keeps_luma_and_scales_the_distance_from_grey() -> None:
    batch = pictures()
    result = camera(batch, saturation=1.4)
    grey = luma(batch)[:, None]
    torch.testing.assert_close(result - grey, 1.4 * (batch - grey), atol=1e-5, rtol=0)
    torch.testing.assert_close(camera(batch, saturation=0.0), grey.expand_as(batch), atol=1e-6, rtol=0)


def test_hue_keeps_luma_and_grey_and_turns_chroma() -> None:
    batch = pictures()
    result = camera(batch, hue=25.0)
    torch.testing.assert_close(luma(result), luma(batch), atol=1e-5, rtol=0)
    grey = torch.full((1, 3, 2, 2), 0.5)
    torch.testing.assert_close(camera(grey, hue=25.0), grey, atol=1e-6, rtol=0)
    for old, new in zip(batch[0].flatten(1).T, result[0].flatten(1).T, strict=True):
        # colorsys is an independent YIQ, with coefficients rounded to two digits.
        _, i, q = colorsys.rgb_to_yiq(*old.tolist())
        _, i_new, q_new = colorsys.rgb_to_yiq(*new.tolist())
        turned = complex(i, q) * np.exp(1j * np.deg2rad(25))
        assert abs(turned - complex(i_new, q_new)) < 0.02


def test_noise_has_the_stated_deviation_and_no_bias() -> None:
    batch = torch.full((3, 3, 64, 64), 0.5)
    noise = add_noise(batch, deviation=column(0.01, 0.05, 0.2), keys=torch.arange(3)) - batch
    np.testing.assert_allclose(noise.std((1, 2, 3)).numpy(), [0.01, 0.05, 0.2], rtol=0.03)
    assert (noise.mean((1, 2, 3)).abs() < torch.tensor([0.01, 0.05, 0.2]) / 25).all()
