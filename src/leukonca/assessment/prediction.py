"""What a model said about a list of cells, as a typed object and as a table."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from leukonca.errors import DataError, SettingError
from leukonca.writing import encode, write_bytes

__all__ = ["Predictions"]

_PREFIX = "p_"
_SUFFIXES = (".csv", ".jsonl", ".parquet")
# Probabilities computed in bfloat16 or rounded in somebody's spreadsheet still pass; percentages do not.
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The probabilities that a model gave to N cells, one row a file, in the order of the files.

    Attributes:
        classes: Names of the K classes, in the order of the columns.
        paths: The N files, as they were named by the user.
        probabilities: float64 [N, K], each row in 0–1 with sum 1; all NaN where the file could not be read.
        spread: float64 [N], standard deviation of the winning class's probability over the firing seeds,
            NaN where it is not known.
        errors: N reasons why a file could not be read; ``""`` where it was.
        truth: N true labels, ``""`` where unknown; ``None`` where nothing is known of any cell.
        steps: float64 [N], steps that the automaton took, averaged over the firing seeds, NaN where the file
            could not be read; ``None`` where it always takes all.

    Raises:
        DataError: Lengths disagree, a class occurs twice, a row is not a distribution, or a row without
            probabilities gives no reason.
    """

    classes: tuple[str, ...]
    paths: list[str]
    probabilities: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    errors: list[str]
    truth: list[str] | None = None
    steps: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        # Settled once here, so that whoever holds a Predictions can trust it.
        n, k = len(self.paths), len(self.classes)
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, dtype=np.float64))
        object.__setattr__(self, "spread", np.asarray(self.spread, dtype=np.float64))
        if k == 0 or len(set(self.classes)) != k:
            raise DataError(
                f"predictions have the classes {list(self.classes)}; each must be named, and once"
            )
        if self.probabilities.shape != (n, k):
            raise DataError(
                f"predictions of {n} files and {k} classes have probabilities of shape "
                f"{self.probabilities.shape}; expected ({n}, {k})"
            )
        lengths = {"spread": len(self.spread), "errors": len(self.errors)}
        if self.truth is not None:
            lengths["truth"] = len(self.truth)
        if self.steps is not None:
            lengths["steps"] = len(self.steps)
        for name, length in lengths.items():
            if length != n:
                raise DataError(f"predictions of {n} files have {length} entries in {name}; expected {n}")
        self._check_rows()

    def _check_rows(self) -> None:
        failed = np.array([bool(error) for error in self.errors], dtype=bool)
        missing = np.isnan(self.probabilities)
        distribution = (
            ~missing.any(axis=1)
            & (self.probabilities >= 0).all(axis=1)
            & (np.abs(self.probabilities.sum(axis=1) - 1) <= _SUM_TOLERANCE)
        )
        wrong = np.flatnonzero(np.where(failed, ~missing.all(axis=1), ~distribution))
        if len(wrong):
            row = int(wrong[0])
            remedy = (
                "a file that could not be read must have no probabilities"
                if failed[row]
                else "probabilities must lie in 0–1 and sum to 1, or the row must give the reason why not"
            )
            values = [round(float(value), 4) for value in self.probabilities[row]]
            raise DataError(f"prediction {row} ({self.paths[row]}) has the probabilities {values}; {remedy}")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Bool [N]: the file was read and classified."""
        return np.array([not error for error in self.errors], dtype=bool)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """int64 [N]: index of the winning class (the first of equals), -1 where the file was not read."""
        filled = np.where(np.isnan(self.probabilities), -1.0, self.probabilities)
        return np.where(self.ok, filled.argmax(axis=1), -1).astype(np.int64)

    @property
    def labels(self) -> list[str]:
        """N names of the winning classes, ``""`` where the file was not read."""
        return ["" if index < 0 else self.classes[index] for index in self.predicted]

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """float64 [N]: probability of the winning class, NaN where the file was not read."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    def subset(self, mask: npt.ArrayLike) -> Predictions:
        """Return the rows that a bool [N] mask or an array of row numbers chooses, in that order."""
        chosen = np.arange(len(self))[np.asarray(mask)]
        return Predictions(
            classes=self.classes,
            paths=[self.paths[row] for row in chosen],
            probabilities=self.probabilities[chosen],
            spread=self.spread[chosen],
            errors=[self.errors[row] for row in chosen],
            truth=None if self.truth is None else [self.truth[row] for row in chosen],
            steps=None if self.steps is None else self.steps[chosen],
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a table: path, label, ``p_<class>`` of every class, spread, error; steps, truth if known."""
        columns: dict[str, Any] = {"path": _encodable(self.paths), "label": self.labels}
        for index, name in enumerate(self.classes):
            columns[_PREFIX + name] = self.probabilities[:, index]
        columns |= {"spread": self.spread, "error": _encodable(self.errors)}
        if self.steps is not None:
            columns["steps"] = self.steps
        if self.truth is not None:
            columns["truth"] = self.truth
        return pd.DataFrame(columns)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table of :meth:`to_frame` as CSV, JSON Lines or Parquet, by the suffix of ``path``.

        Numbers are written so that they come back exactly. A broken file is a row with an empty label,
        its reason, and empty (JSON Lines: ``null``) numbers.

        Raises:
            SettingError: The suffix is none of ``.csv``, ``.jsonl``, ``.parquet``.
        """
        suffix = _suffix(path)
        frame = self.to_frame()
        if suffix == ".csv":
            # Every text quoted: a carriage return in a file name would else end the row.
            text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            write_bytes(path, encode(text))
        elif suffix == ".jsonl":
            # pandas' own JSON writer keeps 15 digits at most; json.dumps keeps all.
            names = list(frame.columns)
            rows = zip(*(frame[name].tolist() for name in names), strict=True)
            lines = (
                json.dumps({name: _null(value) for name, value in zip(names, row, strict=True)})
                for row in rows
            )
            write_bytes(path, encode("".join(line + "\n" for line in lines)))
        else:
            buffer = io.BytesIO()
            frame.to_parquet(buffer, index=False)
            write_bytes(path, buffer.getvalue())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Predictions:
        """Read a table that :meth:`write` wrote; columns that it does not know are ignored.

        The column ``label`` is not read: it follows from the probabilities.

        Raises:
            SettingError: The suffix is none of ``.csv``, ``.jsonl``, ``.parquet``.
            DataError: The file is missing, is not such a table, or its rows are not predictions.
        """
        frame = _read_frame(Path(path), _suffix(path))
        names = [str(name) for name in frame.columns]
        classes = tuple(name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))
        if "path" not in names or not classes:
            raise DataError(
                f"{path}: has the columns {', '.join(names) or '(none)'}; predictions need 'path' and "
                f"'{_PREFIX}<class>' for every class"
            )
        rows = len(frame)
        columns = [_numbers(frame, _PREFIX + name, path) for name in classes]
        try:
            return cls(
                classes=classes,
                paths=_texts(frame, "path"),
                probabilities=np.stack(columns, axis=1),
                spread=_numbers(frame, "spread", path) if "spread" in names else np.full(rows, np.nan),
                errors=_texts(frame, "error") if "error" in names else [""] * rows,
                truth=_texts(frame, "truth") if "truth" in names else None,
                steps=_numbers(frame, "steps", path) if "steps" in names else None,
            )
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def _encodable(texts: list[str]) -> list[str]:
    # A file name that is not UTF-8 reaches Python with surrogates, which no table can hold.
    return [encode(text).decode() for text in texts]


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise SettingError(
            f"{os.fspath(path)}: a table of predictions cannot have the suffix {suffix!r}; "
            f"use one of {', '.join(_SUFFIXES)}"
        )
    return suffix


def _read_frame(path: Path, suffix: str) -> pd.DataFrame:
    try:
        if suffix == ".csv":
            # As text, because a file may well be called "NA" or "001".
            return pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8-sig")
        if suffix == ".jsonl":
            # Not str.splitlines: a path may hold any of the separators that it knows.
            lines = path.read_text(encoding="utf-8").split("\n")
            return pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; name a table that 'classify' wrote") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is not a readable {suffix} table of predictions ({reason})") from None


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    return ["" if value is None or value != value else str(value) for value in frame[name].tolist()]


def _numbers(frame: pd.DataFrame, name: str, path: str | os.PathLike[str]) -> npt.NDArray[np.float64]:
    values: Sequence[Any] = frame[name].tolist()
    try:
        return np.array(
            [np.nan if value in ("", None) else float(value) for value in values], dtype=np.float64
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: column {name!r} must hold numbers ({error})") from None


def _null(value: Any) -> Any:
    return None if value != value else value
