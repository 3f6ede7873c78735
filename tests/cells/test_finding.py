"""The finder is checked on drawn smears whose light, places and sizes are known, and on real masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leukonca.cells.decode import decode
from leukonca.cells.finding import find_cell

FIELD = np.array([0.95, 0.9, 0.85])
NUCLEUS, CYTOPLASM, RED_CELL = (np.array(a) for a in ([1.0, 1.4, 0.5], [0.2, 0.35, 0.1], [0.15, 0.5, 0.4]))


def smear(
    discs: list[tuple[float, float, float, np.ndarray]],
    *,
    shape: tuple[int, int] = (180, 182),
    light: np.ndarray = FIELD,
    vignette: float = 0.0,
) -> np.ndarray:
    """Discs (row, column, radius, absorbance) on an empty field; later ones cover earlier ones."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    absorbance = np.zeros((*shape, 3))
    for row, column, radius, of_disc in discs:
        absorbance[np.hypot(rows - row, columns - column) < radius] = of_disc
    away = ((rows / shape[0] - 0.5) ** 2 + (columns / shape[1] - 0.5) ** 2)[..., None]
    noise = np.random.default_rng(1).normal(0, 0.01, absorbance.shape)
    return np.clip(255 * (light * np.exp(-absorbance - vignette * away) + noise), 0, 255).astype(np.uint8)


def around(row: float, column: float, radius: float) -> list[tuple[float, float, float, np.ndarray]]:
    """A white cell with red cells about it."""
    beside = [
        (row + dy, column + dx, 14.0, RED_CELL) for dy, dx in ((-55, 10), (50, -40), (20, 60), (-30, -60))
    ]
    return [*beside, (row, column, 1.4 * radius, CYTOPLASM), (row, column, radius, NUCLEUS)]


@pytest.mark.parametrize(("row", "column", "radius"), [(90, 91, 20), (70, 120, 30), (120, 60, 12)])
@pytest.mark.parametrize("light", [FIELD, np.array([0.5, 0.8, 0.75]), np.array([0.8, 0.6, 0.35])])
def test_place_size_and_stain_are_found_in_any_light(
    row: float, column: float, radius: float, light: np.ndarray
) -> None:
    found = find_cell(smear(around(row, column, radius), light=light))
    assert found.certain
    assert (found.row, found.column) == pytest.approx((row, column), abs=1.5)
    assert found.radius == pytest.approx(radius, abs=0.1 * radius + 1)
    assert found.nucleus == pytest.approx(NUCLEUS, abs=0.08)
    assert found.light(np.array([5.0]), np.array([170.0]))[0, 0] == pytest.approx(light, rel=0.03)


def test_vignetting_is_followed() -> None:
    found = find_cell(smear(around(90, 91, 20), vignette=0.8))
    middle, corner = (found.light(np.array([p]), np.array([p]))[0, 0] for p in (90.0, 4.0))
    assert middle == pytest.approx(FIELD, rel=0.08)
    assert corner == pytest.approx(FIELD * np.exp(-0.8 * 2 * (86 / 180) ** 2), rel=0.1)


def test_size_follows_magnification() -> None:
    picture = smear(around(90, 91, 20))
    larger = np.array(Image.fromarray(picture).resize((546, 540), Image.Resampling.BICUBIC))
    one, three = find_cell(picture), find_cell(larger)
    assert three.radius / one.radius == pytest.approx(3, rel=0.03)
    assert three.row / one.row == pytest.approx(3, rel=0.03)


def test_lobes_are_one_nucleus_and_a_neighbour_is_another() -> None:
    lobes = [(80, 80, 11.0, NUCLEUS), (85, 105, 10.0, NUCLEUS), (104, 92, 9.0, NUCLEUS)]
    alone = find_cell(smear([(90, 92, 32.0, CYTOPLASM), *lobes]))
    assert (alone.row, alone.column) == pytest.approx((88.6, 91.9), abs=2.5)
    assert alone.radius > 18  # the disc of their area has 17.4
    beside = find_cell(smear([(90, 92, 32.0, CYTOPLASM), *lobes, (150, 30, 22.0, NUCLEUS)]))
    assert (beside.row, beside.column) == pytest.approx((alone.row, alone.column), abs=2)


def test_without_a_nucleus_it_says_so() -> None:
    for picture in (smear([]), smear([(90, 60, 20.0, RED_CELL)]), np.full((40, 50, 3), 7, dtype=np.uint8)):
        found = find_cell(picture)
        assert not found.certain
        assert (found.row, found.column) == (picture.shape[0] / 2, picture.shape[1] / 2)
        assert np.isnan(found.nucleus).all()


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 400, 3), (301, 9, 3)])
def test_any_picture_gives_finite_places(shape: tuple[int, ...]) -> None:
    for seed in range(3):
        found = find_cell(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))
        assert np.isfinite([found.row, found.column, found.radius]).all()
        assert found.radius > 0
        assert (found.light(np.arange(4.0), np.arange(5.0)) > 0).all()


def test_the_centre_lies_in_the_cell_of_real_masks(shared_data: Path) -> None:
    masks = sorted((shared_data / "bcisc" / "sub-images" / "masks").glob("*.png"))[::3]
    inside = []
    for file in masks:
        found = find_cell(decode(file.parents[1] / "images" / f"{file.stem}.jpg"))
        mask = np.asarray(Image.open(file).convert("L")) > 127
        inside.append(mask[int(found.row), int(found.column)])
    assert np.mean(inside) > 0.9, [file.name for file, hit in zip(masks, inside, strict=True) if not hit]
