from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explanation.proofs import opened, small, write_bcisc, write_plain
from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import Framing, frame
from leukonca.cells.masks import Masks
from leukonca.cells.scan import scan
from leukonca.errors import DataError, PictureError
from leukonca.explanation.proof.cells import draw_cells, framed_masks
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id


def test_the_same_cells_are_drawn_from_any_folder(tmp_path: Path) -> None:
    drawn = [
        draw_cells(small(), scan([write_plain(tmp_path / name)]), 5) for name in ("here", "there/deeper")
    ]
    names = [[Path(path).name for path in cells.paths] for cells in drawn]
    assert names[0] == names[1]
    assert len(drawn[0]) == 5
    assert drawn[0].key == drawn[1].key
    fewer = draw_cells(small(), scan([f"folder:{tmp_path / 'here'}"]), 3)
    assert fewer.paths == drawn[0].paths[:3]


def test_what_the_model_says_of_them_is_its_prediction(tmp_path: Path) -> None:
    model = small()
    cells = draw_cells(model, scan([write_plain(tmp_path)]), 12)
    assert sorted(cells.labels) == sorted(["eosinophil", "lymphocyte", "monocyte"] * 4)
    assert cells.counts() == {"eosinophil": 4, "lymphocyte": 4, "monocyte": 4}
    for row, path in enumerate(cells.paths):
        picture = decode(path)
        np.testing.assert_array_equal(cells.pictures[row], frame(picture, model.framing))
        assert cells.images[row] == image_id(content_hash(picture))
    every = [model.probabilities(cells.pictures, cells.images, seed) for seed in range(4)]
    np.testing.assert_array_equal(cells.named, np.mean(every, axis=0).argmax(1))
    names = [model.classes[one] for one in cells.named]
    assert cells.right.tolist() == [name == label for name, label in zip(names, cells.labels, strict=True)]
    right = draw_cells(model, scan([f"folder:{tmp_path}"]), 12, right=True)
    assert right.right.all()
    assert len(right) == cells.right.sum()
    assert f"{len(right)} rightly named, unseen cells instead of the 12 asked for." in right.notes[-1]


def test_seen_and_broken_cells_are_left_out(tmp_path: Path) -> None:
    spec = write_plain(tmp_path)
    every = draw_cells(small(), scan([spec]), 12)
    model = replace(small(), seen_training=np.sort(every.images[:4]), seen_validation=every.images[4:5])
    Path(every.paths[5]).write_bytes(b"broken")
    cells = draw_cells(model, scan([spec]), 12)
    assert sorted(cells.paths) == sorted(every.paths[6:])
    (note,) = cells.notes
    assert note.endswith(": 6 unseen cells instead of the 12 asked for.")
    with pytest.raises(DataError, match=r"none of the 1 cells .* can be read"):
        draw_cells(replace(model, seen_training=np.sort(every.images)), scan([spec]), 12)


def test_a_class_that_the_model_lacks(tmp_path: Path) -> None:
    spec = write_plain(tmp_path)
    other: TrainedModel = replace(small(), classes=("basophil", "platelet", "blast"))
    with pytest.raises(DataError, match="can express none of the data's labels"):
        draw_cells(other, scan([spec]), 3)
    some = replace(small(), classes=("eosinophil", "lymphocyte", "blast"))
    cells = draw_cells(some, scan([spec]), 12)
    assert cells.labels.count("") == 4
    assert not cells.right[[label == "" for label in cells.labels]].any()


def test_masks_lie_on_the_cells_that_the_model_sees(tmp_path: Path) -> None:
    model = small()
    cells = draw_cells(model, scan([write_bcisc(tmp_path)]), 4)
    masks = framed_masks(cells, Masks("../masks/{stem}.png", {"cell": 127}), model)
    assert list(masks) == ["cell"]
    for path, mask, picture in zip(cells.paths, masks["cell"], cells.pictures, strict=True):
        file = Path(path).parent.parent / "masks" / f"{Path(path).stem}.png"
        share = (opened(file) > 127).mean()
        assert float(mask.float().mean()) == pytest.approx(share, abs=0.03)
        # The nucleus, which lies in the middle of the mask, is dark.
        assert picture[mask.numpy()].mean() < picture[~mask.numpy()].mean()
    (Path(cells.paths[0]).parent.parent / "masks" / f"{Path(cells.paths[0]).stem}.png").unlink()
    with pytest.raises(PictureError, match="has no mask"):
        framed_masks(cells, Masks("../masks/{stem}.png", {"cell": 127}), model)


def test_rows_and_chunks(tmp_path: Path) -> None:
    cells = draw_cells(replace(small(), framing=Framing(16)), scan([write_plain(tmp_path)]), 5)
    chunks = list(cells.chunks(2))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert [path for chunk in chunks for path in chunk.paths] == cells.paths
    assert len({chunk.key for chunk in chunks}) == 3
    few = cells.rows(np.array([3, 1]))
    assert few.labels == [cells.labels[3], cells.labels[1]]
    np.testing.assert_array_equal(few.images, cells.images[[3, 1]])
    # Another named class is another question.
    assert replace(few, named=few.named + 1).key != few.key
