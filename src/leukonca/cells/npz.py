"""One picture of a NumPy archive, addressed as ``FILE.npz::MEMBER/INDEX``.

BloodMNIST and its kin keep tens of thousands of pictures as one compressed array of up to 2 GB, which
cannot be read in part. On its first use a member is therefore unpacked into a nameless temporary file and
mapped into memory from there: later pictures cost microseconds, memory holds only what is in use, and the
operating system takes the file back when the process ends, however it ends. (The room is needed in the
folder for temporary files, which ``TMPDIR`` moves elsewhere. Processes started later unpack for themselves.)
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from leukonca.errors import PictureError

__all__ = ["read_member", "split_member"]

_ADDRESS: Final = re.compile(r"(?P<file>.+\.npz)::(?P<member>.+)/(?P<index>[^/]*)", re.IGNORECASE | re.DOTALL)
_INDEX: Final = re.compile(r"[0-9]{1,12}")
_MAX_OPEN: Final = 8

# What zipfile, zlib and NumPy's header reader raise at a damaged, encrypted or foreign archive.
_UNREADABLE: Final = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)

_Key = tuple[str, int, int, str]


class _Pool:
    """The most recently used members, mapped; at most `_MAX_OPEN` of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: OrderedDict[_Key, npt.NDArray[np.uint8]] = OrderedDict()

    def get(self, name: str, file: str, member: str) -> npt.NDArray[np.uint8]:
        status = os.stat(file)
        key = (os.path.abspath(file), status.st_mtime_ns, status.st_size, member)
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = _map_member(name, file, member)
                while len(self._arrays) > _MAX_OPEN:
                    self._arrays.popitem(last=False)
            self._arrays.move_to_end(key)
            return self._arrays[key]


_POOL: Final = _Pool()


def split_member(name: str) -> tuple[str, str, str] | None:
    """Split ``FILE.npz::MEMBER/INDEX`` into its three parts; ``None`` for an ordinary path."""
    if "::" not in name:
        return None
    found = _ADDRESS.fullmatch(name)
    return (found["file"], found["member"], found["index"]) if found else None


def read_member(name: str, file: str, member: str, index: str) -> npt.NDArray[np.uint8]:
    """Read one picture of an archive.

    Args:
        name: The whole address, for messages.
        file: The archive.
        member: The name of an array in it: uint8 [N, H, W, 3] or, grey, [N, H, W].
        index: Which picture, a whole number from 0.

    Returns:
        uint8 [H, W, 3], C-contiguous, the caller's own.

    Raises:
        PictureError: The archive, the member or the index does not exist or is not usable.
    """
    try:
        pictures = _POOL.get(name, file, member)
    except FileNotFoundError as error:
        raise PictureError(name, f"the archive {file} does not exist; check the path") from error
    except _UNREADABLE as error:
        raise PictureError(name, f"the archive cannot be read ({error}); fetch it again") from error
    if not _INDEX.fullmatch(index) or int(index) >= len(pictures):
        raise PictureError(name, f"{member} has the pictures 0 to {len(pictures) - 1}, not {index!r}")
    picture = pictures[int(index)]
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    return np.array(picture, order="C", subok=False)


@dataclass(frozen=True, slots=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


def _read_header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return _Header(*read(stream))


def _map_member(name: str, file: str, member: str) -> npt.NDArray[np.uint8]:
    with zipfile.ZipFile(file) as archive:
        try:
            entry = archive.getinfo(f"{member}.npy")
        except KeyError:
            known = ", ".join(sorted(n.removesuffix(".npy") for n in archive.namelist())) or "nothing"
            raise PictureError(name, f"the archive has no member {member!r}; it holds {known}") from None
        with archive.open(entry) as stream:
            header = _read_header(stream)
            _check_header(name, member, header)
            size = math.prod(header.shape)
            if entry.file_size - stream.tell() != size:
                raise PictureError(
                    name, f"{member} has not the length that it states; fetch the archive again"
                )
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if size > free:
                raise PictureError(
                    name,
                    f"unpacking {member} needs {size / 1e9:.1f} GB in {tempfile.gettempdir()}, where "
                    f"{free / 1e9:.1f} GB are free; set TMPDIR to a larger disk",
                )
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
                copy.flush()
                return np.memmap(
                    copy,
                    dtype=np.uint8,
                    mode="r",
                    shape=header.shape,
                    order="F" if header.fortran_order else "C",
                )


def _check_header(name: str, member: str, header: _Header) -> None:
    colour = len(header.shape) == 4 and header.shape[3] == 3
    if header.dtype != np.uint8 or not (colour or len(header.shape) == 3):
        raise PictureError(
            name,
            f"{member} is {header.dtype} {list(header.shape)}; pictures are uint8 [N, H, W, 3] or [N, H, W]",
        )
    if math.prod(header.shape) == 0:
        raise PictureError(name, f"{member} is {list(header.shape)}: it holds no picture")
