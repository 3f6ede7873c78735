from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leukonca.cells.masks import Masks, read_masks
from leukonca.cells.source import find_source
from leukonca.errors import DataError, PictureError


def save(file: Path, levels: list[list[int]]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(levels, dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)).save(file)
    return str(file)


def test_masks_of_the_published_sets_lie_where_they_are_said_to(tmp_path: Path) -> None:
    found = {name: find_source(name).masks for name in ("bcisc", "zheng1", "zheng2", "acevedo20")}
    assert found["acevedo20"] is None
    assert found["zheng1"] == found["zheng2"]
    save(tmp_path / "sub-images" / "masks" / "neut_1-2_3.png", [[0, 255]])
    bcisc = found["bcisc"]
    assert bcisc is not None
    masks = bcisc.of(str(tmp_path / "sub-images" / "images" / "neut_1-2_3.jpg"))
    assert {part: mask[0, ::8].tolist() for part, mask in masks.items()} == {"cell": [False, True]}
    save(tmp_path / "Dataset 1" / "007.png", [[0, 128, 255]])
    zheng = found["zheng1"]
    assert zheng is not None
    masks = zheng.of(str(tmp_path / "Dataset 1" / "007.bmp"))
    assert masks["cell"][0, ::8].tolist() == [False, True, True]
    assert masks["nucleus"][0, ::8].tolist() == [False, False, True]


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"1\.jpg: has no mask .*m/1\.png"):
        Masks("m/{stem}.png", {"cell": 0}).of(str(tmp_path / "1.jpg"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"file": "{stem}.png"}, "above which grey level"),
        ({"file": "{stem}.png", "nucleus": 3}, "above which grey level"),
        ({"file": "{stem}.png", "cell": 255}, "0 to 254"),
        ({"file": "mask.png", "cell": 1}, "one mask for all pictures"),
        ({"file": "{stem}.png", "cel": 1}, "unknown key 'cel'; did you mean 'cell'"),
        ({"cell": 1}, "file is missing"),
        ("masks/", "must be a table"),
    ],
)
def test_a_mistake_is_named_with_its_file(values: object, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_masks("lab.toml", values)
    assert str(caught.value).startswith("lab.toml: [masks] ")
    assert words in str(caught.value)
