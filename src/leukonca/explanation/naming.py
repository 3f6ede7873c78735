"""Names for the files that are written about pictures: alike enough to be found, and each only once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from leukonca.writing import encode

__all__ = ["UniqueNames"]

# A file name has at most 255 bytes nearly everywhere; a number and a suffix have to fit, too.
_LONGEST: Final = 200


class UniqueNames:
    """Gives each picture a name of its own: that of its file, with a number where it was given before."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, path: str) -> str:
        """Return the name for a picture, without suffix.

        Args:
            path: A file, or a member of an archive, whose address has slashes.
        """
        written = encode(path.rsplit("::", 1)[-1].replace("/", "-") if "::" in path else Path(path).stem)
        stem = written[:_LONGEST].decode("utf-8", "ignore") or "cell"
        name, number = stem, 1
        # Some file systems do not tell capitals apart.
        while name.lower() in self._given:
            number += 1
            name = f"{stem}-{number}"
        self._given.add(name.lower())
        return name
