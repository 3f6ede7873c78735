"""Pictures of a NumPy archive are those that NumPy itself reads from it."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from leukonca.cells import npz
from leukonca.cells.decode import decode
from leukonca.errors import PictureError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    np.savez_compressed(
        tmp_path / "bloodmnist.npz",
        train_images=chance.integers(0, 256, (5, 28, 30, 3), dtype=np.uint8),
        grey_images=chance.integers(0, 256, (4, 28, 28), dtype=np.uint8),
        fortran_images=np.asfortranarray(chance.integers(0, 256, (3, 9, 10, 3), dtype=np.uint8)),
        tiny_images=np.zeros((2, 4, 4, 3), np.uint8),
        no_images=np.zeros((0, 28, 28, 3), np.uint8),
        train_labels=np.zeros((5, 1), np.uint8),
        float_images=np.zeros((2, 28, 28, 3)),
    )
    return tmp_path / "bloodmnist.npz"


def reason(address: str) -> str:
    with pytest.raises(PictureError) as caught:
        decode(address)
    assert caught.value.path == address
    return caught.value.reason


def test_pictures_are_those_of_numpy(archive: Path) -> None:
    with np.load(archive) as arrays:
        for member in ("train_images", "fortran_images"):
            for index, expected in enumerate(arrays[member]):
                picture = decode(f"{archive}::{member}/{index}")
                np.testing.assert_array_equal(picture, expected)
                assert picture.flags.c_contiguous
                assert picture.flags.writeable
                assert type(picture) is np.ndarray
        for index, expected in enumerate(arrays["grey_images"]):
            np.testing.assert_array_equal(
                decode(f"{archive}::grey_images/{index}"), np.repeat(expected[..., None], 3, axis=2)
            )


def test_what_is_not_there_is_named(archive: Path) -> None:
    assert "0 to 4, not '5'" in reason(f"{archive}::train_images/5")
    assert "0 to 4, not '-1'" in reason(f"{archive}::train_images/-1")
    assert "0 to 4, not 'x'" in reason(f"{archive}::train_images/x")
    assert "0 to 4" in reason(f"{archive}::train_images/" + "9" * 5000)
    assert "no member 'test_images'" in reason(f"{archive}::test_images/0")
    assert "train_images" in reason(f"{archive}::test_images/0")
    assert "does not exist" in reason(f"{archive.with_name('none.npz')}::train_images/0")


def test_what_holds_no_pictures_is_refused(archive: Path) -> None:
    assert "uint8 [5, 1]" in reason(f"{archive}::train_labels/0")
    assert "float64" in reason(f"{archive}::float_images/0")
    assert "holds no picture" in reason(f"{archive}::no_images/0")
    assert "4×4 px" in reason(f"{archive}::tiny_images/0")


def test_damaged_and_hostile_archives(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    assert "cannot be read" in reason(f"{tmp_path / 'cut.npz'}::train_images/0")
    (tmp_path / "text.npz").write_text("no archive")
    assert "cannot be read" in reason(f"{tmp_path / 'text.npz'}::train_images/0")
    (tmp_path / "folder.npz").mkdir()
    assert "cannot be read" in reason(f"{tmp_path / 'folder.npz'}::train_images/0")

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    np.savez(tmp_path / "pickle.npz", images=np.array([Hostile()] * 8, dtype=object).reshape(2, 2, 2))
    assert "object" in reason(f"{tmp_path / 'pickle.npz'}::images/0")
    assert not (tmp_path / "executed").exists()

    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as lie, lie.open("images.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (9, 99, 99, 3)}
        )
        stream.write(b"too little")
    assert "length" in reason(f"{tmp_path / 'lie.npz'}::images/0")


def test_lack_of_room_is_told(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = npz.shutil.disk_usage(archive.parent)
    monkeypatch.setattr(npz.shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert "set TMPDIR" in reason(f"{archive}::train_images/0")


def test_a_member_is_unpacked_once_and_again_when_the_file_changes(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[str] = []
    original = npz._map_member

    def counted(name: str, file: str, member: str) -> np.ndarray:
        unpacked.append(member)
        return original(name, file, member)

    monkeypatch.setattr(npz, "_map_member", counted)
    for index in (0, 1, 2, 0):
        decode(f"{archive}::train_images/{index}")
    assert unpacked == ["train_images"]
    fresh = np.full((6, 10, 10, 3), 7, np.uint8)
    np.savez(archive, train_images=fresh)
    np.testing.assert_array_equal(decode(f"{archive}::train_images/5"), fresh[5])
    assert len(unpacked) == 2


def test_the_pool_is_bounded_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "temporary"
    room.mkdir()
    monkeypatch.setattr(npz.tempfile, "tempdir", str(room))
    monkeypatch.setattr(npz, "_POOL", npz._Pool())
    members = {f"m{number}": np.full((1, 8, 8), number, np.uint8) for number in range(12)}
    np.savez(tmp_path / "many.npz", **members)
    for _ in range(2):
        for number in range(12):
            assert decode(f"{tmp_path / 'many.npz'}::m{number}/0")[0, 0, 0] == number
    assert len(npz._POOL._arrays) == npz._MAX_OPEN
    if os.name != "nt":
        assert list(room.iterdir()) == []


def test_threads_read_the_same(archive: Path) -> None:
    with np.load(archive) as arrays:
        expected = arrays["train_images"]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(10):
            for index in range(5):
                if not np.array_equal(decode(f"{archive}::train_images/{index}"), expected[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_addresses() -> None:
    assert npz.split_member("a/b.npz::train_images/17") == ("a/b.npz", "train_images", "17")
    assert npz.split_member("C:\\b.NPZ::train/images/0") == ("C:\\b.NPZ", "train/images", "0")
    assert npz.split_member("a/b.png") is None
    assert npz.split_member("a::b/c.png") is None
    assert npz.split_member("b.npz") is None
