"""From SPECs to a manifest: which pictures there are, what they are called, and what is not among them.

Only names and label files are read, never pixels: a hundred thousand pictures take seconds.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from leukonca.cells.fields import nearest_of
from leukonca.cells.listing import Found, walk
from leukonca.cells.manifest import COLUMNS, Listing, Manifest, read_table
from leukonca.cells.rules import Lookup, Verdict, plain_key
from leukonca.cells.source import ArrayPart, Source, Use
from leukonca.cells.spec import Spec, parse_spec
from leukonca.cells.splits import PARTS
from leukonca.errors import DataError
from leukonca.vocabulary import resolve

__all__ = ["scan"]

_EXAMPLES: Final = 5
_TABLE_COLUMNS: Final = ("path", "label", "group", "split", "source")
_SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

_log = logging.getLogger(__name__)

Row = tuple[str, str, str, str, str]
"""path, label, group, source, split."""


class _Tally:
    """The rows of one SPEC, and what was not taken into them."""

    def __init__(self, spec: Spec, source: str, use: str = "") -> None:
        self.spec = spec
        self.source = source
        self.use = use
        self.rows: list[Row] = []
        self.left_out: Counter[str] = Counter()
        self.unmatched: list[str] = []
        self.ignored = 0
        self.remarks: list[str] = []

    def add(self, path: str, label: str, group: str = "", split: str = "", source: str = "") -> None:
        self.rows.append((path, label, group, source or self.source, split))

    def judge(self, path: str, shown: str, verdict: Verdict | None, group: str, split: str) -> None:
        if verdict is None:
            self.unmatched.append(shown)
        elif verdict.left_out:
            self.left_out[verdict.left_out] += 1
        else:
            self.add(path, verdict.label, group, split)

    def listing(self) -> Listing:
        """Sum up; a SPEC that gives nothing is a mistake.

        Raises:
            DataError: There is no row.
        """
        if not self.rows:
            raise DataError(self._nothing())
        return Listing(
            self.spec.text,
            self.source,
            self.use,
            len(self.rows),
            dict(sorted(self.left_out.items())),
            len(self.unmatched),
            tuple(self.unmatched[:_EXAMPLES]),
            self.ignored,
            tuple(self.remarks),
        )

    def _nothing(self) -> str:
        lost = len(self.unmatched) + self.left_out.total()
        if self.spec.source is None or not lost:
            return f"{self.spec.text}: there are no pictures in {self.spec.path}; check the path"
        examples = f", such as {self.unmatched[0]}" if self.unmatched else ""
        why = f"{len(self.unmatched):,} unmatched{examples}; {self.left_out.total():,} left out"
        wanted = self.spec.source.layout or f"the layout of {self.spec.source.file}"
        return f"{self.spec.text}: of {lost:,} pictures none is used ({why}); expected is {wanted}"


def scan(specs: Sequence[str], *, progress: bool = False) -> Manifest:
    """List the pictures that SPECs name, with their labels.

    Args:
        specs: See `leukonca.cells.spec`. Their rows follow each other; within one they are sorted by their
            relative path (a table keeps its own order).
        progress: Whether to show a counter on stderr.

    Returns:
        The manifest, without hashes. What was left out, ignored or not understood is in its `listings`.
        Labels of folders and tables become the vocabulary's names where it knows them and stay as they are
        where it does not; those of a published set follow its description.

    Raises:
        DataError: There is no SPEC, or one of them is wrong, cannot be read, or gives no picture.
    """
    if isinstance(specs, str) or not specs:
        raise DataError(f"give a list of one or more SPECs, such as ['folder:cells'], not {specs!r}")
    rows: list[Row] = []
    listings: list[Listing] = []
    with tqdm(desc="scan", unit="file", disable=not progress) as bar:
        for spec in [parse_spec(text) for text in specs]:
            tally = _scan_one(spec, bar)
            listings.append(tally.listing())
            rows += tally.rows
    frame = pd.DataFrame(rows, columns=list(COLUMNS[:5]), dtype=object)
    return Manifest(frame, tuple(listings))


def _scan_one(spec: Spec, bar: tqdm[Any]) -> _Tally:
    if spec.source is not None and spec.use is not None:
        scan_source = _scan_arrays if spec.use.arrays else _scan_rules
        return scan_source(spec, spec.source, spec.use, bar)
    return _scan_table(spec, bar) if spec.kind == "table" else _scan_folder(spec, bar)


def _pictures(spec: Spec, tally: _Tally, bar: tqdm[Any]) -> Iterator[Found]:
    for found in walk(spec.path):
        bar.update()
        if found.kind == "picture":
            yield found
        else:
            tally.ignored += 1


def _scan_rules(spec: Spec, source: Source, use: Use, bar: tqdm[Any]) -> _Tally:
    tally = _Tally(spec, source.name, use.name)
    tables = [_read_lookup(spec, rule.lookup) if rule.lookup else None for rule in use.rules]
    judges = list(zip(use.rules, tables, strict=True))
    for found in _pictures(spec, tally, bar):
        path = found.relative
        verdict = next((said for rule, table in judges if (said := rule.judge(path, table))), None)
        split = use.split.of(path) if use.split else ""
        tally.judge(found.path, path, verdict, source.group_of(path), split)
    return tally


def _read_lookup(spec: Spec, lookup: Lookup) -> dict[str, str]:
    # Users name the folder of the set, or the one with the pictures just below it.
    places = [place / lookup.file for place in (spec.path, spec.path.parent)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DataError(f"{spec.text}: the file of labels {lookup.file!r} is missing in {spec.path}")
    frame = read_table(file)
    for column in (lookup.key, lookup.value):
        if column.lower() not in frame:
            raise DataError(f"{file}: has no column {column!r}, only: {', '.join(frame.columns)}")
    codes: dict[str, str] = {}
    for key, value in zip(frame[lookup.key.lower()], frame[lookup.value.lower()], strict=True):
        if codes.setdefault(plain_key(key), value.strip()) != value.strip():
            raise DataError(
                f"{file}: {lookup.key} {key!r} has two labels, {codes[plain_key(key)]!r} and {value!r}"
            )
    return codes


def _scan_arrays(spec: Spec, source: Source, use: Use, bar: tqdm[Any]) -> _Tally:
    tally = _Tally(spec, source.name, use.name)
    verdicts = {code: Verdict(label=label) for code, label in use.labels.items()}
    for part in use.arrays:
        for index, code in enumerate(_read_codes(spec.path, part)):
            bar.update()
            place = f"{part.pictures}/{index}"
            tally.judge(f"{spec.path}::{place}", place, verdicts.get(str(code)), "", part.split)
    return tally


def _read_codes(file: Path, part: ArrayPart) -> npt.NDArray[Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            with archive.open(f"{part.pictures}.npy") as stream:
                version = np.lib.format.read_magic(stream)
                first = version == (1, 0)
                read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                shape, _, _ = read(stream)
            with archive.open(f"{part.codes}.npy") as stream:
                codes: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    except KeyError as error:
        raise DataError(f"{file}: has not the arrays that are expected: {error.args[0]}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read as an .npz file: {error}") from None
    if codes.size != len(codes) or not shape or shape[0] != len(codes):
        raise DataError(
            f"{file}: {part.pictures} {shape} and {part.codes} {codes.shape} do not belong together: "
            "one label is needed for each picture"
        )
    return codes.reshape(-1)


def _scan_folder(spec: Spec, bar: tqdm[Any]) -> _Tally:
    tally = _Tally(spec, f"folder:{spec.path.name}")
    divided = _is_divided(spec.path)
    for found in _pictures(spec, tally, bar):
        parts = found.relative.split("/")[:-1]
        split = _SPLIT_NAMES[parts.pop(0).lower()] if divided and parts else ""
        tally.add(found.path, _label(parts[0]) if parts else "", "", split)
    return tally


def _is_divided(path: Path) -> bool:
    with os.scandir(path) as entries:
        names = [entry.name.lower() for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return bool(names) and all(name in _SPLIT_NAMES for name in names)


def _label(written: str) -> str:
    return resolve(written) or written.strip()


def _scan_table(spec: Spec, bar: tqdm[Any]) -> _Tally:
    frame = read_table(spec.path)
    for column in ("path", "label"):
        if column not in frame:
            near = nearest_of(column, frame.columns)
            hint = f"; rename {near!r}?" if near else ""
            raise DataError(f"{spec.path}: has no column {column!r}, only: {', '.join(frame.columns)}{hint}")
    tally = _Tally(spec, f"table:{spec.path.name}")
    unused = [name for name in frame.columns if name not in (*_TABLE_COLUMNS, "hash")]
    if unused:
        tally.remarks.append(f"columns not used: {', '.join(unused)}")
        _log.info("%s: %s", spec.path, tally.remarks[-1])
    columns = [frame[name] if name in frame else [""] * len(frame) for name in _TABLE_COLUMNS]
    for number, (path, label, group, split, source) in enumerate(zip(*columns, strict=True), 2):
        bar.update()
        if not path.strip():
            raise DataError(f"{spec.path}: row {number} has no path")
        if split.strip() and split.strip().lower() not in _SPLIT_NAMES:
            raise DataError(f"{spec.path}: row {number}: split {split!r} is not one of {', '.join(PARTS)}")
        tally.add(
            _beside(spec.path, path),
            _label(label),
            group.strip(),
            _SPLIT_NAMES.get(split.strip().lower(), ""),
            source.strip(),
        )
    return tally


def _beside(table: Path, written: str) -> str:
    # Tables made on Windows are read elsewhere too; a backslash alone is no sign of a POSIX name.
    if os.sep == "/" and "\\" in written and "/" not in written:
        written = written.replace("\\", "/")
    return os.path.abspath(table.parent / written)
