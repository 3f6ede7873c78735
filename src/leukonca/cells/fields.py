"""Strict reading of a TOML table: keys are known, values of their kind, messages name the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from leukonca.errors import DataError

__all__ = ["Fields", "nearest_of"]


def nearest_of(word: str, known: Iterable[str]) -> str | None:
    """Return the entry of ``known`` that is closest in spelling to ``word``, or ``None``."""
    by_case = {entry.casefold(): entry for entry in known}
    found = difflib.get_close_matches(word.casefold(), by_case, n=1, cutoff=0.6)
    return by_case[found[0]] if found else None


class Fields:
    """One table of a TOML file.

    Args:
        file: The file, for messages.
        where: The table's place in it, such as ``uses.eight``; empty for the top.
        values: The table.
        known: The keys that it may have.

    Raises:
        DataError: ``values`` is no table or has a key that is not known.
    """

    def __init__(self, file: str, where: str, values: object, known: Iterable[str]) -> None:
        self.file = file
        self.where = where
        if not isinstance(values, Mapping):
            raise self.error(f"must be a table, not {values!r}")
        self.values: Mapping[str, Any] = values
        allowed = tuple(known)
        for key in values:
            if key not in allowed:
                near = nearest_of(key, allowed)
                remedy = f"did you mean {near!r}?" if near else f"known keys: {', '.join(allowed)}"
                raise self.error(f"unknown key {key!r}; {remedy}")

    def error(self, what: str) -> DataError:
        """Return the error that says ``what`` is wrong in this table."""
        return DataError(f"{self.file}: {f'[{self.where}] ' if self.where else ''}{what}")

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def _get(self, key: str, kind: type, name: str) -> Any:
        value = self.values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(f"{key} must be {name}, not {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; without ``default`` the key must be there and not be empty."""
        if key not in self.values:
            if default is None:
                raise self.error(f'{key} is missing: add {key} = "…"')
            return default
        value: str = self._get(key, str, "a string")
        if default is None and not value.strip():
            raise self.error(f"{key} is empty")
        return value

    def number(self, key: str) -> int | None:
        """Return a whole number of at least 0, or ``None`` where the key is missing."""
        if key not in self.values:
            return None
        value: int = self._get(key, int, "a whole number")
        if value < 0:
            raise self.error(f"{key} must not be negative, not {value}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings; empty where the key is missing."""
        if key not in self.values:
            return ()
        values: list[Any] = self._get(key, list, "a list of strings")
        if not all(isinstance(value, str) for value in values):
            raise self.error(f"{key} must be a list of strings, not {values!r}")
        return tuple(values)

    def text_table(self, key: str) -> dict[str, str]:
        """Return a table of strings; empty where the key is missing."""
        if key not in self.values:
            return {}
        table: Mapping[str, Any] = self._get(key, Mapping, "a table of strings")
        for entry, value in table.items():
            if not isinstance(value, str) or not value.strip():
                raise self.error(f"{key}.{entry} must be a string that is not empty, not {value!r}")
        return dict(table)

    def tables(self, key: str) -> list[Any]:
        """Return a list of (still unchecked) tables; empty where the key is missing."""
        return (
            list(self._get(key, list, f"a list of tables, written [[{key}]]")) if key in self.values else []
        )
