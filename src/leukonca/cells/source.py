"""Published image sets, each described by one TOML file and no code.

A description names the set (citation, licence, stain, camera), says how its folder is recognised, which part
of a file name keeps related cells together (the *group*), and offers one or more *uses*: ways to give its
pictures labels. What a use leaves out is part of it, with the reason. The files in ``sources/`` are the
examples to copy; `load_source` reads one's own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from leukonca.cells.fields import Fields, nearest_of
from leukonca.cells.masks import Masks, read_masks
from leukonca.cells.rules import Pattern, Rule, read_pattern, read_rule
from leukonca.cells.splits import PARTS
from leukonca.errors import DataError
from leukonca.vocabulary import CLASS_SETS

__all__ = ["ArrayPart", "Source", "Split", "Use", "find_source", "known_sources", "load_source"]

_RESERVED: Final = ("folder", "table")
_SOURCE_KEYS: Final = (
    "name",
    "title",
    "aliases",
    "citation",
    "doi",
    "url",
    "licence",
    "pictures",
    "stain",
    "camera",
    "layout",
    "notes",
    "recognise",
    "group",
    "masks",
    "default_use",
    "uses",
)


@dataclass(frozen=True, slots=True)
class ArrayPart:
    """One pair of arrays of an ``.npz`` file.

    Attributes:
        pictures: The array of pictures, uint8 [N, H, W, 3].
        codes: The array of their codes, [N] or [N, 1].
        split: The split that they all belong to, or ``""``.
    """

    pictures: str
    codes: str
    split: str


@dataclass(frozen=True, slots=True)
class Split:
    """How the path of a picture tells its split: the part that ``pattern`` catches, in lower case."""

    pattern: Pattern
    names: Mapping[str, str]

    def of(self, path: str) -> str:
        """Return the split of a relative POSIX path, or ``""``."""
        found = self.pattern.match(path)
        return self.names.get(found["split"].casefold(), "") if found else ""


@dataclass(frozen=True, slots=True)
class Use:
    """One way to give the pictures of a set their labels.

    Attributes:
        name: What follows the ``@`` in a SPEC.
        title: What it does, in a line.
        classes: The labels that it gives, in the order of its class set.
        cells: How many pictures of the whole published set it keeps, where that is known.
        rules: Asked in turn; the first that speaks of a picture decides.
        arrays: For an ``.npz`` file, in place of rules.
        labels: What the codes of the arrays mean.
        split: How a path tells the split, if it does.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    cells: int | None
    rules: tuple[Rule, ...]
    arrays: tuple[ArrayPart, ...]
    labels: Mapping[str, str]
    split: Split | None


@dataclass(frozen=True, slots=True)
class Source:
    """One published image set.

    Attributes:
        name: What a SPEC calls it.
        title: Its name for people.
        aliases: Other names that a SPEC may use.
        citation: The publication to cite.
        doi: Its DOI, or ``""``.
        url: Where the set is found, or ``""``.
        licence: The licence of the pictures.
        pictures: How many pictures are published, where that is known.
        stain: The stain, or ``""``.
        camera: Microscope, camera and size of the pictures, or ``""``.
        layout: Where the pictures lie, for people.
        notes: What else one should know, or ``""``.
        recognise: Alternatives; a folder that has all markers of one of them is this set. A marker is a path
            with ``*``; ``NAME/`` is a folder, ``::NAME`` an array of an ``.npz`` file.
        group: How a path tells which pictures belong together, or ``None`` where that is unknown.
        group_meaning: What a group is, such as "slide and field".
        masks: Where the masks of the cells lie, or ``None`` where the set has none.
        uses: The uses by name.
        default_use: The use of a SPEC that names none.
        file: The description itself.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    citation: str
    doi: str
    url: str
    licence: str
    pictures: int | None
    stain: str
    camera: str
    layout: str
    notes: str
    recognise: tuple[tuple[str, ...], ...]
    group: Pattern | None
    group_meaning: str
    masks: Masks | None
    uses: Mapping[str, Use]
    default_use: str
    file: str

    def use(self, name: str = "") -> Use:
        """Return a use by its name, or the default one.

        Raises:
            DataError: There is no such use; the message offers the others.
        """
        try:
            return self.uses[name or self.default_use]
        except KeyError:
            near = nearest_of(name, self.uses)
            hint = f"did you mean {near!r}? " if near else ""
            known = ", ".join(self.uses)
            raise DataError(f"{self.name}@{name}: no such use; {hint}{self.name} has: {known}") from None

    def group_of(self, path: str) -> str:
        """Return the group of a relative POSIX path, unique among all sets, or ``""``."""
        found = self.group.match(path) if self.group else None
        return f"{self.name}:{found['group']}" if found else ""


def load_source(file: str | Path) -> Source:
    """Read the description of an image set.

    Raises:
        DataError: The file cannot be read, is no TOML, or is not a complete and consistent description.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as a description of an image set: {error}") from None
    return _parse(str(file), text)


@cache
def known_sources() -> Mapping[str, Source]:
    """Return the sets that leukonca knows, by name."""
    folder = resources.files("leukonca.cells").joinpath("sources")
    found = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name
    )
    sources = [_parse(entry.name, entry.read_text(encoding="utf-8")) for entry in found]
    return {source.name: source for source in sources}


