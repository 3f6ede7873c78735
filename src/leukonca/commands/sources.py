"""``leukonca sources``: the published image sets that leukonca knows how to read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

from leukonca.cells.source import Source, Use, find_source, known_sources, load_source

__all__ = ["HELP", "parser", "run"]

HELP: Final = "list the image sets that are understood"
_WIDTH: Final = 100


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    sources = ArgumentParser(
        description="List the published image sets that leukonca reads, or show one of them in full: "
        "citation, licence, layout, what its labels become and what is left out."
    )
    sources.add_argument(
        "name", nargs="?", type=str, metavar="NAME", help="one set, or a FILE.toml of your own"
    )
    return sources


def run(args: Namespace) -> int:
    """Run the command."""
    if not args.name:
        print("\n".join(_overview()))
        return 0
    own = args.name.lower().endswith(".toml")
    print("\n".join(_in_full(load_source(Path(args.name)) if own else find_source(args.name))))
    return 0


def _overview() -> Iterator[str]:
    rows = [("name", "pictures", "uses (classes)", "licence", "title")]
    for source in known_sources().values():
        uses = ", ".join(f"{use.name} ({len(use.classes)})" for use in _default_first(source))
        licence = textwrap.shorten(source.licence, 24, placeholder=" …")
        rows.append((source.name, _number(source.pictures), uses, licence, source.title))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for name, pictures, uses, licence, title in rows:
        first = f"{name:<{widths[0]}}  {pictures:>{widths[1]}}  {uses:<{widths[2]}}"
        yield f"{first}  {licence:<{widths[3]}}  {title}"
    yield ""
    yield "Read one with NAME:PATH or NAME@USE:PATH; the first use is the default."
    yield "Besides: folder:DIR (a folder per class), table:FILE (columns path, label, group, split),"
    yield "FILE.toml:DIR (a description of your own). `leukonca sources NAME` shows one in full."


def _in_full(source: Source) -> Iterator[str]:
    yield f"{source.name}: {source.title}"
    facts = {
        "also called": ", ".join(source.aliases),
        "cite": source.citation,
        "doi": source.doi,
        "found at": source.url,
        "licence": source.licence,
        "pictures": _number(source.pictures),
        "stain": source.stain,
        "camera": source.camera,
        "layout": source.layout,
        "groups": f"{source.group_meaning}, from the file name: {source.group.text}"
        if source.group
        else "not known",
        "notes": source.notes,
    }
    for name, value in facts.items():
        if value:
            yield textwrap.fill(value, _WIDTH, initial_indent=f"  {name:<13}", subsequent_indent=" " * 15)
    for use in _default_first(source):
        yield ""
        yield from _use_lines(source, use)


def _use_lines(source: Source, use: Use) -> Iterator[str]:
    default = " (default)" if use.name == source.default_use else ""
    kept = f"; keeps {use.cells:,} pictures" if use.cells is not None else ""
    yield f"{source.name}@{use.name}{default}: {use.title}{kept}"
    yield textwrap.fill(
        f"{len(use.classes)} classes: {', '.join(use.classes)}", _WIDTH, subsequent_indent="  "
    )
    for rule in use.rules:
        yield f"  {rule.pattern.text}"
        if rule.lookup:
            column, file = rule.lookup.value, rule.lookup.file
            yield f"      code: column {column!r} of {file}, found by {rule.lookup.key!r}"
        width = max(len(code) for code in rule.codes)
        for code, verdict in rule.codes.items():
            meaning = verdict.label or f"left out: {verdict.left_out}"
            yield f"      {f'{code:<{width}} -> ' if code else ''}{meaning}"
    for part in use.arrays:
        yield f"  {part.pictures} with the codes {part.codes}" + (
            f", split {part.split}" if part.split else ""
        )
    for code, label in use.labels.items():
        yield f"      {code} -> {label}"
    if use.split:
        parts = ", ".join(f"{part} -> {split}" for part, split in use.split.names.items())
        yield f"  split, by {use.split.pattern.text}: {parts}"


def _default_first(source: Source) -> list[Use]:
    return sorted(source.uses.values(), key=lambda use: use.name != source.default_use)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
