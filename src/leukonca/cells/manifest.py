"""The table that every later room works on: one row a picture, and what was not taken into it.

Columns, all of them text: ``path`` (absolute, or one picture of an archive as ``FILE.npz::ARRAY/INDEX``),
``label`` (empty: none), ``group`` (pictures of one patient, slide or field; empty: unknown), ``source`` (the
image set), ``split`` (empty, ``train``, ``val`` or ``test``), ``hash`` (of the decoded picture; empty: not
computed). A written manifest is itself a table that a SPEC may name.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from leukonca.cells.splits import PARTS
from leukonca.errors import DataError
from leukonca.vocabulary import class_set_of
from leukonca.writing import replacing

__all__ = ["COLUMNS", "TABLE_SUFFIXES", "Listing", "Manifest", "read_table"]

TABLE_SUFFIXES: Final = (".csv", ".parquet")
"""The kinds of tables that are read and written."""

COLUMNS: Final = ("path", "label", "group", "source", "split", "hash")


@dataclass(frozen=True, slots=True)
class Listing:
    """What became of the files that one SPEC names.

    Attributes:
        spec: The SPEC as it was written.
        source: The image set, as in the manifest.
        use: Its use, or ``""``.
        pictures: How many pictures are in the manifest.
        left_out: How many were left out on purpose, by reason.
        unmatched: How many pictures no rule of the layout speaks of. They are not in the manifest.
        examples: Some of those.
        ignored: How many other files there were: hidden ones, texts, tables.
        remarks: What else was noticed.
    """

    spec: str
    source: str
    use: str
    pictures: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    unmatched: int = 0
    examples: tuple[str, ...] = ()
    ignored: int = 0
    remarks: tuple[str, ...] = ()


class Manifest:
    """A table of pictures.

    Args:
        frame: A frame with at least the column ``path``; missing ones of `COLUMNS` are empty, others dropped.
        listings: How the rows were found; a manifest read from a file has none.

    Attributes:
        frame: The table, with exactly `COLUMNS` and the rows numbered from 0.
        listings: As given.

    Raises:
        DataError: There is no column ``path``, or a split that is not one of train, val, test.
    """

    def __init__(self, frame: pd.DataFrame, listings: tuple[Listing, ...] = ()) -> None:
        if "path" not in frame:
            raise DataError(f"a manifest needs a column path; it has: {', '.join(map(str, frame.columns))}")
        full = {name: _texts(frame[name]) if name in frame else "" for name in COLUMNS}
        self.frame = pd.DataFrame(full, index=frame.index, dtype=object).reset_index(drop=True)
        self.listings = listings
        strange = sorted(set(self.frame["split"]) - {"", *PARTS})
        if strange:
            raise DataError(f"split {strange[0]!r} is not one of {', '.join(PARTS)} (or empty)")

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"Manifest({len(self):,} pictures, {len(self.classes)} classes)"

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that occur, in the order of the smallest class set that holds them all."""
        return class_set_of(label for label in self.frame["label"].unique() if label)

    def subset(self, rows: npt.ArrayLike) -> Manifest:
        """Return some of the rows.

        Args:
            rows: A mask of as many truth values as there are rows, or the numbers of the rows.

        Raises:
            DataError: The mask has another length, or a number is out of range.
        """
        wanted = np.asarray(rows)
        if wanted.dtype == np.bool_:
            if wanted.shape != (len(self),):
                raise DataError(f"a mask of shape {wanted.shape} cannot choose from {len(self)} rows")
            wanted = np.flatnonzero(wanted)
        elif wanted.size and not np.issubdtype(wanted.dtype, np.integer):
            raise DataError(f"rows are chosen by a mask or by whole numbers, not by {wanted.dtype}")
        wanted = wanted.astype(np.intp).ravel()
        if wanted.size and (wanted.min() < -len(self) or wanted.max() >= len(self)):
            raise DataError(f"row {wanted.max()} is out of range: there are {len(self)} rows")
        return Manifest(self.frame.iloc[wanted], self.listings)

    def with_column(self, name: str, values: npt.ArrayLike) -> Manifest:
        """Return a copy with another content of one column, such as ``hash`` or ``split``."""
        return Manifest(self.frame.assign(**{name: np.asarray(values, dtype=object)}), self.listings)

    @classmethod
    def read(cls, file: str | os.PathLike[str]) -> Manifest:
        """Read what `write` wrote.

        Raises:
            DataError: The file cannot be read or is no such table.
        """
        frame = read_table(Path(file))
        if missing := [name for name in ("path", "label") if name not in frame]:
            raise DataError(f"{file}: is not a manifest: it has no column {missing[0]}")
        try:
            return cls(frame)
        except DataError as error:
            raise DataError(f"{file}: {error}") from None

    def write(self, file: str | os.PathLike[str]) -> None:
        """Write the table as CSV or Parquet, by the suffix; an old file is replaced whole or not at all.

        Raises:
            DataError: The suffix is another, or the file cannot be written.
        """
        target = Path(file)
        suffix = target.suffix.lower()
        if suffix not in TABLE_SUFFIXES:
            raise DataError(f"{file}: a manifest is written as {' or '.join(TABLE_SUFFIXES)}")
        with replacing(target) as draft:
            if suffix == ".csv":
                # File names that are not UTF-8 come from the operating system with stand-ins and go back as
                # they were; all is quoted, because a name may hold a carriage return.
                self.frame.to_csv(
                    draft,
                    index=False,
                    encoding="utf-8",
                    errors="surrogateescape",
                    quoting=csv.QUOTE_ALL,
                    lineterminator="\n",
                )
            else:
                self.frame.to_parquet(draft, index=False)


def _texts(column: pd.Series[Any]) -> pd.Series[Any]:
    if pd.api.types.is_float_dtype(column.dtype):
        column = column.convert_dtypes()  # whole numbers with gaps between them: patient 7, not 7.0
    values = ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
    # Not pandas' own kind of text: what is no UTF-8 (a file name may be) does not fit into it.
    return pd.Series(values, index=column.index, dtype=object)


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV or Parquet table as text, empty cells as ``""``.

    Column names are taken in lower case and without outer spaces.

    Raises:
        DataError: The file cannot be read, or two columns have the same name.
    """
    options: dict[str, Any] = {"dtype": object, "keep_default_na": False, "encoding": "utf-8-sig"}
    try:
        if file.suffix.lower() == ".parquet":
            frame = pd.read_parquet(file)
        else:
            frame = pd.read_csv(file, encoding_errors="surrogateescape", **options)
    except Exception as error:  # pandas and pyarrow raise many kinds for a broken file
        raise DataError(f"{file}: cannot be read as a table: {str(error).strip()}") from None
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{file}: has two columns called {twice!r}")
    return frame.apply(_texts)
