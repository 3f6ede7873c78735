"""Pictures decoded once and kept framed on disk, so that an epoch costs no decoding and no memory.

The folder of a prepared set holds ``pictures.npy`` (uint8 [N, S, S, 3], read through memory mapping),
``cells.parquet`` (in the order of the files: hash, or the reason why a file could not be read) and
``prepared.json`` (what it was made from). It is a cache: deleting it loses nothing.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import Framing, frame
from leukonca.cells.npz import split_member
from leukonca.errors import DataError, PictureError

__all__ = ["Prepared", "View", "prepare", "read_framed", "shared_folder"]

_LOG = logging.getLogger(__name__)
_FORMAT = 1
# Enough to keep every core busy, few enough that their pictures never matter for memory.
_AHEAD = 64

Picture = npt.NDArray[np.uint8]
View = Callable[[Picture, str, Framing], Picture]
"""Another way from a decoded picture, its content hash and the framing to what the model sees."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Framed pictures of a list of files.

    Attributes:
        pictures: uint8 [N, S, S, 3], mapped from disk; black where a file could not be read.
        hashes: N content hashes of the whole pictures; ``""`` where a file could not be read.
        errors: N reasons; ``""`` where a file was read.
    """

    pictures: npt.NDArray[np.uint8]
    hashes: list[str]
    errors: list[str]

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Bool [N]: the file was read."""
        return np.array([not error for error in self.errors], dtype=bool)


def _read(path: str, framing: Framing, view: View | None) -> tuple[Picture | None, str, str]:
    try:
        picture = decode(path)
    except PictureError as error:
        return None, "", error.reason
    hash_ = content_hash(picture)
    return frame(picture, framing) if view is None else view(picture, hash_, framing), hash_, ""


def read_framed(
    paths: Sequence[str], framing: Framing, *, view: View | None = None
) -> Iterator[tuple[Picture | None, str, str]]:
    """Read and frame files on all cores, a few ahead of what is asked for.

    Args:
        paths: Files, or members of archives.
        framing: How a picture becomes a square.
        view: What to do instead of framing; called on several threads.

    Yields:
        For each file in its order: the picture, uint8 [S, S, 3], its content hash and ``""``; or ``None``,
        ``""`` and the reason why it cannot be read.
    """
    # A bounded window of futures: executor.map would submit, and keep, all of them.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        remaining = iter(paths)
        window = [pool.submit(_read, path, framing, view) for path in islice(remaining, _AHEAD)]
        while window:
            yield window.pop(0).result()
            window += [pool.submit(_read, path, framing, view) for path in islice(remaining, 1)]


def _fingerprint(paths: Sequence[str], framing: Framing) -> str:
    digest = blake2b(json.dumps([_FORMAT, asdict(framing)]).encode(), digest_size=16)
    for path in paths:
        digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
        # A member of an archive has no status of its own.
        member = split_member(path)
        try:
            status = os.stat(member[0] if member else path)
        except (OSError, ValueError):
            continue
        digest.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def shared_folder(cache: Path, paths: Sequence[str], framing: Framing) -> Path:
    """Return where several runs keep the prepared pictures of the same files and framing."""
    return cache / _fingerprint(paths, framing)


def _load(folder: Path, fingerprint: str) -> Prepared | None:
    try:
        note = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
        if note != {"fingerprint": fingerprint}:
            return None
        cells = pd.read_parquet(folder / "cells.parquet")
        pictures = np.load(folder / "pictures.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, KeyError):
        return None  # whatever is wrong with a cache, it is made anew
    return Prepared(pictures, cells["hash"].tolist(), cells["error"].tolist())


def prepare(
    paths: Sequence[str],
    framing: Framing,
    folder: Path,
    *,
    shared: bool = False,
    progress: bool = False,
) -> Prepared:
    """Decode and frame every file, or take what an earlier call left in ``folder``.

    Files that cannot be read are logged and marked, and the rest goes on.

    Args:
        paths: Files, or members of archives.
        framing: How a picture becomes a square; a different one, or changed files, prepare anew.
        folder: Where the prepared set is kept.
        shared: Whether other processes may be preparing the same folder now.
        progress: Whether to show a progress bar.

    Raises:
        DataError: No file at all can be read, or the disk is full.
    """
    fingerprint = _fingerprint(paths, framing)
    found = _load(folder, fingerprint)
    if found is not None:
        return found
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.part" if shared else f"{folder.name}.part")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write(paths, framing, unfinished, progress=progress)
        (unfinished / "prepared.json").write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
        if not (shared and _load(folder, fingerprint)):
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: prepared pictures cannot be written: {error}; free some space") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    prepared = _load(folder, fingerprint)
    if prepared is None:
        raise DataError(f"{folder}: prepared pictures changed while they were written; run it again")
    return prepared


def _write(paths: Sequence[str], framing: Framing, folder: Path, *, progress: bool) -> None:
    shape = (len(paths), framing.size, framing.size, 3)
    pictures = np.lib.format.open_memmap(folder / "pictures.npy", mode="w+", dtype=np.uint8, shape=shape)
    hashes, errors = [], []
    bar = tqdm(total=len(paths), desc="preparing", unit=" cells", disable=not progress)
    for row, (picture, hash_, error) in enumerate(read_framed(paths, framing)):
        if picture is not None:
            pictures[row] = picture
        else:
            _LOG.warning("left out: %s: %s", paths[row], error)
        hashes.append(hash_)
        errors.append(error)
        bar.update()
    bar.close()
    if all(errors):
        raise DataError(f"none of the {len(paths)} pictures can be read; the first, {paths[0]}: {errors[0]}")
    pictures.flush()
    # On Windows a mapped file cannot be moved: let go of it first.
    del pictures
    pd.DataFrame({"hash": hashes, "error": errors}).to_parquet(folder / "cells.parquet")
