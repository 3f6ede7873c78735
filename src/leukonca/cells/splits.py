"""Who is trained on and who is tested on: stratified, seeded, and never dividing a group.

Cells of one patient or one slide resemble each other, so a group in two parts would let a model answer from
memory. A row whose group is ``""`` stands for itself.

The same rows in the same order with the same seed give the same answer, on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from leukonca.errors import DataError

__all__ = ["PARTS", "Leak", "leaks", "stratified_folds", "stratified_split"]

PARTS: Final = ("train", "val", "test")

_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that lies in more than one part.

    Attributes:
        kind: ``"group"`` or, for one and the same content, ``"picture"``.
        value: The name of the group, or the content hash.
        parts: The parts that it lies in, in alphabetical order.
        rows: The positions of its rows that lie in any part.
    """

    kind: Literal["group", "picture"]
    value: str
    parts: tuple[str, ...]
    rows: tuple[int, ...]


def stratified_folds(
    labels: Iterable[str], groups: Iterable[str] | None = None, *, folds: int = 5, seed: int = 42
) -> npt.NDArray[np.int64]:
    """Give every row one of ``folds`` folds such that each fold has its share of every class.

    Without groups these are the folds of scikit-learn's ``StratifiedKFold(folds, shuffle=True,
    random_state=seed)``, which the paper uses with 5 folds and seed 42; with groups those of its
    ``StratifiedGroupKFold``.

    Args:
        labels: The class of each row.
        groups: The group of each row, ``""`` for none.
        folds: How many folds, at least 2.
        seed: Chooses among the possible answers.

    Returns:
        int64 [N]: the fold (0 to ``folds`` - 1) in which a row is *tested*.

    Raises:
        DataError: A row has no label, a class has fewer cells than there are folds, or there are too few
            groups to fill the folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second to import

    names, members, codes = _inputs(labels, groups)
    if folds < 2:
        raise DataError(f"{folds} folds are not possible; ask for at least 2")
    counts = np.bincount(codes, minlength=len(names))
    if not len(codes):
        raise DataError("there are no cells to divide into folds; check the SPEC")
    if counts.min() < folds:
        scarce = ", ".join(f"{names[k]} has {counts[k]}" for k in np.flatnonzero(counts < folds))
        raise DataError(
            f"{folds} folds need {folds} cells of every class, but {scarce}; ask for fewer folds or leave "
            "the class out"
        )
    number = int(members.max()) + 1
    if number < folds:
        raise DataError(f"{folds} folds need {folds} groups, but there are {number}; ask for fewer folds")

    grouped = number < len(codes)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    answer = np.empty(len(codes), dtype=np.int64)
    for fold, (_, test) in enumerate(splitter.split(codes, codes, members if grouped else None)):
        if not len(test):
            raise DataError(
                f"the groups are too uneven to fill {folds} folds (fold {fold} stays empty); ask for fewer"
            )
        answer[test] = fold
    return answer


def stratified_split(
    labels: Iterable[str],
    groups: Iterable[str] | None = None,
    *,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 42,
) -> npt.NDArray[np.str_]:
    """Divide the rows into training, validation and test cells with a share of every class in each.

    Without groups each class is divided to within one cell of the fractions, and a class with at least as
    many cells as there are parts is in every part. With groups both are approached as closely as whole
    groups allow: the large groups are placed first, each where it is missed most.

    Args:
        labels: The class of each row.
        groups: The group of each row, ``""`` for none.
        fractions: The shares of train, val and test; they sum to 1 and may be 0.
        seed: Chooses among the possible answers.

    Returns:
        str [N]: ``train``, ``val`` or ``test`` for each row.

    Raises:
        DataError: A row has no label, the fractions are impossible, or there are fewer groups than parts.
    """
    names, members, codes = _inputs(labels, groups)
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.shape != (len(PARTS),) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise DataError(
            f"the fractions {tuple(fractions)} are not three shares of train, val and test that sum to 1"
        )
    totals = np.bincount(codes, minlength=len(names))
    wanted = np.array([_apportion(int(total), shares) for total in totals]).reshape(-1, len(PARTS)).T
    chance = np.random.default_rng(seed)
    number = int(members.max()) + 1 if len(members) else 0
    if number == len(codes):
        part_of = np.empty(len(codes), dtype=np.int64)
        for code in range(len(names)):
            rows = np.flatnonzero(codes == code)
            part_of[chance.permutation(rows)] = np.repeat(np.arange(len(PARTS)), wanted[:, code])
        return np.array(PARTS)[part_of]
    if number < np.count_nonzero(shares):
        parts = np.count_nonzero(shares)
        raise DataError(f"{parts} parts need {parts} groups, but there are {number}; ask for fewer parts")
    content = np.zeros((number, len(names)), dtype=np.int64)
    np.add.at(content, (members, codes), 1)
    return np.array(PARTS)[_place(content, wanted, shares > 0, chance)[members]]


def leaks(splits: Iterable[Any], groups: Iterable[str], hashes: Iterable[str]) -> list[Leak]:
    """Find groups and pictures that lie in more than one part.

    Args:
        splits: The part (or the fold's number) of each row; ``""`` for rows of no part, which cannot leak.
        groups: The group of each row, ``""`` for none.
        hashes: The content hash of each row, ``""`` where it is not known.

    Returns:
        The leaks: groups first, then pictures, each in the order of their first row.
    """
    parts = [str(part) for part in splits]
    found: list[Leak] = []
    columns: tuple[tuple[Literal["group", "picture"], Iterable[str]], ...] = (
        ("group", groups),
        ("picture", hashes),
    )
    for kind, values in columns:
        rows_of: dict[str, list[int]] = {}
        for row, (value, part) in enumerate(zip(values, parts, strict=True)):
            if value and part:
                rows_of.setdefault(str(value), []).append(row)
        for value, rows in rows_of.items():
            touched = sorted({parts[row] for row in rows})
            if len(touched) > 1:
                found.append(Leak(kind, value, tuple(touched), tuple(rows)))
    return found


def _inputs(
    labels: Iterable[str], groups: Iterable[str] | None
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the class names, and the group's and the class's number of each row.

    Numbers follow the alphabet, so that they do not depend on the order of the rows; rows without a group
    come after the named groups, each under a number of its own.
    """
    rows = list(labels)
    if nameless := sum(not label for label in rows):
        raise DataError(f"{nameless} of {len(rows)} cells have no label; label them or leave them out")
    names = sorted(set(rows))
    code = {name: number for number, name in enumerate(names)}
    belonging = [""] * len(rows) if groups is None else list(groups)
    if len(belonging) != len(rows):
        raise DataError(f"{len(rows)} labels but {len(belonging)} groups; give one group a row, or none")
    group = {name: number for number, name in enumerate(sorted(set(belonging) - {""}))}
    members = np.empty(len(rows), dtype=np.int64)
    alone = len(group)
    for row, name in enumerate(belonging):
        if name:
            members[row] = group[name]
        else:
            members[row] = alone
            alone += 1
    return names, members, np.array([code[label] for label in rows], dtype=np.int64)


def _apportion(total: int, shares: npt.NDArray[np.float64]) -> _Counts:
    """Divide ``total`` cells by the largest remainder, with at least one in each part where they suffice."""
    parts = np.flatnonzero(shares)
    largest_first = parts[np.argsort(-shares[parts], kind="stable")]
    counts = np.zeros(len(shares), dtype=np.int64)
    if total <= len(parts):
        counts[largest_first[:total]] = 1
        return counts
    # Rounding first keeps 0.7 * 10 from falling to 6 by its last binary digit.
    exact = np.round(total * shares, 9)
    counts[:] = np.floor(exact)
    by_remainder = np.argsort(-(exact - counts)[largest_first], kind="stable")
    counts[largest_first[by_remainder[: total - counts.sum()]]] += 1
    for part in parts[counts[parts] == 0]:
        counts[part] += 1
        counts[np.argmax(counts)] -= 1
    return counts


def _place(
    content: _Counts, wanted: _Counts, used: npt.NDArray[np.bool_], chance: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Choose a part for each group.

    Args:
        content: [groups, classes] cells of each class in each group.
        wanted: [parts, classes] cells of each class that each part should have.
        used: [parts] whether a part is wanted at all.
        chance: Breaks ties between groups of one size.

    Returns:
        int64 [groups]: the part of each group.
    """
    # Relative to the class's size, so that a rare class counts as much as a common one.
    weight = 1.0 / np.maximum(content.sum(axis=0), 1) ** 2
    shuffled = chance.permutation(len(content))
    importance = (content**2 * weight).sum(axis=1)[shuffled]
    part_of = np.full(len(content), -1, dtype=np.int64)
    have = np.zeros_like(wanted)
    blocked = np.where(used, 0.0, np.inf)
    for group in shuffled[np.argsort(-importance, kind="stable")]:
        # How the sum of the squared distances from what is wanted changes if the group goes to a part.
        change = (content[group] * (2 * (have - wanted) + content[group]) * weight).sum(axis=1)
        part_of[group] = np.argmin(change + blocked)
        have[part_of[group]] += content[group]
    _spread(part_of, content, np.flatnonzero(used))
    return part_of


def _spread(part_of: npt.NDArray[np.int64], content: _Counts, parts: npt.NDArray[np.int64]) -> None:
    """Move small groups, in place, so that no part is empty and a class is in every part where that can be.

    A move is made only if it fills more pairs of class and part than it empties, so the search ends.
    """
    # "Any cell at all" counts as one more class, and comes first; then the classes in the fewest groups.
    holds = np.column_stack([np.ones(len(content), dtype=bool), content > 0])
    holders = np.array([holds[part_of == part].sum(axis=0) for part in range(len(PARTS))])
    smallest_first = np.argsort(content.sum(axis=1), kind="stable")
    for class_ in [0, *(1 + np.argsort(holds[:, 1:].sum(axis=0), kind="stable"))]:
        for part in parts:
            if holders[part, class_]:
                continue
            for group in smallest_first[holds[smallest_first, class_]]:
                filled = (holders[part] == 0) & holds[group]
                emptied = (holders[part_of[group]] == 1) & holds[group]
                if filled.sum() > emptied.sum():
                    holders[part_of[group]] -= holds[group]
                    holders[part] += holds[group]
                    part_of[group] = part
                    break