def find_source(name: str) -> Source:
    """Return a known set by its name or one of its aliases, in any case.

    Raises:
        DataError: There is none; the message offers the nearest.
    """
    by_name = {
        alias.casefold(): source
        for source in known_sources().values()
        for alias in (source.name, *source.aliases)
    }
    if source := by_name.get(name.casefold()):
        return source
    near = nearest_of(name, (*by_name, *_RESERVED))
    hint = f"did you mean {near!r}?" if near else "`leukonca sources` lists the known ones"
    raise DataError(f"unknown image set {name!r}; {hint} (a set of one's own: FILE.toml:PATH)")


def _parse(file: str, text: str) -> Source:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{file}: is not valid TOML: {error}") from None
    top = Fields(file, "", values, _SOURCE_KEYS)
    name = top.text("name")
    aliases = top.texts("aliases")
    for each in (name, *aliases):
        if each in _RESERVED or not each.replace("-", "").replace("_", "").isalnum() or len(each) < 2:
            raise top.error(
                f"name {each!r} must be two or more letters, digits, - and _, and not folder or table"
            )
    uses = {
        use: _parse_use(file, use, table)
        for use, table in Fields(file, "uses", values.get("uses"), values.get("uses") or ()).values.items()
    }
    if not uses:
        raise top.error("has no use: add a table [uses.NAME]")
    default = top.text("default_use", next(iter(uses)))
    if default not in uses:
        raise top.error(f"default_use {default!r} is not among the uses: {', '.join(uses)}")
    group, meaning = _parse_group(top)
    return Source(
        name=name,
        title=top.text("title"),
        aliases=aliases,
        citation=top.text("citation"),
        doi=top.text("doi", ""),
        url=top.text("url", ""),
        licence=top.text("licence"),
        pictures=top.number("pictures"),
        stain=top.text("stain", ""),
        camera=top.text("camera", ""),
        layout=top.text("layout", ""),
        notes=top.text("notes", ""),
        recognise=_parse_markers(top),
        group=group,
        group_meaning=meaning,
        masks=read_masks(file, values["masks"]) if "masks" in top else None,
        uses=uses,
        default_use=default,
        file=file,
    )


def _parse_markers(top: Fields) -> tuple[tuple[str, ...], ...]:
    alternatives = top.tables("recognise")
    for markers in alternatives:
        if not (isinstance(markers, list) and markers and all(isinstance(m, str) and m for m in markers)):
            raise top.error(f"recognise must be a list of lists of markers, not {markers!r}")
    return tuple(tuple(markers) for markers in alternatives)


def _parse_group(top: Fields) -> tuple[Pattern | None, str]:
    if "group" not in top:
        return None, ""
    fields = Fields(top.file, "group", top.values["group"], ("path", "regex", "meaning"))
    return read_pattern(fields, need="group"), fields.text("meaning")


def _parse_use(file: str, name: str, values: object) -> Use:
    where = f"uses.{name}"
    fields = Fields(file, where, values, ("title", "classes", "cells", "rules", "arrays", "labels", "split"))
    rules = tuple(
        read_rule(file, f"{where}.rules.{number}", entry)
        for number, entry in enumerate(fields.tables("rules"), 1)
    )
    arrays = tuple(_parse_array(file, where, entry) for entry in fields.tables("arrays"))
    labels = fields.text_table("labels")
    if bool(rules) == bool(arrays):
        raise fields.error(f"needs either [[{where}.rules]] or [[{where}.arrays]]")
    if bool(arrays) != bool(labels):
        raise fields.error(f"[[{where}.arrays]] and [{where}.labels] belong together")
    given = set(labels.values()) | {v.label for rule in rules for v in rule.verdicts.values() if v.label}
    allowed = _parse_classes(fields)
    for label in sorted(given.difference(allowed)):
        near = nearest_of(label, allowed)
        raise fields.error(
            f"label {label!r} is not among its classes" + (f"; did you mean {near!r}?" if near else "")
        )
    return Use(
        name=name,
        title=fields.text("title"),
        classes=tuple(label for label in allowed if label in given),
        cells=fields.number("cells"),
        rules=rules,
        arrays=arrays,
        labels=labels,
        split=_parse_split(fields) if "split" in fields else None,
    )


def _parse_classes(fields: Fields) -> tuple[str, ...]:
    value: Any = fields.values.get("classes")
    if isinstance(value, str) and value in CLASS_SETS:
        return CLASS_SETS[value]
    if not isinstance(value, list) or not value:
        raise fields.error(f"classes must be {', '.join(CLASS_SETS)} or a list of labels, not {value!r}")
    return fields.texts("classes")


def _parse_array(file: str, where: str, values: object) -> ArrayPart:
    fields = Fields(file, f"{where}.arrays", values, ("pictures", "codes", "split"))
    return ArrayPart(
        fields.text("pictures"), fields.text("codes"), _known_split(fields, fields.text("split", ""))
    )


def _parse_split(use: Fields) -> Split:
    fields = Fields(use.file, f"{use.where}.split", use.values["split"], ("path", "regex", "names"))
    names = fields.text_table("names")
    return Split(
        read_pattern(fields, need="split"),
        {part.casefold(): _known_split(fields, split) for part, split in names.items()},
    )


def _known_split(fields: Fields, split: str) -> str:
    if split and split not in PARTS:
        raise fields.error(f"split {split!r} is not one of {', '.join(PARTS)}")
    return split
