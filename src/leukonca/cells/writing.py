"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leukonca.errors import DataError

__all__ = ["replacing", "write_text"]


@contextmanager
def replacing(file: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a name beside ``file`` to write to; what was written takes the place of ``file`` at the end.

    A killed run or an error leaves the old file or none, never a part. Missing folders are made.

    Raises:
        DataError: The file cannot be written there; the message says why.
    """
    target = Path(file)
    draft: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A short name of its own: the final one with a suffix could be longer than the file system allows.
        handle, name = tempfile.mkstemp(prefix=".leukonca-", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        draft = Path(name)
        yield draft
        mask = os.umask(0)
        os.umask(mask)
        draft.chmod(0o666 & ~mask)  # a temporary file is its owner's alone; a result should not be
        draft.replace(target)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file}: cannot be written: {error}") from None
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def write_text(file: str | os.PathLike[str], text: str) -> None:
    """Write a text as UTF-8, whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    with replacing(file) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")
