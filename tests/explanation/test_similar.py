from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import runs
from explanation.scenes import model
from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import frame
from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, ModelError, SettingError
from leukonca.explanation.features import vectors_of
from leukonca.explanation.similar import CellIndex, index_cells
from leukonca.explanation.storage import load_parts, save_parts
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id


@pytest.fixture(scope="module")
def index() -> CellIndex:
    return index_cells(runs.model(), runs.run().manifest, seeds=2)


def queries(trained: TrainedModel, paths: list[str]) -> tuple[np.ndarray, list[str]]:
    pictures = [decode(path) for path in paths]
    framed = np.stack([frame(picture, trained.framing) for picture in pictures])
    return framed, [content_hash(picture) for picture in pictures]


def test_the_index_holds_the_training_cells_and_no_others(index: CellIndex) -> None:
    frame_ = runs.run().manifest.frame
    training = frame_[frame_["split"] == "train"]
    assert list(index.paths) == training["path"].tolist()
    assert list(index.labels) == training["label"].tolist()
    assert list(index.hashes) == training["hash"].tolist()
    assert index.features.dtype == np.float16
    values = index.features.astype(np.float64)
    assert values.mean(axis=0) == pytest.approx(np.zeros(values.shape[1]), abs=1e-2)
    spread = values.std(axis=0)
    assert ((np.abs(spread - 1) < 1e-2) | (spread < 1e-2)).all()


def test_neighbours_are_those_of_comparing_all_with_all(index: CellIndex) -> None:
    trained, paths = runs.model(), runs.paths("test")
    framed, hashes = queries(trained, paths)
    found = index.nearest(trained, framed, hashes, count=4)
    everything, known = queries(trained, [*index.paths, *paths])
    ids = np.array([image_id(one) for one in known])
    features = vectors_of(trained, everything, ids, seeds=2).features.astype(np.float64)
    features = features[:, : 2 * runs.model().network.architecture.channels]  # type: ignore[union-attr]
    cells, asked = features[: len(index)], features[len(index) :]
    spread = np.maximum(cells.std(axis=0), 1e-6)
    for query, neighbours in zip(asked, found, strict=True):
        distances = np.sqrt((((cells - query) / spread) ** 2).mean(axis=1))
        order = np.argsort(distances)
        assert [one.distance for one in neighbours] == pytest.approx(distances[order[:4]], rel=0.02)
        assert {one.path for one in neighbours[:3]} <= {index.paths[at] for at in order[:5]}
        for one in neighbours:
            at = index.paths.index(one.path)
            assert (one.label, one.hash) == (index.labels[at], index.hashes[at])


def test_a_training_cell_is_not_similar_to_itself(index: CellIndex) -> None:
    trained = runs.model()
    framed, hashes = queries(trained, list(index.paths[:2]))
    for own, neighbours in zip(hashes, index.nearest(trained, framed, hashes, count=3), strict=True):
        assert len(neighbours) == 3
        assert own not in {one.hash for one in neighbours}
        assert neighbours[0].distance > 0
    # Told under another hash it is found, at no distance but that of half precision.
    other = ["f" * 32]
    again = replace(index, hashes=index.hashes)
    images = np.array([image_id(hashes[0])])
    vector = vectors_of(trained, framed[:1], images, seeds=2).features[:, : len(index.mean)]
    squares = again._squared_distances((vector - index.mean) / index.spread)
    assert np.sqrt(squares[0].min()) < 2e-3
    assert len(index.nearest(trained, framed[:1], other, count=1)) == 1


def test_fewer_neighbours_where_there_are_no_more(index: CellIndex) -> None:
    trained = runs.model()
    framed, hashes = queries(trained, runs.paths("test")[:1])
    (every,) = index.nearest(trained, framed, hashes, count=1000)
    assert len(every) == len(index)
    assert [one.distance for one in every] == sorted(one.distance for one in every)


def test_an_index_is_read_as_it_was_written(index: CellIndex, tmp_path: Path) -> None:
    strange = replace(index, paths=("\udcff µ.png", *index.paths[1:]))
    strange.save(tmp_path / "cells.safetensors")
    found = CellIndex.load(tmp_path / "cells.safetensors")
    for name in ("paths", "labels", "hashes", "seeds", "model"):
        assert getattr(found, name) == getattr(strange, name)
    for name in ("features", "mean", "spread"):
        assert (getattr(found, name) == getattr(strange, name)).all()


def test_an_index_that_does_not_fit_together_is_refused(index: CellIndex, tmp_path: Path) -> None:
    for change in (
        {"labels": index.labels[1:]},
        {"features": index.features[:, 1:]},
        {"spread": np.full_like(index.spread, np.nan)},
        {"paths": (), "labels": (), "hashes": (), "features": index.features[:0]},
    ):
        with pytest.raises(ModelError, match="an index"):
            replace(index, **change)  # type: ignore[arg-type]
    file = tmp_path / "x.safetensors"
    from leukonca.explanation.storage import save_parts

    save_parts(file, "index of cells", {"paths": ["a"]}, {"features": index.features[:1]})
    with pytest.raises(ModelError, match="not an index of cells, or damaged"):
        CellIndex.load(file)


