"""Pictures that hold no white blood cell, for measuring whether a model notices.

Each kind is a function of cell pictures (uint8 [H, W, 3], those of a set with the cell in the middle and much
around it, such as Acevedo-20) or of nothing, and gives the same pictures each time. ``DEVELOPED_ON`` are the
kinds by which the score was chosen (made of validation cells then); ``TESTED_ON`` were first looked at when
it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import sklearn.datasets
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

from leukonca.cells.decode import decode

__all__ = ["DEVELOPED_ON", "TESTED_ON", "Picture"]

Picture = np.ndarray
SIDE = 180


def corners(cells: Sequence[Picture]) -> list[Picture]:
    """The corners of the pictures, a third of the side each, where no nucleus reaches into them."""
    found = []
    for cell in cells:
        side = min(cell.shape[:2]) // 3
        for rows in (slice(side), slice(-side, None)):
            for columns in (slice(side), slice(-side, None)):
                corner = cell[rows, columns]
                if not _has_nucleus(corner):
                    found.append(corner)
    return found


def red_cells(cells: Sequence[Picture]) -> list[Picture]:
    """Fields of red cells at their true scale: one corner of each picture, mirrored to the whole side."""
    fields = []
    for cell in cells:
        for corner in corners([cell])[:1]:
            side = len(corner)
            fields.append(np.pad(corner, ((side, side), (side, side), (0, 0)), "symmetric"))
    return fields


def _has_nucleus(picture: Picture) -> bool:
    # Nuclei absorb green far more than blue; red cells absorb both alike.
    _, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return bool(((blue - green > 40) | ((green < 110) & (blue - green > 20))).any())


def even(_: Sequence[Picture]) -> list[Picture]:
    """Fields of one colour: greys, and the colours of backgrounds and stains."""
    colours = [(level, level, level) for level in range(0, 256, 51)]
    colours += [
        (255, 228, 200),
        (225, 220, 240),
        (205, 160, 165),
        (90, 50, 140),
        (150, 120, 190),
        (240, 60, 60),
    ]
    return [np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in colours]


def noise(_: Sequence[Picture]) -> list[Picture]:
    """Noise of four grains, grey and coloured, strong and weak, around the colours of a smear."""
    chance, pictures = np.random.default_rng(1), []
    for grain in (1, 4, 12, 45):
        for channels in (1, 3):
            for spread in (12, 40, 90):
                small = chance.normal(0, spread, (SIDE // grain, SIDE // grain, channels))
                field = np.kron(small, np.ones((grain, grain, 1)))
                pictures.append(np.clip(np.array([225, 200, 195]) + field, 0, 255).astype(np.uint8))
    return pictures


def photographs_to_develop(_: Sequence[Picture]) -> list[Picture]:
    """Parts of the photographs that scikit-learn carries."""
    return list(_parts(sklearn.datasets.load_sample_images().images))


def photographs(_: Sequence[Picture]) -> list[Picture]:
    """Parts of the photographs that matplotlib carries, and scikit-image where it is installed."""
    folders = [Path(matplotlib.get_data_path()) / "sample_data"]
    try:
        import skimage
    except ImportError:
        pass
    else:
        folders.append(Path(skimage.__file__).parent / "data")
    files = [
        file for folder in folders for file in sorted(folder.glob("*")) if file.suffix in (".jpg", ".png")
    ]
    return list(_parts([decode(str(file)) for file in files]))


def _parts(pictures: Sequence[Picture]) -> Iterator[Picture]:
    """Yield each picture's middle, and its quarters."""
    for picture in pictures:
        height, width = (side // 2 for side in picture.shape[:2])
        yield picture
        for rows in (slice(height), slice(height, None)):
            for columns in (slice(width), slice(width, None)):
                yield picture[rows, columns]


def graphics(_: Sequence[Picture]) -> list[Picture]:
    """Text and drawings: words, bars, rings, discs in the colours of nuclei."""
    pictures = []
    font = ImageFont.load_default(size=22)
    papers, inks = [(255, 255, 255), (255, 228, 200), (20, 20, 20)], [(0, 0, 0), (90, 50, 140), (200, 30, 30)]
    for paper in papers:
        for ink in inks:
            for draw in (_words, _bars, _rings, _disc):
                image = Image.new("RGB", (SIDE, SIDE), paper)
                draw(ImageDraw.Draw(image), ink, font)
                pictures.append(np.array(image))
    return pictures


Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _words(draw: ImageDraw.ImageDraw, ink: Colour, font: Font) -> None:
    for line in range(7):
        draw.text((4, 4 + 25 * line), "Sample 4711 EDTA", ink, font)


def _bars(draw: ImageDraw.ImageDraw, ink: Colour, font: Font) -> None:
    for bar, height in enumerate((60, 120, 90, 150, 40)):
        draw.rectangle((12 + 33 * bar, 170 - height, 34 + 33 * bar, 170), ink)


def _rings(draw: ImageDraw.ImageDraw, ink: Colour, font: Font) -> None:
    for radius in range(10, 90, 16):
        draw.ellipse((90 - radius, 90 - radius, 90 + radius, 90 + radius), outline=ink, width=4)


def _disc(draw: ImageDraw.ImageDraw, ink: Colour, font: Font) -> None:
    draw.ellipse((58, 58, 122, 122), ink)


def blurred(cells: Sequence[Picture]) -> list[Picture]:
    """Cells out of focus beyond recognition: a Gaussian blur of an eighth of the side."""
    return [
        np.array(Image.fromarray(cell).filter(ImageFilter.GaussianBlur(min(cell.shape[:2]) / 8)))
        for cell in cells
    ]


def cut(cells: Sequence[Picture]) -> list[Picture]:
    """Cells at the edge: the picture's right lower quarter, the cell's quarter in its corner."""
    return [cell[cell.shape[0] // 2 :, cell.shape[1] // 2 :] for cell in cells]


def halves(cells: Sequence[Picture]) -> list[Picture]:
    """Cells at the edge: the picture's right half, half of the cell at its left side."""
    return [cell[:, cell.shape[1] // 2 :] for cell in cells]


def smeared(cells: Sequence[Picture]) -> list[Picture]:
    """Cells drawn out over half of the side, each in its own direction, somewhat as smudge cells are."""
    chance, pictures = np.random.default_rng(2), []
    for cell in cells:
        reach, angle = min(cell.shape[:2]) / 4, chance.uniform(0, np.pi)
        whole = cell.astype(np.float32)
        drawn = np.zeros_like(whole)
        for step in np.linspace(-reach, reach, 31):
            way = (step * np.sin(angle), step * np.cos(angle), 0)
            drawn += ndimage.shift(whole, way, order=1, mode="nearest") / 31
        pictures.append(np.rint(drawn).clip(0, 255).astype(np.uint8))
    return pictures


def deposits(cells: Sequence[Picture]) -> list[Picture]:
    """Grains of dye on an empty field in the colour of each picture's own field."""
    chance, pictures = np.random.default_rng(3), []
    for cell in cells:
        height, width = cell.shape[:2]
        field = np.quantile(cell.reshape(-1, 3), 0.9, axis=0)
        amount = np.zeros((height, width))
        for row, column in chance.normal(0.5, 0.12, (chance.integers(20, 120), 2)):
            if 0 <= row < 1 and 0 <= column < 1:
                amount[int(row * height), int(column * width)] = 1
        amount = ndimage.gaussian_filter(amount, 0.015 * height)
        absorbance = (amount / amount.max())[..., None] * np.array((1.2, 2.0, 0.8))
        pictures.append(np.rint(field * np.exp(-absorbance)).clip(0, 255).astype(np.uint8))
    return pictures


Kind = Callable[[Sequence[Picture]], list[Picture]]
DEVELOPED_ON: dict[str, Kind] = {
    "corners": corners,
    "even": even,
    "photographs_to_develop": photographs_to_develop,
    "blurred": blurred,
    "red_cells": red_cells,
    "noise": noise,
    "photographs": photographs,
    "graphics": graphics,
    "cut": cut,
}
TESTED_ON: dict[str, Kind] = {
    "halves": halves,
    "smeared": smeared,
    "deposits": deposits,
}
