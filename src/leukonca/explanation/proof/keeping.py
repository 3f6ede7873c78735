"""Pieces of a long measurement, each kept as soon as it is done.

A piece is a few arrays that follow from what its key names: the same key gives the same piece, now or after
an interruption. A killed run loses the piece that it was at, and no other.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from leukonca.writing import write_bytes

__all__ = ["SECONDS", "Arrays", "Kept"]

Arrays = dict[str, npt.NDArray[Any]]

SECONDS: Final = "seconds"
"""The array of a piece that says how much processor time it took: unlike the clock, it is the same whatever
else the machine does."""

_TEXT: Final = "text"


class Kept:
    """The folder of the pieces.

    Args:
        folder: Where they are kept; deleting it loses the work, not the results.
        basis: What all pieces depend on: the model, the version. JSON values.

    Attributes:
        found: How many pieces were there already.
        used: By file, how many seconds of the processor the pieces that were asked for took, now or in an
            earlier run.
    """

    def __init__(self, folder: Path, basis: Mapping[str, Any]) -> None:
        self.folder = folder
        self.basis = dict(basis)
        self.found = 0
        self.used: dict[str, float] = {}

    def file(self, part: str, key: Mapping[str, Any]) -> Path:
        """Return where a piece is kept, whether it is there or not."""
        whole = json.dumps([self.basis, part, dict(key)], sort_keys=True)
        return self.folder / part / f"{blake2b(whole.encode(), digest_size=12).hexdigest()}.npz"

    def arrays(self, part: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Return a piece: as it was kept, or else made now and kept.

        Args:
            part: Of which part of the work it is.
            key: What it follows from, besides the basis. JSON values.
            make: Makes it.

        Returns:
            The arrays, and ``seconds``: the processor time that they took.

        Raises:
            DataError: It cannot be written.
        """
        file = self.file(part, key)
        piece = _read(file)
        if piece is None:
            start = time.process_time()
            piece = make() | {SECONDS: np.array(time.process_time() - start)}
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **piece)
            write_bytes(file, buffer.getvalue())
        else:
            self.found += 1
        self.used[str(file)] = float(piece[SECONDS])
        return piece

    def note(self, part: str, key: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a piece that consists of JSON values; see :meth:`arrays`."""
        piece = self.arrays(part, key, lambda: {_TEXT: np.array(json.dumps(make()))})
        note: dict[str, Any] = json.loads(str(piece[_TEXT]))
        return note


def _read(file: Path) -> Arrays | None:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            piece = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # missing, or damaged: it is made anew
    return piece if SECONDS in piece else None