def test_wrong_use_is_refused(index: CellIndex) -> None:
    trained = runs.model()
    framed, hashes = queries(trained, runs.paths("test")[:1])
    with pytest.raises(SettingError, match="count=0: ask for at least 1"):
        index.nearest(trained, framed, hashes, count=0)
    with pytest.raises(ModelError, match="the index of cells: made for another model"):
        index.nearest(model(), framed, hashes)
    tested = Manifest(pd.DataFrame({"path": runs.paths("test")}))
    with pytest.raises(DataError, match="none of the 6 pictures is one that this model was trained on"):
        index_cells(trained, tested)


def test_broken_files_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.png").write_bytes(b"x")
    rows = pd.DataFrame({"path": [str(tmp_path / "broken.png"), *runs.paths("train")[:3]]})
    with caplog.at_level(logging.WARNING):
        made = index_cells(runs.model(), Manifest(rows), seeds=1)
    assert list(made.paths) == runs.paths("train")[:3]
    assert made.labels == ("", "", "")
    assert "left out" in caplog.text


def test_a_model_that_knows_no_training_cells_takes_all() -> None:
    rows = pd.DataFrame({"path": runs.paths("test")})
    imported = replace(runs.model(), seen_training=np.empty(0, dtype=np.int64))
    assert len(index_cells(imported, Manifest(rows), seeds=1)) == 6


def test_so_many_of_each_class_are_chosen_whatever_their_order() -> None:
    manifest = runs.run().manifest
    few = index_cells(runs.model(), manifest, seeds=1, per_class=2)
    turned = index_cells(runs.model(), manifest.subset(range(len(manifest))[::-1]), seeds=1, per_class=2)
    assert sorted(few.labels) == sorted(name for name in manifest.classes for _ in range(2))
    assert set(few.hashes) == set(turned.hashes)
    by_label: dict[str, list[str]] = {label: [] for label in few.labels}
    for label, hash_ in zip(few.labels, few.hashes, strict=True):
        by_label[label].append(hash_)
    whole = index_cells(runs.model(), manifest, seeds=1)
    for label, found in by_label.items():
        every = [one for one, own in zip(whole.hashes, whole.labels, strict=True) if own == label]
        assert sorted(found) == sorted(every)[:2]
    with pytest.raises(SettingError, match="per_class=0 must be at least 1"):
        index_cells(runs.model(), manifest, per_class=0)


def test_small_pictures_come_back_as_they_were_kept(tmp_path: Path, index: CellIndex) -> None:
    trained = runs.model()
    kept = replace(index.with_pictures(trained.framing), credit="somebody")
    kept.save(tmp_path / "i")
    loaded = CellIndex.load(tmp_path / "i")
    assert loaded.pictures == kept.pictures
    assert loaded.credit == "somebody"
    framed, hashes = queries(trained, runs.paths("test")[:1])
    (nearest,) = loaded.nearest(trained, framed, hashes, 2)
    for one in nearest:
        assert loaded.paths[one.number] == one.path
        assert loaded.picture_of(one, trained.framing) == index.picture_of(one, trained.framing)
        assert Image.open(io.BytesIO(loaded.picture_of(one, trained.framing) or b"")).size == (72, 72)


def test_a_file_that_changed_is_not_shown_for_what_it_was(tmp_path: Path, index: CellIndex) -> None:
    trained = runs.model()
    framed, hashes = queries(trained, runs.paths("test")[:1])
    (nearest,) = index.nearest(trained, framed, hashes, 1)
    for path in (runs.paths("test")[0], str(tmp_path / "none.png")):
        moved = replace(index, paths=(path,) * len(index))
        assert moved.picture_of(replace(nearest[0], path=path), trained.framing) is None
        with pytest.raises(DataError, match="is no longer the picture that was indexed"):
            moved.with_pictures(trained.framing)


def test_small_pictures_that_are_not_whole_are_refused(tmp_path: Path, index: CellIndex) -> None:
    with pytest.raises(ModelError, match="has 1 small pictures"):
        replace(index, pictures=(b"x",))
    kept = index.with_pictures(runs.model().framing)
    kept.save(tmp_path / "i")
    note, arrays = load_parts(tmp_path / "i", "index of cells", "an index")
    arrays["picture_ends"] = arrays["picture_ends"][:-1]
    save_parts(tmp_path / "j", "index of cells", note, arrays)
    with pytest.raises(ModelError, match="small pictures are not whole"):
        CellIndex.load(tmp_path / "j")
