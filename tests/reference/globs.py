"""Globs by trying every possibility, slowly; ``leukonca.cells.rules`` uses one regular expression."""

from __future__ import annotations


def matches(glob: str, path: str) -> bool:
    """Whether a relative POSIX path fits a glob of ``*``, ``?``, ``**/`` and a final ``**``, in any case."""
    return _parts(glob.lower().split("/"), path.lower().split("/"))


def _parts(globs: list[str], names: list[str]) -> bool:
    if globs == ["**"]:
        return bool(names)
    if not globs or not names:
        return not globs and not names
    if globs[0] == "**":
        return any(_parts(globs[1:], names[skip:]) for skip in range(len(names)))
    return _name(globs[0], names[0]) and _parts(globs[1:], names[1:])


def _name(glob: str, name: str) -> bool:
    if not glob:
        return not name
    if glob[0] == "*":
        return any(_name(glob[1:], name[skip:]) for skip in range(len(name) + 1))
    return bool(name) and glob[0] in ("?", name[0]) and _name(glob[1:], name[1:])
