"""Framing is checked against a triangle filter written out pixel by pixel."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leukonca.cells.framing import FIELD, Framing, frame, frame_mask, window
from leukonca.errors import SettingError


def picture_of(height: int, width: int) -> np.ndarray:
    """A smooth background with a coloured blob and some noise."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - height / 2, columns - width / 2) / min(height, width)
    layers = [230 - 120 * (distance < 0.3), 200 - 90 * np.cos(9 * distance), 180 + 60 * distance]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(np.stack(layers, axis=2) + noise, 0, 255).astype(np.uint8)


def axis_weights(length: int, start: float, extent: float, size: int) -> np.ndarray:
    """[size, length]: how much each source pixel gives to each result pixel, by the triangle filter."""
    scale = extent / size
    radius = max(scale, 1.0)
    weights = np.zeros((size, length))
    for pixel in range(size):
        centre = start + (pixel + 0.5) * scale
        for source in range(length):
            weights[pixel, source] = max(0.0, 1.0 - abs(source + 0.5 - centre) / radius)
        weights[pixel] /= weights[pixel].sum()
    return weights


def slow_frame(picture: np.ndarray, framing: Framing) -> np.ndarray:
    height, width = picture.shape[:2]
    across, down = width * framing.crop, height * framing.crop
    if framing.fit == "square":
        across = down = min(across, down)
    vertical = axis_weights(height, (height - down) / 2, down, framing.size)
    horizontal = axis_weights(width, (width - across) / 2, across, framing.size)
    return np.einsum("yh,hwc,xw->yxc", vertical, picture.astype(float), horizontal)


@pytest.mark.parametrize("fit", ["stretch", "square"])
@pytest.mark.parametrize("shape", [(40, 40), (41, 57), (60, 33), (9, 100)])
@pytest.mark.parametrize(("size", "crop"), [(16, 1.0), (17, 0.7), (64, 0.733), (8, 0.25)])
def test_frame_is_the_triangle_filter_of_the_central_part(
    fit: str, shape: tuple[int, int], size: int, crop: float
) -> None:
    picture = picture_of(*shape)
    framing = Framing(size, crop, fit)
    framed = frame(picture, framing)
    assert framed.shape == (size, size, 3)
    assert framed.dtype == np.uint8
    assert framed.flags.writeable
    np.testing.assert_allclose(framed, slow_frame(picture, framing), atol=1.6)


def test_nothing_changes_where_nothing_is_asked() -> None:
    picture = picture_of(48, 48)
    np.testing.assert_array_equal(frame(picture, Framing(48)), picture)
    np.testing.assert_array_equal(frame(picture, Framing(24, 0.5)), picture[12:36, 12:36])
    np.testing.assert_array_equal(frame(picture_of(48, 60), Framing(48)), picture_of(48, 60)[:, 6:54])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    size=st.integers(8, 70),
    crop=st.floats(0.2, 1.0),
    margin=st.floats(1.0, 2.0),
    fit=st.sampled_from(["stretch", "square"]),
)
def test_the_centre_of_the_canvas_is_the_plain_frame(
    height: int, width: int, size: int, crop: float, margin: float, fit: str
) -> None:
    picture = picture_of(height, width)
    framing = Framing(size, crop, fit)
    canvas = framing.with_margin(margin)
    border, odd = divmod(canvas.size - size, 2)
    assert odd == 0
    assert border >= 0
    assert canvas.fit == fit
    assert canvas.crop == pytest.approx(crop * canvas.size / size)
    assert canvas.crop <= min(crop * margin, 1.0) + 1e-9
    # No wider border would have fitted.
    assert crop * (canvas.size + 2) / size > min(crop * margin, 1.0) - 1e-9
    centre = frame(picture, canvas)[border : border + size, border : border + size]
    np.testing.assert_allclose(centre.astype(int), frame(picture, framing).astype(int), atol=1)


def test_margins_of_known_size() -> None:
    assert Framing(64, 0.5).with_margin(1.5) == Framing(96, 0.75)
    assert Framing(64, 0.5).with_margin(9.0) == Framing(128, 1.0)
    assert Framing(64, 1.0, "stretch").with_margin(1.5) == Framing(64, 1.0, "stretch")
    assert Framing(64, 0.7).with_margin(1.0) == Framing(64, 0.7)
    assert Framing(65, 0.6).with_margin(math.sqrt(2)).size == 65 + 2 * 13


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 7),
        ("size", 5000),
        ("size", 64.0),
        ("crop", 0.0),
        ("crop", 1.01),
        ("crop", math.nan),
        ("fit", "pad"),
    ],
)
def test_impossible_settings_are_refused_by_name_and_value(field: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"{field} = {value!r}"):
        dataclasses.replace(Framing(64), **{field: value})


@pytest.mark.parametrize("margin", [0.9, math.nan, math.inf])
def test_impossible_margins_are_refused(margin: float) -> None:
    with pytest.raises(SettingError, match="margin"):
        Framing(64, 0.5).with_margin(margin)


def stained(
    radius: float = 20.0, light: tuple[float, ...] = (0.95, 0.9, 0.85), strength: float = 1.0
) -> np.ndarray:
    """A nucleus at (80, 100) of a 150 × 190 picture in some light, stained more or less."""
    rows, columns = np.mgrid[:150, :190] + 0.5
    nucleus = (np.hypot(rows - 80, columns - 100) < radius)[..., None] * np.array([0.9, 1.3, 0.4])
    return np.rint(255 * np.array(light) * np.exp(-strength * nucleus)).astype(np.uint8)


