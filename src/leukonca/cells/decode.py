"""One picture, whatever its file format, becomes an array of red, green and blue.

What is done, for every format alike:

- **Alpha is dropped**, never blended: the stored colours are kept, also under transparent pixels.
- **Grey** becomes three equal channels; 1-bit becomes 0 and 255; a palette is looked up.
- **16 bits** become 8 by taking the high byte. A camera's 12 bits in a 16-bit file are *not* guessed at
  from the values: the same dark picture could be either, and a guess per picture would make a cell's
  brightness depend on its neighbours. Only a depth that the file declares (a 12-bit TIFF) is used.
- **CMYK** becomes RGB by (1 - C)(1 - K), the inverted CMYK of Adobe's JPEG included.
- **EXIF orientation** is applied. Colour profiles are not: they are no part of the published sets.
- Of several pages or frames the first counts.

Only the five formats below are ever handed to Pillow, by their first bytes and not by their name, so
that none of its other, rarely used readers sees a stranger's file.
"""

from __future__ import annotations

import errno
import hashlib
import ntpath
import os
import stat
from collections.abc import Callable
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from leukonca.cells.npz import read_member, split_member
from leukonca.errors import PictureError, SettingError

__all__ = ["MAX_PIXELS", "MIN_SIDE", "Picture", "content_hash", "decode"]

Picture: TypeAlias = npt.NDArray[np.uint8]
"""A decoded picture: uint8 [H, W, 3], red, green, blue."""

MAX_PIXELS: Final = 80_000_000
"""Larger pictures are refused before they are decoded. It lies below the size (89 megapixels) at which
Pillow would issue its own process-wide warning."""

MIN_SIDE: Final = 8
"""Smaller pictures (in pixels) hold no cell."""

_FORMATS: Final = "JPEG, PNG, BMP, TIFF and WebP"

_ORIENTED: Final[dict[int, Callable[[Picture], Picture]]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


def decode(path: str | os.PathLike[str]) -> Picture:
    """Read one picture.

    Args:
        path: A JPEG, PNG, BMP, TIFF or WebP file, or one picture of a NumPy archive as
            ``FILE.npz::MEMBER/INDEX`` (see `leukonca.cells.npz`).

    Returns:
        uint8 [H, W, 3], red, green, blue, C-contiguous, the caller's own.

    Raises:
        PictureError: The file is missing, a folder, not readable, empty, truncated, damaged, not a
            picture, of an unsupported kind, or its size is out of bounds. The reason says which.
        SettingError: Another part of this program told Pillow to fill truncated pictures.
    """
    name = os.fspath(path)
    if (member := split_member(name)) is not None:
        picture = read_member(name, *member)
        _check_size(name, picture.shape[1], picture.shape[0])
        return picture
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise SettingError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True in this program: truncated pictures would be "
            "filled with grey and pass as cells; set it to False before reading pictures"
        )
    try:
        with _open(name) as stream:
            return _decode_stream(name, stream)
    except OSError as error:
        raise PictureError(name, _os_reason(error)) from error


def content_hash(picture: Picture) -> str:
    """Return 32 hexadecimal digits that two pictures share only where size and all values are equal.

    The hash is of the decoded picture: one cell saved as PNG and as BMP has one hash.

    Args:
        picture: uint8 [H, W, 3].
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.array(picture.shape, dtype="<u4").tobytes())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def _open(name: str) -> BinaryIO:
    """Open a regular file that is not empty; a folder, a pipe or a device is refused, not waited for."""
    path = _windows_long(name) if os.name == "nt" else name
    try:
        status = os.stat(path)
    except ValueError as error:  # a NUL character, or one that the file system cannot write
        raise PictureError(name, f"is not a possible file name ({error}); correct the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise PictureError(name, "is a folder, not a picture; name the pictures in it")
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(name, "is not a regular file; copy the picture to a file first")
    if status.st_size == 0:
        raise PictureError(name, "is empty (0 bytes); fetch it again from where it came")
    return open(path, "rb")


def _windows_long(name: str) -> str:
    r"""Return the form of a path that Windows opens beyond 260 characters (``\\?\``)."""
    full = ntpath.abspath(name)
    if len(full) < 248 or full.startswith("\\\\?\\"):
        return name
    return "\\\\?\\UNC\\" + full[2:] if full.startswith("\\\\") else "\\\\?\\" + full


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist; check the path"
    if isinstance(error, PermissionError):
        return "may not be read by this user; change its permissions"
    if error.errno == errno.ENAMETOOLONG:
        return "has a path too long for this system; move it to a shorter one"
    return f"cannot be read ({error.strerror or error}); check the disk or fetch it again"


def _reader(head: bytes) -> type[ImageFile.ImageFile] | None:
    """Choose Pillow's reader by the first 12 bytes of a file."""
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if head.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return TiffImagePlugin.TiffImageFile
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    return None


