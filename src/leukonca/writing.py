"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leukonca.errors import DataError

__all__ = ["encode", "replacing", "require_writable", "write_bytes", "write_text"]


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


def encode(text: str) -> bytes:
    """Return ``text`` as UTF-8, with an escape for what UTF-8 cannot hold (an undecodable file name)."""
    return text.encode("utf-8", "backslashreplace")


def write_bytes(file: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        DataError: The file cannot be written.
    """
    with replacing(file) as draft:
        draft.write_bytes(data)


def write_text(file: str | os.PathLike[str], text: str) -> None:
    """Write a text whole or not at all, encoded by :func:`encode`.

    Raises:
        DataError: The file cannot be written.
    """
    write_bytes(file, encode(text))


def require_writable(folder: str | os.PathLike[str]) -> None:
    """Find out before the work whether its result can be written; a missing folder is made.

    Raises:
        DataError: It cannot; the message says why.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder}: cannot be written: {reason}; choose another place") from None