def test_a_cell_is_framed_alike_at_any_place_size_and_light() -> None:
    framing = Framing(48, fit="cell", colour="nucleus", reach=1.7)
    one = frame(stained(), framing).astype(int)
    other = frame(np.roll(stained(33.0, (0.6, 0.75, 0.8), 0.7), (-10, 15), (0, 1)), framing).astype(int)
    assert np.abs(one - other).mean() < 3
    # The nucleus has the reference absorbance, and 1 / 1.7 of the width.
    assert -np.log(one[24, 24] / 240) == pytest.approx([0.95, 1.4, 1.4 * 0.4 / 1.3], abs=0.05)
    assert (one[24, :, 1] < 120).sum() == pytest.approx(48 / 1.7, abs=2.5)


def test_light_is_divided_out_of_any_fit() -> None:
    framed = frame(stained(), Framing(60, 0.8, "square", "light"))
    assert np.abs(framed[:6, :6].astype(int) - 240).max() <= 4
    assert -np.log(framed[32, 32] / 240) == pytest.approx([0.9, 1.3, 0.4], abs=0.05)


def test_beyond_the_picture_there_is_empty_field() -> None:
    cut = stained()[:, :105]
    for colour, field in (("light", [240, 240, 240]), ("as_is", [242, 230, 217])):
        framed = frame(cut, Framing(40, fit="cell", colour=colour, reach=3.0))
        assert np.abs(framed[:, -8:].astype(int) - field).max() <= 6
        assert framed[20, 18, 1] < 120


@pytest.mark.parametrize("colour", ["as_is", "light", "nucleus"])
@pytest.mark.parametrize("fit", ["square", "stretch", "cell"])
def test_the_canvas_of_any_framing_holds_the_input_in_its_middle(fit: str, colour: str) -> None:
    picture = stained()
    framing = Framing(32, 0.6, fit, colour, reach=1.5)
    canvas = framing.with_margin(1.5)
    border = (canvas.size - 32) // 2
    assert border > 0
    inner = frame(picture, canvas)[border:-border, border:-border].astype(int)
    # Its scale is rounded, and its resizing meets other pixels.
    assert np.abs(inner - frame(picture, framing)).mean() < 2


def test_a_speck_is_not_blown_up_without_limit() -> None:
    picture = np.full((100, 100, 3), 240, dtype=np.uint8)
    picture[50:53, 50:53] = (60, 40, 120)
    framed = frame(picture, Framing(40, fit="cell", colour="nucleus"))
    assert framed.shape == (40, 40, 3)
    assert (framed == 240).mean() > 0.4


@pytest.mark.parametrize(("field", "value"), [("reach", 0.9), ("reach", math.nan), ("colour", "grey")])
def test_settings_of_a_found_cell_are_checked(field: str, value: object) -> None:
    with pytest.raises(SettingError, match=field):
        Framing(32, fit="cell", **{field: value})


def test_the_window_tells_where_the_square_lies() -> None:
    picture = np.full((60, 90, 3), 240, dtype=np.uint8)
    picture[30:42, 50:62] = (90, 60, 150)
    assert window(picture, Framing(16, crop=0.5, fit="stretch")) == (22.5, 15, 45, 30)
    assert window(picture, Framing(16, crop=0.5)) == (30, 15, 30, 30)
    left, top, width, height = window(picture, Framing(16, fit="cell", reach=3))
    assert (left + width / 2, top + height / 2) == pytest.approx((56, 36), abs=1)
    assert width == height == pytest.approx(6 * 12 / np.pi**0.5, rel=0.15)
    # Nothing but empty field is shown of a window beside the picture.
    far = Framing(16, fit="cell", reach=20, colour="light")
    left, top, width, height = window(picture, far)
    outside = int((0 - top) / height * 16)
    assert (frame(picture, far)[:outside] == FIELD).all()


@pytest.mark.parametrize(
    "framing",
    [
        Framing(24, fit="cell", reach=1.5),
        Framing(24, fit="cell", reach=6, colour="light"),
        Framing(40, crop=0.7),
        Framing(31, fit="stretch", crop=0.9),
    ],
)
def test_a_mask_lies_where_its_cell_is_seen(framing: Framing) -> None:
    picture = np.full((60, 90, 3), 240, dtype=np.uint8)
    rows, columns = np.indices(picture.shape[:2])
    mask = np.hypot(rows - 34, columns - 58) < 9
    picture[mask] = (90, 60, 150)
    framed, found = frame(picture, framing), frame_mask(mask, picture, framing)
    # A pixel of the result is dark by the share of it that the cell covers.
    assert found.any()
    np.testing.assert_array_equal(found, framed[..., 1].astype(int) < (240 + 60) / 2)


def test_nothing_outside_the_picture_belongs_to_a_mask() -> None:
    picture = np.full((40, 40, 3), 240, dtype=np.uint8)
    picture[2:12, 2:12] = (90, 60, 150)
    framing = Framing(32, fit="cell", reach=4)
    found = frame_mask(np.ones((40, 40), dtype=bool), picture, framing)
    left, top, width, height = window(picture, framing)
    assert not found[: math.floor(-top / height * 32)].any()
    assert not found[:, : math.floor(-left / width * 32)].any()
    assert found[-1, -1]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(SettingError, match="a mask of 5 × 4 px does not fit a picture of 5 × 6 px"):
        frame_mask(np.ones((4, 5), dtype=bool), np.zeros((6, 5, 3), dtype=np.uint8), Framing(8))