def _decode_stream(name: str, stream: BinaryIO) -> Picture:
    reader = _reader(stream.read(12))
    stream.seek(0)
    if reader is None:
        raise PictureError(name, f"is not a picture of a known format; {_FORMATS} are read")
    # Pillow answers a damaged file with nearly any exception (SyntaxError, struct.error, KeyError,
    # zlib.error, ...), so everything that it raises is the file's fault here.
    try:
        image = reader(stream)
    except Image.DecompressionBombError as error:
        raise PictureError(name, _bomb_reason(str(error))) from error
    except Exception as error:
        if "unknown pixel mode" in str(error) or "Unsupported BMP" in str(error):
            raise PictureError(name, _unsupported("pixel layout")) from error
        raise PictureError(name, _damaged(error)) from error
    with image:
        _check_size(name, *image.size)
        _check_layout(name, image)
        try:
            image.load()
            orientation = _orientation(image)
            stored = _to_rgb(image)
        except Exception as error:
            raise PictureError(name, _damaged(error)) from error
    if stored is None:
        raise PictureError(name, _unsupported(f"pixel kind (Pillow's mode {image.mode!r})"))
    upright = _ORIENTED[orientation](stored) if orientation in _ORIENTED else stored
    return np.ascontiguousarray(upright)


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(name, _bomb_reason(f"{width}×{height} px"))
    if min(width, height) < MIN_SIDE:
        raise PictureError(
            name, f"is only {width}×{height} px; a cell needs at least {MIN_SIDE}×{MIN_SIDE}: take it out"
        )


def _check_layout(name: str, image: ImageFile.ImageFile) -> None:
    """Refuse what Pillow would read as noise: planes of 16 bits one after another, taken for 8 bits."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return
    planar = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2
    if planar and image.mode in ("RGB", "RGBA", "CMYK") and _declared_bits(image) > 8:
        raise PictureError(name, _unsupported("pixel layout (a 16-bit TIFF with separate colour planes)"))


def _bomb_reason(size: str) -> str:
    return f"is too large ({size}; at most {MAX_PIXELS // 1_000_000} megapixels); cut single cells out of it"


def _damaged(error: Exception) -> str:
    return f"is truncated or damaged ({error}); fetch it again from where it came"


def _unsupported(what: str) -> str:
    return f"has an unsupported {what}; save it as 8-bit RGB (PNG or TIFF)"


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8. Called after loading: Pillow turns TIFF itself and clears it."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # broken side information does not make the picture unusable
        return 1


def _to_rgb(image: Image.Image) -> Picture | None:
    """Return the stored colours, uint8 [H, W, 3] before orientation, or ``None`` for an unknown mode."""
    mode = image.mode
    if mode in ("RGB", "RGBA", "RGBX"):
        return np.array(image)[..., :3]
    if mode in ("L", "LA"):
        grey: npt.NDArray[Any] = np.array(image)
        return _three(grey if mode == "L" else grey[..., 0])
    if mode in ("P", "PA"):
        return _look_up(image)
    if mode == "1":
        return _three(np.array(image.convert("L")))
    if mode in ("CMYK", "YCbCr"):
        return np.array(image.convert("RGB"))
    if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):  # Pillow < 11 reads PNG as I
        return _three(_high_byte(image))
    return None


def _three(grey: npt.NDArray[Any]) -> Picture:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _look_up(image: Image.Image) -> Picture:
    # Pillow's own conversion to RGB blends or warns where the palette has transparent entries.
    indices = np.array(image)
    if indices.ndim == 3:
        indices = indices[..., 0]
    entries = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(entries)] = entries
    picture: Picture = palette[indices]
    return picture


def _declared_bits(image: Image.Image) -> int:
    """Return how many bits a sample has by the file's own word."""
    bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _high_byte(image: Image.Image) -> npt.NDArray[np.uint16]:
    values: npt.NDArray[np.uint16] = np.array(image).astype(np.uint16)
    high = values >> np.uint16(_declared_bits(image) - 8)
    tags = getattr(image, "tag_v2", {})
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) == 0:  # "white is zero"
        high = np.uint16(255) - high
    return high
