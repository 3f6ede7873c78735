from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from leukonca.assessment import corruptions
from leukonca.assessment.corruptions import CORRUPTIONS, FIELD, SEVERITIES, corrupt
from leukonca.cells.decode import decode
from leukonca.cells.embedded import embedded_table
from leukonca.errors import SettingError
from reference import corruptions as reference

RANDOM = ("motion_blur", "stain_deposit", "bubble")


@cache
def cell(number: int = 0) -> np.ndarray:
    """A real cell at the benchmark's scale."""
    file = sorted(embedded_table().parent.glob("**/*.jpg"))[number * 60]
    return np.array(Image.fromarray(decode(file)).resize((FIELD, FIELD), Image.Resampling.BILINEAR))


def noise(height: int = 9, width: int = 12) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


def damage(picture: np.ndarray, spoilt: np.ndarray) -> float:
    return float(((picture.astype(float) - spoilt) ** 2).mean())


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_damage_grows_with_severity(corruption: str) -> None:
    for number in range(4):
        picture = cell(number)
        spoilt = [corrupt(picture, corruption, s, identity=number, seed=7) for s in (0, *SEVERITIES)]
        assert all(one.shape == picture.shape and one.dtype == np.uint8 for one in spoilt)
        np.testing.assert_array_equal(spoilt[0], picture)
        costs = [damage(picture, one) for one in spoilt]
        assert costs == sorted(costs)
        assert all(costs[1:])
        # Seen by everybody, and a cell is still there: half the light is 8 dB.
        assert 255**2 / 10**4.5 < costs[-1] < 255**2 / 10**0.75


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_spoilt_picture_depends_on_seed_picture_and_kind_alone(corruption: str) -> None:
    picture = cell()
    before = picture.copy()
    first = corrupt(picture, corruption, 3, identity=5, seed=1)
    np.random.default_rng().random()
    np.testing.assert_array_equal(corrupt(picture, corruption, 3, identity=5, seed=1), first)
    np.testing.assert_array_equal(picture, before)
    others = [corrupt(picture, corruption, 3, identity=i, seed=s) for i, s in ((6, 1), (5, 2))]
    assert [np.array_equal(other, first) for other in others] == [corruption not in RANDOM] * 2


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(CORRUPTIONS),
    st.integers(0, 5),
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(0, 2**63 - 1),
)
def test_pictures_of_any_size_can_be_spoilt(
    corruption: str, severity: int, height: int, width: int, identity: int
) -> None:
    picture = noise(height, width)
    spoilt = corrupt(picture, corruption, severity, identity=identity)
    assert (spoilt.shape, spoilt.dtype) == (picture.shape, np.uint8)
    assert spoilt is not picture


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_the_mean_over_a_disk(severity: int) -> None:
    expected = reference.defocus(noise(), (2, 3, 4, 5, 6)[severity - 1])
    found = corrupt(noise(), "defocus_blur", severity)
    assert np.abs(found - expected).max() <= 0.51


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_smears_along_a_line(severity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "uniforms", _given(0.8))
    radius, sigma = ((3, 3), (5, 5), (10, 5), (10, 7), (10, 9))[severity - 1]
    expected = reference.motion(noise(), radius, sigma, degrees=0.6 * 45)
    assert np.abs(corrupt(noise(), "motion_blur", severity) - expected).max() <= 0.51


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturation_is_that_of_hsv(severity: int) -> None:
    picture = noise()
    picture[0] = [[0, 0, 0], [255, 255, 255], [90, 90, 90]] * 4
    expected = reference.saturate(picture, (0.05, 0.10, 0.15, 0.17, 0.20)[severity - 1])
    assert np.abs(corrupt(picture, "saturate", severity) - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("corruption", "factors"),
    [
        ("brightness_up", (1.1, 1.2, 1.3, 1.35, 1.4)),
        ("brightness_down", (0.9, 0.8, 0.7, 0.6, 0.5)),
        ("contrast_up", (1.1, 1.15, 1.2, 1.25, 1.3)),
        ("contrast_down", (0.9, 0.8, 0.7, 0.6, 0.5)),
    ],
)
def test_light_and_contrast_are_those_of_pillow(corruption: str, factors: tuple[float, ...]) -> None:
    """The benchmark uses Pillow's enhancers, which cut values off where ours are rounded."""
    kind = ImageEnhance.Brightness if corruption.startswith("brightness") else ImageEnhance.Contrast
    for severity, factor in zip(SEVERITIES, factors, strict=True):
        expected = np.array(kind(Image.fromarray(cell())).enhance(factor)).astype(int)
        assert np.abs(corrupt(cell(), corruption, severity) - expected).max() <= 1


