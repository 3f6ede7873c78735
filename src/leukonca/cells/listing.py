"""Walking through a folder of pictures, file by file, in an order that is the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from leukonca.errors import DataError

__all__ = ["PICTURE_SUFFIXES", "Found", "walk"]

PICTURE_SUFFIXES: Final = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp")
)
"""Files with these endings, in any case, are taken for pictures."""

_NOT_FOLDERS: Final = frozenset(("__macosx", "__pycache__"))


class Found(NamedTuple):
    """One file: its POSIX path relative to the folder, its path, and whether it is a picture by its name."""

    relative: str
    path: str
    kind: Literal["picture", "other"]


def walk(root: Path) -> Iterator[Found]:
    """List the files below a folder, sorted by their relative POSIX path.

    Hidden folders are not entered, hidden files are never pictures. Links are followed; a folder that was
    seen before (a loop of links) is not entered twice. At any time only the names in the folders on the way
    are held in memory.

    Raises:
        DataError: A folder cannot be read.
    """
    return _walk(str(root), "", {os.path.realpath(root)})


def _walk(folder: str, prefix: str, seen: set[str]) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            # A folder sorts as its name with a slash behind it: then the order is that of the whole paths.
            listed = sorted((_sort_key(entry), entry.path) for entry in entries)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed: {error.strerror or error}") from None
    for key, path in listed:
        if not key.endswith("/"):
            hidden = key.startswith(".")
            is_picture = not hidden and os.path.splitext(key)[1].lower() in PICTURE_SUFFIXES
            yield Found(prefix + key, path, "picture" if is_picture else "other")
        elif not key.startswith(".") and key[:-1].lower() not in _NOT_FOLDERS:
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                yield from _walk(path, prefix + key, seen)


def _sort_key(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir() else entry.name
