from __future__ import annotations

import errno
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from micro import picture, save

from leukonca.cells.decode import content_hash
from leukonca.cells.framing import Framing, frame
from leukonca.errors import DataError, PictureError
from leukonca.learning import preparation
from leukonca.learning.preparation import prepare, read_framed, shared_folder

FRAMING = Framing(16)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [str(save(tmp_path / "cells" / f"{number}.png", picture(number))) for number in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "prepared"


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> np.ndarray:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(preparation, "decode", refuse)


def test_each_picture_is_framed_and_hashed(files: list[str], folder: Path) -> None:
    prepared = prepare(files, FRAMING, folder)
    assert prepared.pictures.shape == (5, 16, 16, 3)
    assert prepared.errors == [""] * 5
    assert prepared.ok.all()
    for number in range(5):
        np.testing.assert_array_equal(prepared.pictures[number], frame(picture(number), FRAMING))
        assert prepared.hashes[number] == content_hash(picture(number))


def test_more_files_than_are_read_ahead_keep_their_order(tmp_path: Path, folder: Path) -> None:
    paths = [str(save(tmp_path / f"{n}.png", picture(n, side=9))) for n in range(preparation._AHEAD + 30)]
    hashes = prepare(paths, Framing(9), folder).hashes
    assert hashes == [content_hash(picture(n, side=9)) for n in range(len(paths))]


def test_unreadable_files_are_named_and_the_rest_goes_on(
    files: list[str], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path(files[1]).write_bytes(b"")
    Path(files[3]).write_bytes(Path(files[3]).read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        prepared = prepare(files, FRAMING, folder)
    assert prepared.ok.tolist() == [True, False, True, False, True]
    assert [bool(hash_) for hash_ in prepared.hashes] == prepared.ok.tolist()
    assert all(prepared.errors[row] for row in (1, 3))
    assert not prepared.pictures[[1, 3]].any()
    np.testing.assert_array_equal(prepared.pictures[4], frame(picture(4), FRAMING))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    for row, message in zip((1, 3), messages, strict=True):
        assert files[row] in message
        assert prepared.errors[row] in message


def test_reasons_survive_the_cache(files: list[str], folder: Path) -> None:
    Path(files[1]).write_bytes(b"not a picture")
    first, second = prepare(files, FRAMING, folder), prepare(files, FRAMING, folder)
    assert (second.errors, second.hashes) == (first.errors, first.hashes)


def test_without_any_readable_file_the_first_reason_is_told(files: list[str], folder: Path) -> None:
    for file in files:
        Path(file).write_bytes(b"")
    with pytest.raises(DataError, match="none of the 5 pictures") as caught:
        prepare(files, FRAMING, folder)
    assert files[0] in str(caught.value)
    assert list(folder.parent.iterdir()) == []


def test_nothing_is_decoded_twice(files: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(files, FRAMING, folder)
    forbid_decoding(monkeypatch)
    second = prepare(files, FRAMING, folder)
    np.testing.assert_array_equal(second.pictures, first.pictures)
    assert (second.hashes, second.errors) == (first.hashes, first.errors)


def test_a_changed_file_is_prepared_anew(files: list[str], folder: Path) -> None:
    prepare(files, FRAMING, folder)
    save(Path(files[2]), picture(99))
    os.utime(files[2], ns=(1, 1))
    prepared = prepare(files, FRAMING, folder)
    np.testing.assert_array_equal(prepared.pictures[2], frame(picture(99), FRAMING))


def test_a_file_that_vanished_is_noticed(files: list[str], folder: Path) -> None:
    prepare(files, FRAMING, folder)
    Path(files[2]).unlink()
    assert prepare(files, FRAMING, folder).ok.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("framing", [Framing(20), Framing(16, 0.5), Framing(16, 1.0, "stretch")])
def test_another_framing_is_prepared_anew(files: list[str], folder: Path, framing: Framing) -> None:
    prepare(files, FRAMING, folder)
    np.testing.assert_array_equal(prepare(files, framing, folder).pictures[0], frame(picture(0), framing))


def test_another_order_is_prepared_anew(files: list[str], folder: Path) -> None:
    hashes = prepare(files, FRAMING, folder).hashes
    assert prepare(files[::-1], FRAMING, folder).hashes == hashes[::-1]


def test_an_interrupted_preparation_is_redone(
    files: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: str) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "decode", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(files, FRAMING, folder)
    assert not folder.exists()
    # A killed one cannot clean up behind itself.
    part = folder.with_name("prepared.part")
    part.mkdir(parents=True)
    (part / "pictures.npy").write_bytes(b"\x93NUMPY half")
    assert prepare(files, FRAMING, folder).ok.all()
    assert not part.exists()


def test_runs_share_what_was_prepared_for_the_same_files_and_framing(
    files: list[str], tmp_path: Path
) -> None:
    folder = shared_folder(tmp_path / "cache", files, FRAMING)
    first = prepare(files, FRAMING, folder, shared=True)
    written = (folder / "pictures.npy").stat().st_mtime_ns
    again = prepare(files, FRAMING, shared_folder(tmp_path / "cache", files, FRAMING), shared=True)
    np.testing.assert_array_equal(again.pictures, first.pictures)
    assert (folder / "pictures.npy").stat().st_mtime_ns == written
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
    assert shared_folder(tmp_path / "cache", files[1:], FRAMING) != folder
    assert shared_folder(tmp_path / "cache", files, Framing(FRAMING.size + 1)) != folder


def test_what_another_process_prepared_meanwhile_is_taken(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_folder(tmp_path / "cache", files, FRAMING)
    write = preparation._write

    def slower(*args: object, **kwargs: object) -> None:
        write(*args, **kwargs)
        monkeypatch.setattr(preparation, "_write", write)
        with monkeypatch.context() as patch:
            patch.setattr(preparation.os, "getpid", lambda: 1)
            prepare(files, FRAMING, folder, shared=True)

    monkeypatch.setattr(preparation, "_write", slower)
    assert prepare(files, FRAMING, folder, shared=True).ok.sum() > 0
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("name", ["pictures.npy", "cells.parquet", "prepared.json"])
@pytest.mark.parametrize("kept", [None, 0, 50])
def test_a_damaged_cache_is_redone(files: list[str], folder: Path, name: str, kept: int | None) -> None:
    prepare(files, FRAMING, folder)
    if kept is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:kept])
    if name == "prepared.json" and kept:  # that note is shorter than 50 bytes of JSON: break it
        (folder / name).write_text(json.dumps([1]), encoding="utf-8")
    np.testing.assert_array_equal(prepare(files, FRAMING, folder).pictures[4], frame(picture(4), FRAMING))


def test_a_full_disk_is_a_data_error(files: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(preparation.np.lib.format, "open_memmap", full)
    with pytest.raises(DataError, match="No space left on device; free some space"):
        prepare(files, FRAMING, folder)
    assert list(folder.parent.iterdir()) == []


def test_a_place_that_is_a_file_is_a_data_error(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        prepare(files, FRAMING, tmp_path / "file" / "prepared")


def test_members_of_an_archive_are_prepared_and_followed(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "set.npz"
    cells = np.stack([picture(number) for number in range(3)])
    np.savez(archive, images=cells)
    members = [f"{archive}::images/{number}" for number in (2, 0)]
    np.testing.assert_array_equal(prepare(members, FRAMING, folder).pictures[0], frame(cells[2], FRAMING))
    np.savez(archive, images=255 - cells)
    os.utime(archive, ns=(1, 1))
    found = prepare(members, FRAMING, folder).pictures[0]
    np.testing.assert_array_equal(found, frame(255 - cells[2], FRAMING))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such file names")
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a::b.png", b"a\rb\n.png"])
def test_strange_names_are_prepared_and_followed(tmp_path: Path, folder: Path, name: bytes) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    save(file, picture(0))
    assert prepare([str(file)], FRAMING, folder).ok.all()
    save(file, picture(1))
    os.utime(file, ns=(1, 1))
    assert prepare([str(file)], FRAMING, folder).hashes == [content_hash(picture(1))]


def test_files_are_read_only_a_few_ahead(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(path: str) -> np.ndarray:
        asked.append(path)
        raise PictureError(path, "for the test")

    monkeypatch.setattr(preparation, "decode", refuse)
    results = read_framed([f"{number}" for number in range(1000)], FRAMING)
    assert next(results) == (None, "", "for the test")
    results.close()  # type: ignore[attr-defined]
    assert len(asked) <= preparation._AHEAD + 1
