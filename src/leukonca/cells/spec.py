"""What a person writes to name pictures: a SPEC.

=========================  ==========================================================================
``acevedo20:DIR``          a published set, by its name (`leukonca.cells.source`)
``acevedo20@thirteen:DIR`` the same in one of its other uses
``my_set.toml:DIR``        a set of one's own description; ``my_set.toml@USE:DIR`` likewise
``folder:DIR``             a folder per class, alone or below ``train``, ``val``, ``test``
``table:FILE``             a CSV or Parquet table of paths and labels
``PATH``                   recognised: a published layout by its markers, a table, a folder per class
=========================  ==========================================================================
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from leukonca.cells.manifest import TABLE_SUFFIXES
from leukonca.cells.source import Source, Use, find_source, known_sources, load_source
from leukonca.errors import DataError

__all__ = ["Spec", "parse_spec", "recognise"]

# A name has two letters or more, so that C:\cells stays a path on Windows.
_NAMED: Final = re.compile(r"(?P<name>[A-Za-z0-9][\w-]+)(?:@(?P<use>[\w-]*))?:(?P<path>.*)", re.DOTALL)
_OWN: Final = re.compile(r"(?P<name>.+?\.toml)(?:@(?P<use>[\w-]*))?:(?P<path>.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Spec:
    """A SPEC, understood.

    Attributes:
        text: As it was written.
        kind: ``source`` (a described set), ``folder`` or ``table``.
        path: The folder or file, absolute; it exists.
        source: The set, for ``source``.
        use: Its use, for ``source``.
    """

    text: str
    kind: Literal["source", "folder", "table"]
    path: Path
    source: Source | None = None
    use: Use | None = None


def parse_spec(text: str) -> Spec:
    """Understand a SPEC.

    Raises:
        DataError: The set or its use is not known, the path does not exist or is not of the right kind, or
            a bare path is not recognised or recognised as several sets. The message says what helps.
    """
    if found := _OWN.fullmatch(text):
        return _described(text, load_source(Path(found["name"]).expanduser()), found)
    if (found := _NAMED.fullmatch(text)) and not os.path.lexists(text):
        name = found["name"].casefold()
        if name not in ("folder", "table"):
            return _described(text, find_source(name), found)
        if found["use"] is not None:
            raise DataError(f"{text}: {name} has no uses; write {name}:PATH")
        path = _existing(text, found["path"])
        return _folder(text, path) if name == "folder" else _table(text, path)
    return _bare(text, _existing(text, text))


def recognise(path: Path) -> list[Source]:
    """Return the known sets whose markers ``path`` (a folder or an ``.npz`` file) has."""
    return [
        source
        for source in known_sources().values()
        if any(all(_has(path, marker) for marker in markers) for markers in source.recognise)
    ]


def _described(text: str, source: Source, found: re.Match[str]) -> Spec:
    use = source.use(found["use"] or "")
    path = _existing(text, found["path"])
    if use.arrays and not path.is_file():
        raise DataError(f"{text}: {source.name} is an .npz file, and {path} is a folder; name the file in it")
    if use.rules and not path.is_dir():
        raise DataError(
            f"{text}: {source.name} is a folder of pictures, and {path} is a file; name the folder"
        )
    return Spec(text, "source", path, source, use)


def _folder(text: str, path: Path) -> Spec:
    if not path.is_dir():
        raise DataError(f"{text}: {path} is a file; folder: wants a folder that has a folder per class")
    return Spec(text, "folder", path)


def _table(text: str, path: Path) -> Spec:
    if not path.is_file() or path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{text}: {path} is not a {' or '.join(TABLE_SUFFIXES)} file; table: wants one")
    return Spec(text, "table", path)


def _bare(text: str, path: Path) -> Spec:
    found = recognise(path)
    if not found and path.is_dir() and (only := _only_folder(path)):
        found = recognise(only)  # archives are often unpacked into a folder of their own
        path = only if found else path
    if len(found) > 1:
        choices = " or ".join(f"{source.name}:{path}" for source in found)
        raise DataError(f"{text}: looks like {len(found)} image sets; write {choices}")
    if found:
        return Spec(text, "source", path, found[0], found[0].use())
    if path.is_dir():
        return _folder(text, path)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _table(text, path)
    if path.suffix.lower() == ".npz":
        raise DataError(f"{text}: no known image set has these arrays or this name; write NAME:{text}")
    if path.suffix.lower() == ".toml":
        raise DataError(f"{text}: describes an image set; name its pictures too: {text}:DIR")
    kinds = ", ".join((*TABLE_SUFFIXES, ".npz"))
    raise DataError(f"{text}: is neither a folder nor a {kinds} file; a single picture has no label")


def _existing(text: str, written: str) -> Path:
    if not written.strip():
        raise DataError(f"{text!r}: the path is missing; write {text or 'NAME:'}PATH")
    path = Path(os.path.abspath(Path(written).expanduser()))
    if not path.exists():
        if written.casefold() in known_sources():
            raise DataError(f"{text}: the path is missing; write {text}:PATH")
        parent = next((each for each in path.parents if each.exists()), path.anchor)
        raise DataError(f"{text}: {path} does not exist ({parent} does); check the path")
    return path


def _only_folder(path: Path) -> Path | None:
    try:
        entries = [entry for entry in os.scandir(path) if not entry.name.startswith((".", "__"))]
        return Path(entries[0].path) if len(entries) == 1 and entries[0].is_dir() else None
    except OSError:
        return None


def _has(path: Path, marker: str) -> bool:
    name, _, array = marker.partition("::")
    if array:
        return (
            path.is_file() and fnmatchcase(path.name.casefold(), name.casefold()) and _has_array(path, array)
        )
    parts = [part.casefold() for part in marker.rstrip("/").split("/")]
    return path.is_dir() and any(_walk(path, parts, folder=marker.endswith("/")))


def _walk(path: Path, parts: list[str], *, folder: bool) -> Iterator[bool]:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not fnmatchcase(entry.name.casefold(), parts[0]):
                    continue
                if len(parts) > 1:
                    if entry.is_dir():
                        yield from _walk(Path(entry.path), parts[1:], folder=folder)
                elif entry.is_dir() == folder:
                    yield True
    except OSError:
        return


def _has_array(path: Path, array: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{array}.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
