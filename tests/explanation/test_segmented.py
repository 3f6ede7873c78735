from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from explanation.scenes import model, smear
from leukonca.cells.decode import decode
from leukonca.explanation.segmentation import segment
from leukonca.explanation.segmented import COLUMNS, SegmentedFolder, draw_outlines, segment_files
from leukonca.explanation.shape import measure_shape


def write(path: Path, **scene: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smear(**scene)[0]).save(path)  # type: ignore[arg-type]
    return str(path)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "cells.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_files_give_what_their_pictures_give(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")
    cells = list(segment_files(model(), [paths[0], str(broken), *paths[1:]], seeds=2, batch=2))
    assert [cell.path for cell in cells] == [paths[0], str(broken), *paths[1:]]
    assert (cells[1].picture, cells[1].found) == (None, None)
    assert cells[1].error.startswith("is not a picture of a known format")
    for path, cell in zip(paths, [cells[0], *cells[2:]], strict=True):
        (alone,) = segment(model(), [decode(path)], seeds=2)
        assert cell.error == ""
        assert cell.found is not None
        assert (cell.found.labelled == alone.labelled).all()


def test_a_folder_holds_masks_outlines_and_measures(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a" / "cell.png", side=80, cell=(40, 40, 18)),
        write(tmp_path / "b" / "cell.jpg"),
    ]
    folder = SegmentedFolder(tmp_path / "out")
    for cell in segment_files(model(), [*paths, str(tmp_path / "none.png")], seeds=2):
        folder.add(cell)
    assert folder.write_table() == tmp_path / "out" / "cells.csv"
    first, second, missing = rows_of(tmp_path / "out")
    assert tuple(first) == COLUMNS
    assert [row["path"] for row in (first, second)] == paths
    assert (first["mask"], second["mask"]) == ("masks/cell.png", "masks/cell-2.png")
    for row, side in ((first, 80), (second, 96)):
        mask = np.array(Image.open(tmp_path / "out" / row["mask"]))
        assert mask.shape == (side, side)
        shape = measure_shape(mask > 0)
        assert int(row["area_px"]) == shape.area
        assert int(row["nucleus_px"]) == (mask == 255).sum()
        assert float(row["area_share"]) == pytest.approx(shape.area / side**2, abs=1e-4)
        assert float(row["circularity"]) == pytest.approx(shape.circularity, abs=1e-4)
        box = tuple(int(row[f"box_{name}_px"]) for name in ("left", "top", "width", "height"))
        assert box == shape.box
        assert row["at_edge"] == "no"
        assert float(row["nucleus_share"]) == pytest.approx((mask == 255).sum() / shape.area, abs=1e-4)
        with Image.open(tmp_path / "out" / row["outline"]) as outline:
            assert min(outline.size) >= 480
    assert missing["error"].startswith("does not exist")
    assert not any(value for name, value in missing.items() if name not in ("path", "error"))


def test_a_picture_without_a_cell_is_a_row_without_measures(tmp_path: Path) -> None:
    path = tmp_path / "field.png"
    Image.new("RGB", (60, 50), (240, 235, 230)).save(path)
    folder = SegmentedFolder(tmp_path / "out")
    folder.add(next(segment_files(model(), [str(path)])))
    folder.write_table()
    (row,) = rows_of(tmp_path / "out")
    assert (row["width_px"], row["height_px"], row["area_px"], row["circularity"]) == ("60", "50", "0", "")
    assert row["error"] == ""


def test_outlines_lie_on_the_border_and_leave_the_rest(tmp_path: Path) -> None:
    picture, *_ = smear(side=96)
    (found,) = segment(model(), [picture])
    drawn = draw_outlines(picture, found)
    assert drawn.shape == (480, 480, 3)
    yellow = (drawn == (255, 221, 0)).all(axis=-1)
    cyan = (drawn == (0, 229, 255)).all(axis=-1)
    assert yellow.sum() > 300
    assert cyan.sum() > 200
    cell = found.cell.repeat(5, axis=0).repeat(5, axis=1)
    # Within two pixels of the small picture of where the mask ends.
    border = ndimage.binary_dilation(cell, iterations=10) ^ ndimage.binary_erosion(cell, iterations=10)
    assert not (yellow & ~border).any()
    untouched = np.array(Image.fromarray(picture).resize((480, 480), Image.Resampling.BICUBIC))
    assert (drawn[:40] == untouched[:40]).all()
