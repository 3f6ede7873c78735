"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["encode", "write_bytes"]


def encode(text: str) -> bytes:
    """Return ``text`` as UTF-8, with an escape for what UTF-8 cannot hold (an undecodable file name)."""
    return text.encode("utf-8", "backslashreplace")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` beside ``path`` and move it into place, making the folder where it is missing.

    A killed run leaves the old file or the new one, never a part.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A short name of its own: the final name plus a suffix could be longer than the file system allows.
    draft = target.with_name(f".leukonca-{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