def test_contrast_turns_about_the_mean_of_the_benchmarks_field() -> None:
    surrounded = np.pad(cell(), ((30, 30), (40, 40), (0, 0)))
    found = corrupt(surrounded, "contrast_down", 4)[30:-30, 40:-40]
    np.testing.assert_array_equal(found, corrupt(cell(), "contrast_down", 4))


@pytest.mark.parametrize("corruption", ["stain_deposit", "bubble"])
def test_what_lies_on_a_cell_does_not_depend_on_how_much_is_seen_around_it(corruption: str) -> None:
    wide = np.pad(cell(), ((31, 30), (40, 41), (0, 0)), "edge")
    top, left = (wide.shape[0] - FIELD) // 2, (wide.shape[1] - FIELD) // 2
    for severity in SEVERITIES:
        expected = corrupt(wide[top : top + FIELD, left : left + FIELD], corruption, severity, identity=9)
        found = corrupt(wide, corruption, severity, identity=9)
        np.testing.assert_array_equal(found[top : top + FIELD, left : left + FIELD], expected)
        close = corrupt(
            wide[top + 50 : top + FIELD - 50, left + 50 : left + FIELD - 50], corruption, severity, identity=9
        )
        np.testing.assert_array_equal(close, expected[50:-50, 50:-50])


def test_bubbles_are_circles_of_white(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "uniforms", _given(0.0, 0.99, 0.4, 0.6, *[0.5] * 36))
    picture = cell()[:120, :150].copy()
    found = corrupt(picture, "bubble", 5)
    shift = (120 - FIELD) // 2, (150 - FIELD) // 2
    first = (15 + int(0.4 * (FIELD - 30 + 1)), 15 + int(0.6 * (FIELD - 30 + 1)), 15)
    other = (9 + int(0.5 * (FIELD - 18 + 1)), 9 + int(0.5 * (FIELD - 18 + 1)), 9)
    circles = [(row + shift[0], column + shift[1], radius) for row, column, radius in (first, *[other] * 6)]
    assert np.abs(found - reference.bubbles(picture, circles)).max() <= 0.51


def test_deposits_are_few_dark_and_within_the_field() -> None:
    blank = np.full((FIELD, FIELD, 3), 230, np.uint8)
    shares = []
    for identity in range(40):
        spoilt = corrupt(blank, "stain_deposit", 3, identity=identity)
        touched = (spoilt != blank).any(2)
        assert not touched[:8].any()
        assert not touched[:, -8:].any()
        # The dye is violet: least of it is taken from blue, most from green.
        assert (spoilt[touched][:, 2] >= spoilt[touched][:, 1]).all()
        assert spoilt.min() < 30
        shares.append(touched.mean())
    assert 0.01 < np.mean(shares) < 0.06


def test_pixels_are_left_as_many_as_said() -> None:
    found = corrupt(noise(40, 40), "pixelate", 5)
    np.testing.assert_array_equal(found, found[::4, ::4].repeat(4, 0).repeat(4, 1))


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingError, match="corruption='fog' is unknown; known: pixelate, "):
        corrupt(noise(), "fog", 1)
    for severity in (-1, 6, 2.5):
        with pytest.raises(SettingError, match=r"severity=\S+ must be a whole number from 0 to 5"):
            corrupt(noise(), "bubble", severity)  # type: ignore[arg-type]


def _given(*shares: float) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Stands for the hash: these numbers, again and again."""
    return lambda _, count: torch.tensor([(list(shares) * count)[:count]], dtype=torch.float64)
