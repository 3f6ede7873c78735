"""Segmenting files: masks, outlines and a table, in a folder.

::

    cells.csv            a row a file, in their order; see COLUMNS
    masks/NAME.png       0 around the cell, 128 cytoplasm, 255 nucleus, at the size of the picture
    outlines/NAME.png    the picture with the outlines of cell (yellow) and nucleus (cyan)
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from leukonca.cells.decode import decode
from leukonca.errors import PictureError
from leukonca.explanation.automaton import automaton_of, require_seeds
from leukonca.explanation.naming import UniqueNames
from leukonca.explanation.segmentation import SEEDS, Segmentation, segment
from leukonca.learning.trained import TrainedModel
from leukonca.writing import encode, write_bytes

__all__ = ["COLUMNS", "SegmentedCell", "SegmentedFolder", "draw_outlines", "segment_files"]

COLUMNS: Final = (
    "path",
    "mask",
    "outline",
    "width_px",
    "height_px",
    "area_px",
    "area_share",
    "circularity",
    "box_left_px",
    "box_top_px",
    "box_width_px",
    "box_height_px",
    "at_edge",
    "nucleus_px",
    "nucleus_share",
    "error",
)
"""Of the table. Shares are 0–1: ``area_share`` of the picture, ``nucleus_share`` of the cell."""

_CELL: Final = (255, 221, 0)
_NUCLEUS: Final = (0, 229, 255)
_DARK: Final = (20, 20, 20)
# Outlines are drawn on a picture of at least this many pixels on the shorter side, else they hide the cell.
_LEGIBLE: Final = 480

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SegmentedCell:
    """A file, and what was found in it.

    Attributes:
        path: As it was named by the user.
        picture: uint8 [H, W, 3]; ``None`` where it could not be read.
        found: Its segmentation; ``None`` where it could not be read.
        error: Why not; ``""`` where it was.
    """

    path: str
    picture: Picture | None
    found: Segmentation | None
    error: str = ""


def _read(path: str) -> tuple[Picture | None, str]:
    try:
        return decode(path), ""
    except PictureError as error:
        return None, error.reason


def segment_files(
    model: TrainedModel,
    paths: Sequence[str],
    *,
    seeds: int = SEEDS,
    batch: int = 16,
    progress: bool = False,
) -> Iterator[SegmentedCell]:
    """Segment files in their order; one that cannot be read gives its reason.

    Args:
        model: Any automaton that was trained to name cells.
        paths: Files, or members of archives.
        seeds: Firing seeds to average over, at least 1.
        batch: Pictures at a time.
        progress: Whether to show a progress bar.

    Raises:
        ModelError: The model's network is no automaton.
        SettingError: ``seeds`` is below 1.
    """
    require_seeds(seeds)
    automaton_of(model, "segmentation")
    return _segmented(model, paths, seeds, batch, progress)


def _segmented(
    model: TrainedModel, paths: Sequence[str], seeds: int, batch: int, progress: bool
) -> Iterator[SegmentedCell]:
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(paths), desc="segmenting", unit=" cells", disable=not progress) as bar,
    ):
        for start in range(0, len(paths), batch):
            part = paths[start : start + batch]
            read = list(pool.map(_read, part))
            found = iter(segment(model, [picture for picture, _ in read if picture is not None], seeds=seeds))
            for path, (picture, error) in zip(part, read, strict=True):
                yield SegmentedCell(path, picture, None if picture is None else next(found), error)
                bar.update()


def draw_outlines(picture: Picture, found: Segmentation) -> Picture:
    """Return the picture with the outlines of cell and nucleus, enlarged where it is small.

    Bright lines on dark ones, so that they are seen on every stain; yellow and cyan differ for every kind of
    colour vision, and in lightness from all that is in a smear.

    Args:
        picture: uint8 [H, W, 3].
        found: Its segmentation.

    Returns:
        uint8 [k · H, k · W, 3] with a whole k.
    """
    height, width = picture.shape[:2]
    factor = math.ceil(_LEGIBLE / min(height, width))
    large = np.array(
        Image.fromarray(picture).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    )
    for mask, colour in ((found.nucleus, _NUCLEUS), (found.cell, _CELL)):
        inside = mask.repeat(factor, axis=0).repeat(factor, axis=1)
        # The corners of enlarged pixels are rounded off.
        inside = ndimage.median_filter(inside, size=2 * (factor // 2) + 1) if factor > 1 else inside
        large[ndimage.binary_dilation(inside, iterations=2) ^ inside] = _DARK
        large[inside ^ ndimage.binary_erosion(inside, iterations=2)] = colour
    return large


class SegmentedFolder:
    """Writes segmentations into a folder; the pictures at once, the table at the end.

    Args:
        out: The folder; missing ones are made.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out = Path(out)
        self.rows: list[dict[str, Any]] = []
        self._names = UniqueNames()

    def add(self, cell: SegmentedCell) -> None:
        """Write mask and outline of a cell, and take down its row.

        Raises:
            DataError: They cannot be written.
        """
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"path": encode(cell.path).decode(), "error": encode(cell.error).decode()}
        if cell.picture is not None and cell.found is not None:
            name = f"{self._names.of(cell.path)}.png"
            row |= {"mask": f"masks/{name}", "outline": f"outlines/{name}"}
            _write_png(self.out / "masks" / name, cell.found.labelled)
            _write_png(self.out / "outlines" / name, draw_outlines(cell.picture, cell.found))
            row |= _measures(cell.picture, cell.found)
        self.rows.append(row)

    def to_frame(self) -> pd.DataFrame:
        """Return the table of what was added, with the columns of :data:`COLUMNS`."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def write_table(self) -> Path:
        """Write ``cells.csv`` and return where it is.

        Raises:
            DataError: It cannot be written.
        """
        file, buffer = self.out / "cells.csv", io.StringIO()
        # Whole numbers stay whole beside empty fields, and every text is quoted: a carriage return in a
        # file name would else end the row.
        writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_field(row[name]) for name in COLUMNS] for row in self.rows)
        write_bytes(file, encode(buffer.getvalue()))
        return file


def _measures(picture: Picture, found: Segmentation) -> dict[str, Any]:
    shape, (left, top, width, height) = found.shape, found.shape.box
    sizes = {"width_px": picture.shape[1], "height_px": picture.shape[0], "area_px": shape.area}
    if not shape.area:
        return {**sizes, "area_share": 0.0}
    return {
        **sizes,
        "area_share": shape.share,
        "circularity": shape.circularity,
        "box_left_px": left,
        "box_top_px": top,
        "box_width_px": width,
        "box_height_px": height,
        "at_edge": "yes" if found.at_edge else "no",
        "nucleus_px": found.nucleus_shape.area,
        "nucleus_share": found.nucleus_share,
    }


def _field(value: Any) -> Any:
    return "" if value is None else round(value, 4) if isinstance(value, float) else value


def _write_png(file: Path, pixels: npt.NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_bytes(file, buffer.getvalue())
