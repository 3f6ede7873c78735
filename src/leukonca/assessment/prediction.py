"""What a model said about a list of cells, as a typed object and as a table."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from leukonca.errors import DataError, SettingError
from leukonca.writing import encode, write_bytes

__all__ = ["AMBIGUOUS", "FOREIGN", "UNREADABLE", "Predictions"]

AMBIGUOUS, FOREIGN, UNREADABLE = "ambiguous", "foreign", "unreadable"
"""Why a person has to look at a cell: several names or none are likely enough; the picture is unlike the
training cells; the file could not be read."""

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
        spread: float64 [N], standard deviation of the winning class's probability over the runs that are
            averaged, NaN where it is not known.
        errors: N reasons why a file could not be read; ``""`` where it was.
        truth: N true labels, ``""`` where unknown; ``None`` where nothing is known of any cell.
        sets: bool [N, K], the classes of each cell's prediction set; ``None`` where no coverage was asked.
        familiarity: float64 [N], share of held-out cells that are at least as unlike the training cells, NaN
            where the file could not be read; ``None`` where the model cannot tell.
        foreign: bool [N], the picture is so unlike the training cells that it is not named; ``None`` where
            nobody looked.
        uncalibrated: float64 [N, K], the probabilities before calibration, which no table holds; ``None``
            where the model is not calibrated.
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
    sets: npt.NDArray[np.bool_] | None = None
    familiarity: npt.NDArray[np.float64] | None = None
    foreign: npt.NDArray[np.bool_] | None = None
    uncalibrated: npt.NDArray[np.float64] | None = None
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
        for entry in fields(self)[1:]:
            value = getattr(self, entry.name)
            if value is not None and len(value) != n:
                raise DataError(
                    f"predictions of {n} files have {len(value)} entries in {entry.name}; expected {n}"
                )
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
        """N names of the winning classes, ``""`` where the file was not read or the picture is foreign."""
        named = self.ok if self.foreign is None else self.ok & ~self.foreign
        return [
            self.classes[index] if name else "" for index, name in zip(self.predicted, named, strict=True)
        ]

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """float64 [N]: probability of the winning class, NaN where the file was not read."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @property
    def reasons(self) -> list[str] | None:
        """N reasons why a person has to look, joined by ``|``, ``""`` where there is none.

        ``ambiguous``: the set holds another number of classes than one. ``foreign``, ``unreadable``: see the
        attributes. ``None`` where neither sets nor foreign pictures were asked for.
        """
        if self.sets is None and self.foreign is None:
            return None
        none = np.zeros(len(self), dtype=bool)
        flags = {
            UNREADABLE: ~self.ok,
            FOREIGN: none if self.foreign is None else self.foreign,
            AMBIGUOUS: none if self.sets is None else self.ok & (self.sets.sum(axis=1) != 1),
        }
        return ["|".join(name for name, flag in flags.items() if flag[row]) for row in range(len(self))]

    def subset(self, mask: npt.ArrayLike) -> Predictions:
        """Return the rows that a bool [N] mask or an array of row numbers chooses, in that order."""
        chosen = np.arange(len(self))[np.asarray(mask)]
        parts: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, list):
                parts[entry.name] = [value[row] for row in chosen]
            elif isinstance(value, np.ndarray):
                parts[entry.name] = value[chosen]
        return replace(self, **parts)

    def to_frame(self) -> pd.DataFrame:
        """Return a table, one row a file.

        Its columns are path, label, set (where a coverage was asked), ``p_<class>`` for every class, spread,
        familiarity (where the model can tell), review and reason (where one of both was), error, steps (where
        pictures may stop early), and truth if known. A set is the names of its classes joined by ``|``.
        """
        columns: dict[str, Any] = {"path": _encodable(self.paths), "label": self.labels}
        if self.sets is not None:
            columns["set"] = [_joined(np.array(self.classes)[row].tolist()) for row in self.sets]
        for index, name in enumerate(self.classes):
            columns[_PREFIX + name] = self.probabilities[:, index]
        columns["spread"] = self.spread
        if self.familiarity is not None:
            columns["familiarity"] = self.familiarity
        reasons = self.reasons
        if reasons is not None:
            columns |= {"review": ["yes" if reason else "no" for reason in reasons], "reason": reasons}
        columns["error"] = _encodable(self.errors)
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

        The columns ``label`` and ``review`` are not read: they follow from the others.

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
        has = set(names).__contains__
        foreign = None
        if has("reason"):
            reasons = [text.split("|") for text in _texts(frame, "reason")]
            foreign = np.array([FOREIGN in found for found in reasons], dtype=bool)
        try:
            return cls(
                classes=classes,
                paths=_texts(frame, "path"),
                probabilities=np.stack(columns, axis=1),
                spread=_numbers(frame, "spread", path) if has("spread") else np.full(rows, np.nan),
                errors=_texts(frame, "error") if has("error") else [""] * rows,
                truth=_texts(frame, "truth") if has("truth") else None,
                sets=_sets(_texts(frame, "set"), classes) if has("set") else None,
                familiarity=_numbers(frame, "familiarity", path) if has("familiarity") else None,
                foreign=foreign,
                steps=_numbers(frame, "steps", path) if has("steps") else None,
            )
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def _joined(names: Iterable[str]) -> str:
    # A class may be called anything, also "a|b".
    return "|".join(re.sub(r"([\\|])", r"\\\1", name) for name in names)


def _sets(texts: list[str], classes: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    number = {_joined([name]): index for index, name in enumerate(classes)}
    sets = np.zeros((len(texts), len(classes)), dtype=bool)
    for row, text in enumerate(texts):
        for name in re.findall(r"(?:[^\\|]|\\.)+", text, re.DOTALL):
            if name not in number:
                raise DataError(f"row {row} has {name!r} in its set, which is none of its classes")
            sets[row, number[name]] = True
    return sets


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
