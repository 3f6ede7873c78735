from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from leukonca.errors import SettingError
from leukonca.learning.geometry import centre_crop, resample, symmetry, views


def pictures(count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(4))


def reference(
    picture: np.ndarray, size: int, number: int, angle: float, factor: float, shift: tuple[float, float]
) -> np.ndarray:
    """One channel through scipy's affine map, in its (row, column) order."""
    offset = (picture.shape[0] - size) // 2
    middle = offset + (size - 1) / 2
    turn = np.deg2rad(angle + 90 * (number % 4))
    # Counter-clockwise as seen, in (row, column): the point to the right goes up, to smaller rows.
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    mirror = np.diag([1.0, -1.0 if number >= 4 else 1.0])
    forward = factor * rotation @ mirror
    backward = np.linalg.inv(forward)
    moved = size * np.array([shift[1], shift[0]])
    # Output pixel o of the crop is canvas pixel o + offset; relative to the middle both have one origin.
    start = middle + backward @ (offset - middle - moved)
    return ndimage.affine_transform(
        picture, backward, offset=start, output_shape=(size, size), order=1, mode="reflect"
    )


def run(canvas: torch.Tensor, size: int, number=0, angle=0.0, factor=1.0, shift=(0.0, 0.0)) -> torch.Tensor:
    count = len(canvas)
    return resample(
        canvas,
        size,
        number=torch.full((count,), number),
        angle=torch.full((count,), angle, dtype=torch.float64),
        factor=torch.full((count,), factor, dtype=torch.float64),
        shift=torch.tensor([shift], dtype=torch.float64).expand(count, 2),
    )


@settings(max_examples=60, deadline=None)
@given(
    side=st.integers(9, 24),
    margin=st.integers(0, 8),
    number=st.integers(0, 7),
    angle=st.floats(-180, 180),
    factor=st.floats(0.5, 2),
    shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_resample_agrees_with_scipy(side, margin, number, angle, factor, shift) -> None:
    size = max(1, side - margin)
    canvas = torch.from_numpy(
        ndimage.gaussian_filter(np.random.default_rng(side).random((1, 3, side, side)), (0, 0, 1, 1))
    ).float()
    ours = run(canvas, size, number, angle, factor, shift)
    for channel in range(3):
        theirs = reference(canvas[0, channel].numpy(), size, number, angle, factor, shift)
        np.testing.assert_allclose(ours[0, channel].numpy(), theirs, atol=2e-4)


def test_rotation_is_that_of_pillow() -> None:
    canvas = pictures(1, 48)
    ours = run(canvas, 24, angle=33.0)
    turned = Image.fromarray(canvas[0, 1].numpy()).rotate(33, Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours[0, 1].numpy(), np.asarray(turned)[12:36, 12:36], atol=1e-4)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize(("side", "size"), [(12, 8), (13, 8), (9, 9), (1, 1)])
def test_resampling_a_symmetry_equals_it(number: int, side: int, size: int) -> None:
    canvas = pictures(2, side)
    torch.testing.assert_close(
        run(canvas, size, number=number), symmetry(centre_crop(canvas, size), number), atol=1e-5, rtol=0
    )


def test_shift_goes_right_and_down() -> None:
    canvas = torch.zeros(1, 3, 20, 20)
    canvas[:, :, 9, 9] = 1
    moved = run(canvas, 10, shift=(0.2, -0.1))
    torch.testing.assert_close(moved, canvas.roll((-1, 2), (2, 3))[:, :, 5:15, 5:15], atol=1e-5, rtol=0)


def test_centre_crop_of_odd_margin() -> None:
    canvas = pictures(1, 11)
    assert torch.equal(centre_crop(canvas, 8), canvas[:, :, 1:9, 1:9])


@pytest.mark.parametrize("size", [0, 12])
def test_centre_crop_names_what_does_not_fit(size: int) -> None:
    with pytest.raises(SettingError, match=f"size = {size}: .* 11 px"):
        centre_crop(pictures(1, 11), size)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 8, 8), (2, 3, 8, 9)])
def test_centre_crop_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="canvas"):
        centre_crop(torch.zeros(shape), 4)


def test_views_are_the_eight_symmetries_with_the_plain_crop_first() -> None:
    canvas = pictures(2, 12)
    seen = views(canvas, 8)
    assert seen.shape == (8, 2, 3, 8, 8)
    assert torch.equal(seen[0], canvas[:, :, 2:10, 2:10])
    crop = seen[0].numpy()
    group = [np.rot90(m, k, (2, 3)) for m in (crop, crop[..., ::-1]) for k in range(4)]
    for view, expected in zip(seen, group, strict=True):
        np.testing.assert_array_equal(view.numpy(), expected)
    assert len({view.numpy().tobytes() for view in seen}) == 8


def test_views_none_is_the_crop_alone() -> None:
    canvas = pictures(2, 12)
    assert torch.equal(views(canvas, 8, "none"), centre_crop(canvas, 8)[None])
    with pytest.raises(SettingError, match=r"'tencrop'.*dihedral, none"):
        views(canvas, 8, "tencrop")  # type: ignore[arg-type]
