"""Decoding is checked with real files written by Pillow and by tifffile, against the pixels written."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from leukonca.cells import decode as decode_module
from leukonca.cells.decode import MAX_PIXELS, content_hash, decode
from leukonca.errors import PictureError, SettingError


def colours(height: int = 12, width: int = 17, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * rows, 3 * columns, 255 - 2 * (rows + columns)], axis=2).astype(np.uint8)


def reason(path: str | os.PathLike[str]) -> str:
    with pytest.raises(PictureError) as caught:
        decode(path)
    assert caught.value.path == os.fspath(path)
    return caught.value.reason


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("lzw.tiff", {"compression": "tiff_lzw"}),
        ("deflate.tiff", {"compression": "tiff_deflate"}),
        ("a.webp", {"lossless": True}),
    ],
)
def test_lossless_formats_give_back_the_pixels(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    pixels = colours()
    Image.fromarray(pixels).save(tmp_path / name, **options)
    picture = decode(tmp_path / name)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.flags.writeable
    np.testing.assert_array_equal(picture, pixels)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95}),
        ("p.jpeg", {"quality": 95, "progressive": True}),
        ("a.webp", {"quality": 95}),
    ],
)
def test_lossy_formats_come_close(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    Image.fromarray(smooth()).save(tmp_path / name, **options)
    difference = decode(str(tmp_path / name)).astype(int) - smooth()
    assert np.abs(difference).mean() < 4


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "cell.png")
    (tmp_path / "cell.png").rename(tmp_path / "cell.jpg")
    np.testing.assert_array_equal(decode(tmp_path / "cell.jpg"), colours())


def test_first_page_and_first_frame(tmp_path: Path) -> None:
    first, second = colours(seed=1), colours(seed=2)
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([first, second]), photometric="rgb")
    np.testing.assert_array_equal(decode(tmp_path / "pages.tif"), first)
    Image.fromarray(first).save(
        tmp_path / "frames.webp", save_all=True, append_images=[Image.fromarray(second)], lossless=True
    )
    np.testing.assert_array_equal(decode(tmp_path / "frames.webp"), first)


# ---------------------------------------------------------------- alpha and palettes


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.tif", {}),
        ("z.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True, "exact": True}),
    ],
)
def test_alpha_is_dropped_and_the_stored_colours_are_kept(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    pixels = np.dstack([colours(), np.zeros((12, 17), np.uint8)])
    pixels[:6, :, 3] = 255
    pixels[6:9, :, 3] = 100
    Image.fromarray(pixels).save(tmp_path / name, **options)
    np.testing.assert_array_equal(decode(tmp_path / name), pixels[..., :3])


def test_alpha_of_grey_and_of_palette_is_dropped(tmp_path: Path) -> None:
    grey = colours()[..., 0]
    layered = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(255 - grey)])
    layered.save(tmp_path / "la.png")
    np.testing.assert_array_equal(decode(tmp_path / "la.png"), np.repeat(grey[..., None], 3, axis=2))

    indices = (grey % 4).astype(np.uint8)
    table = np.array([[10, 20, 30], [200, 0, 100], [0, 255, 0], [90, 91, 92]], np.uint8)
    painted = Image.frombytes("P", (17, 12), indices.tobytes())
    painted.putpalette(table.tobytes())
    painted.save(tmp_path / "p.png", transparency=bytes([0, 128, 255, 7]))
    np.testing.assert_array_equal(decode(tmp_path / "p.png"), table[indices])
    painted.save(tmp_path / "q.png", transparency=2)
    np.testing.assert_array_equal(decode(tmp_path / "q.png"), table[indices])
    for name in ("p.bmp", "p.tif"):
        painted.save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name), table[indices])


def test_unassociated_alpha_of_tifffile(tmp_path: Path) -> None:
    pixels = np.dstack([colours(), np.full((12, 17), 3, np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(decode(tmp_path / "a.tif"), pixels[..., :3])


# ---------------------------------------------------------------- depth


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = colours()[..., 0]
    for name in ("g.png", "g.bmp", "g.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name), np.repeat(grey[..., None], 3, axis=2))


def test_one_bit_becomes_0_and_255(tmp_path: Path) -> None:
    black = colours()[..., 0] > 100
    for name in ("b.png", "b.bmp", "b.tif"):
        Image.fromarray(black).save(tmp_path / name)
        expected = np.repeat(np.where(black, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
        np.testing.assert_array_equal(decode(tmp_path / name), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_keeps_the_high_byte(
    tmp_path: Path, order: str, compression: str | None, channels: int
) -> None:
    values = np.random.default_rng(3).integers(0, 65536, (12, 17, channels), dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "deep.tif",
        values if channels > 1 else values[..., 0],
        photometric="rgb" if channels > 1 else "minisblack",
        byteorder=order,
        compression=compression,
        extrasamples=["unassalpha"] if channels == 4 else None,
    )
    expected = np.repeat(values, 3, axis=2) if channels == 1 else values[..., :3]
    np.testing.assert_array_equal(decode(tmp_path / "deep.tif"), (expected >> 8).astype(np.uint8))


def test_16_bit_tiff_with_white_as_zero_is_inverted(tmp_path: Path) -> None:
    values = np.random.default_rng(4).integers(0, 65536, (12, 17), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "w.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(decode(tmp_path / "w.tif")[..., 1], 255 - (values >> 8))


def test_12_bits_in_16_are_not_guessed_at(tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 4096, (12, 17), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "camera.tif", values, photometric="minisblack")
    assert decode(tmp_path / "camera.tif").max() <= 15


def _twelve_bit_tiff(values: np.ndarray) -> bytes:
    """A TIFF that declares 12 bits per sample, written by hand: no writer at hand makes one."""
    height, width = values.shape
    bits = "".join(format(int(value), "012b") for value in values.ravel())
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(data))])
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", 9) + entries + b"\0\0\0\0"


def test_12_bits_that_the_file_declares_are_used(tmp_path: Path) -> None:
    values = np.random.default_rng(6).integers(0, 4096, (12, 16), dtype=np.uint16)
    (tmp_path / "declared.tif").write_bytes(_twelve_bit_tiff(values))
    np.testing.assert_array_equal(decode(tmp_path / "declared.tif")[..., 0], values >> 4)


def _png(values: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG [H, W, channels], written by hand: Pillow writes 16 bits only for grey."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_keeps_the_high_byte(tmp_path: Path, colour_type: int, channels: int) -> None:
    values = np.random.default_rng(7).integers(0, 65536, (12, 17, channels), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(_png(values, colour_type))
    expected = values[..., :3] if channels > 2 else np.repeat(values[..., :1], 3, axis=2)
    np.testing.assert_array_equal(decode(tmp_path / "deep.png"), (expected >> 8).astype(np.uint8))


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_separate_planes_are_read_right_or_refused(
    tmp_path: Path, depth: str, compression: str | None
) -> None:
    values = np.random.default_rng(8).integers(0, np.iinfo(depth).max + 1, (3, 12, 17), dtype=depth)
    tifffile.imwrite(
        tmp_path / "planes.tif", values, photometric="rgb", planarconfig="separate", compression=compression
    )
    if depth == "uint16":
        assert "separate colour planes" in reason(tmp_path / "planes.tif")
    else:
        np.testing.assert_array_equal(decode(tmp_path / "planes.tif"), values.transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", ["float32", "uint32", "int16"])
def test_unsupported_kinds_are_refused_with_the_remedy(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "odd.tif", np.zeros((12, 17), dtype), photometric="minisblack")
    assert "unsupported" in reason(tmp_path / "odd.tif")
    assert "save it as 8-bit RGB" in reason(tmp_path / "odd.tif")


# ---------------------------------------------------------------- CMYK and orientation


def test_cmyk_of_tiff_and_of_adobe_jpeg(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:32, :48]
    ink = np.stack([5 * rows, 4 * columns, 3 * rows, rows + columns], axis=2).astype(np.uint8)
    cmyk = Image.frombytes("CMYK", (48, 32), ink.tobytes())
    inverse = 255.0 - ink
    expected = inverse[..., :3] * inverse[..., 3:] / 255.0

    cmyk.save(tmp_path / "c.tif")
    np.testing.assert_allclose(decode(tmp_path / "c.tif"), expected, atol=1.01)

    cmyk.save(tmp_path / "c.jpg", quality=98, subsampling=0)
    assert b"Adobe" in (tmp_path / "c.jpg").read_bytes()
    assert np.abs(decode(tmp_path / "c.jpg") - expected).mean() < 3


@pytest.mark.parametrize("name", ["o.jpg", "o.png", "o.tif", "o.webp", "z.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"o.webp": {"lossless": True}, "o.jpg": {"quality": 95}, "z.tif": {"compression": "tiff_lzw"}}
    source = Image.fromarray(smooth())
    source.save(tmp_path / name, exif=exif, **options.get(name, {}))
    source.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(source)).astype(int)
    picture = decode(tmp_path / name)
    assert picture.shape == expected.shape
    assert picture.flags.c_contiguous
    assert np.abs(picture - expected).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_does_not_spoil_the_picture(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "e.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode(tmp_path / "e.jpg").shape == (40, 56, 3)


# ---------------------------------------------------------------- what is refused


def test_missing_folder_empty_foreign(tmp_path: Path) -> None:
    assert "does not exist" in reason(tmp_path / "none.png")
    assert "is a folder" in reason(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "empty (0 bytes)" in reason(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("a cell, honestly")
    assert "not a picture" in reason(tmp_path / "text.png")
    assert "does not exist" in reason(tmp_path / "text.png" / "below.png")
    assert "not a possible file name" in reason("nul\0.png")
    Image.fromarray(colours()).save(tmp_path / "moving.gif")
    assert "JPEG, PNG, BMP, TIFF and WebP are read" in reason(tmp_path / "moving.gif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in reason(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "may not be read"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_refusals_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(decode_module, "open", refuse, raising=False)
    assert words in reason(tmp_path / "a.png")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read everything"
)
def test_permission_denied_for_real(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    assert "may not be read" in reason(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_tiny_pictures_are_refused_with_their_size(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "tiny.png")
    assert f"{size[0]}×{size[1]} px" in reason(tmp_path / "tiny.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "least.png")
    assert decode(tmp_path / "least.png").shape == (8, 8, 3)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    def png_of(width: int, height: int) -> bytes:
        blank = _png(np.zeros((1, 1, 1), np.uint16), 0)
        head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        chunk = b"IHDR" + head
        return blank[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + blank[33:]

    (tmp_path / "bomb.png").write_bytes(png_of(100_000, 100_000))
    assert "100000×100000 px; at most 80 megapixels" in reason(tmp_path / "bomb.png")
    (tmp_path / "edge.png").write_bytes(png_of(MAX_PIXELS // 8 + 1, 8))
    assert "too large" in reason(tmp_path / "edge.png")

    webp = io.BytesIO()
    Image.new("RGB", (16, 16)).save(webp, "WEBP", lossless=True)
    data = bytearray(webp.getvalue())
    position = data.index(b"VP8L") + 9
    data[position : position + 4] = struct.pack("<I", 16_382 | 16_382 << 14)
    (tmp_path / "bomb.webp").write_bytes(data)
    assert "too large" in reason(tmp_path / "bomb.webp")


def _encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(smooth())
    if kind == "rle.bmp":
        return _rle_bmp()
    options: dict[str, tuple[str, dict[str, object]]] = {
        "jpeg": ("JPEG", {"quality": 90}),
        "progressive": ("JPEG", {"quality": 90, "progressive": True}),
        "png": ("PNG", {}),
        "bmp": ("BMP", {}),
        "tiff": ("TIFF", {}),
        "lzw": ("TIFF", {"compression": "tiff_lzw"}),
        "webp": ("WEBP", {"quality": 90}),
        "lossless webp": ("WEBP", {"lossless": True}),
    }
    name, saving = options[kind]
    picture.save(stream, name, **saving)
    return stream.getvalue()


def _rle_bmp(side: int = 16) -> bytes:
    """An 8-bit run-length BMP, written by hand: Pillow reads such files but does not write them."""
    rows = b"".join(bytes([side, 10 * row, 0, 0]) for row in range(side)) + b"\0\x01"
    table = b"".join(bytes([value, value, value, 0]) for value in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    start = 14 + len(head) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + table + rows


KINDS = ["jpeg", "progressive", "png", "bmp", "rle.bmp", "tiff", "lzw", "webp", "lossless webp"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_truncated_file_is_never_another_picture(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
) -> None:
    """Whatever its cut, a file is refused or, where only its trailer is missing, read in full."""
    folder = tmp_path_factory.getbasetemp()
    whole = _encoded(kind)
    (folder / "whole").write_bytes(whole)
    (folder / "cut").write_bytes(whole[: int(share * len(whole))])
    try:
        picture = decode(folder / "cut")
    except PictureError:
        return
    np.testing.assert_array_equal(picture, decode(folder / "whole"))


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_file_is_called_truncated(tmp_path: Path, kind: str) -> None:
    whole = _encoded(kind)
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    assert "truncated or damaged" in reason(tmp_path / "half")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_damaged_file_is_a_picture_error_or_a_picture(
    tmp_path_factory: pytest.TempPathFactory, kind: str, position: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    data = bytearray(_encoded(kind))
    data[position % min(len(data), 200)] = value
    path.write_bytes(data)
    try:
        picture = decode(path)
    except PictureError:
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 3


def test_filling_of_truncated_pictures_is_not_tolerated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(SettingError, match="LOAD_TRUNCATED_IMAGES"):
        decode(tmp_path / "a.png")


def test_errors_travel_between_processes(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        decode(tmp_path / "none.png")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.path, copy.reason) == (caught.value.path, caught.value.reason)


# ---------------------------------------------------------------- names


def test_names_of_any_script_and_length(tmp_path: Path) -> None:
    for name in ("白细胞.png", "Zelle für Größe.png", "лимфоцит 🩸.png"):
        Image.fromarray(colours()).save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name), colours())


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_very_long_paths(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 3_000:
        folder = folder / ("x" * 200)
    folder.mkdir(parents=True)
    Image.fromarray(colours()).save(folder / "a.png")
    np.testing.assert_array_equal(decode(folder / "a.png"), colours())
    assert "too long" in reason(tmp_path / ("y" * 300))
    assert "too long" in reason("z/" * 3_000)


def test_windows_paths_beyond_260_characters() -> None:
    convert: Callable[[str], str] = decode_module._windows_long
    deep = "\\".join(["folder"] * 50)
    assert convert("C:\\cells\\a.png") == "C:\\cells\\a.png"
    assert convert(f"C:\\{deep}\\a.png") == f"\\\\?\\C:\\{deep}\\a.png"
    assert convert(f"\\\\server\\share\\{deep}\\a.png") == f"\\\\?\\UNC\\server\\share\\{deep}\\a.png"
    assert convert(f"\\\\?\\C:\\{deep}\\a.png") == f"\\\\?\\C:\\{deep}\\a.png"


# ---------------------------------------------------------------- hash, threads, real cells


def test_hash_is_of_the_pixels_and_the_shape(tmp_path: Path) -> None:
    pixels = colours()
    for name in ("a.png", "a.bmp", "a.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
    assert len({content_hash(decode(tmp_path / name)) for name in ("a.png", "a.bmp", "a.tif")}) == 1
    # A golden value, so that hashes stored by one version or machine hold on another.
    assert content_hash(np.arange(24, dtype=np.uint8).reshape(2, 4, 3)) == "9a5e8cc70bacdc6f07c4602362a37bc4"
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    hashes = {content_hash(p) for p in (pixels, changed, pixels.reshape(17, 12, 3))}
    assert len(hashes) == 3
    assert content_hash(np.asfortranarray(pixels)) == content_hash(pixels)


def test_threads_read_the_same(tmp_path: Path) -> None:
    for number in range(20):
        Image.fromarray(colours(seed=number)).save(tmp_path / f"{number}.png")
    wrong: list[int] = []

    def work() -> None:
        for number in range(20):
            if not np.array_equal(decode(tmp_path / f"{number}.png"), colours(seed=number)):
                wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_real_cells(shared_data: Path) -> None:
    cells = sorted((shared_data / "acevedo20" / "basophil").iterdir())[:20]
    assert {decode(cell).shape for cell in cells} == {(182, 180, 3)}
    zheng = shared_data / "zheng" / "Dataset 1"
    assert decode(zheng / "001.bmp").shape == (120, 120, 3)
