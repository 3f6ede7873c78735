"""Is a manifest fit to train and test on? Every picture is read once; what would harm is named."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import pandas as pd
from tqdm import tqdm

from leukonca.cells.decode import content_hash, decode
from leukonca.cells.manifest import Manifest
from leukonca.cells.report import CheckReport, Copies, StraddlingGroup, UnknownLabel, Unreadable
from leukonca.cells.splits import leaks
from leukonca.errors import PictureError
from leukonca.vocabulary import CELL_TYPES, nearest

__all__ = ["check"]

_AHEAD: Final = 4
"""Pictures in flight for each thread: enough to keep it busy, too few to matter to memory."""


def check(manifest: Manifest, *, progress: bool = False) -> CheckReport:
    """Read every picture of a manifest and look for what would corrupt a result.

    Pictures are decoded on a few threads and forgotten as soon as they are hashed, so memory does not grow
    with their number; the report depends on the manifest and the files alone, not on the order of reading.

    Args:
        manifest: What to check.
        progress: Whether to show a bar on stderr.

    Returns:
        The report; its `manifest` has the hashes.
    """
    hashes: list[str] = []
    unreadable: list[Unreadable] = []
    paths: list[str] = manifest.frame["path"].tolist()
    with tqdm(total=len(paths), desc="check", unit="cell", disable=not progress) as bar:
        for path, (digest, reason) in zip(paths, _in_order(paths), strict=True):
            hashes.append(digest)
            if reason:
                unreadable.append(Unreadable(path, reason))
            bar.update()
    hashed = manifest.with_column("hash", hashes)
    frame = hashed.frame
    groups = Counter(group for group in frame["group"] if group)
    return CheckReport(
        pictures=len(frame),
        classes=_counts(frame, manifest.classes),
        sources={
            str(name): _counts(part, manifest.classes) for name, part in frame.groupby("source", sort=True)
        },
        splits={
            str(name): _counts(part, manifest.classes) for name, part in frame.groupby("split", sort=True)
        },
        groups=dict(sorted(groups.items())),
        groups_by_class=_groups_by_class(frame, manifest.classes),
        unreadable=tuple(unreadable),
        copies=tuple(_copies(frame)),
        straddling=tuple(_straddling(frame)),
        unknown=tuple(_unknown(frame)),
        listings=manifest.listings,
        manifest=hashed,
    )


def _read(path: str) -> tuple[str, str]:
    try:
        return content_hash(decode(path)), ""
    except PictureError as error:
        return "", error.reason


def _in_order(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    threads = min(4, os.cpu_count() or 1)
    waiting: deque[Future[tuple[str, str]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="check") as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(_read, path))
                if len(waiting) >= threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _counts(frame: pd.DataFrame, classes: Iterable[str]) -> dict[str, int]:
    counts = Counter(frame["label"])
    return {label: counts[label] for label in (*classes, "") if counts[label]}


def _groups_by_class(frame: pd.DataFrame, classes: Iterable[str]) -> dict[str, int]:
    pairs = set(zip(frame["label"], frame["group"], strict=True))
    counts = Counter(label for label, group in pairs if group)
    return {label: counts[label] for label in (*classes, "") if counts[label]}


def _copies(frame: pd.DataFrame) -> Iterator[Copies]:
    repeated = frame[(frame["hash"] != "") & frame["hash"].duplicated(keep=False)]
    for digest, rows in repeated.groupby("hash", sort=False):
        labels = tuple(dict.fromkeys(label for label in rows["label"] if label))
        yield Copies(str(digest), tuple(rows["path"]), labels, _splits(rows))


def _straddling(frame: pd.DataFrame) -> Iterator[StraddlingGroup]:
    for leak in leaks(frame["split"], frame["group"], frame["hash"]):
        if leak.kind == "group":
            yield StraddlingGroup(leak.value, leak.parts, len(leak.rows))


def _splits(rows: pd.DataFrame) -> tuple[str, ...]:
    return tuple(sorted({split for split in rows["split"] if split}))


def _unknown(frame: pd.DataFrame) -> Iterator[UnknownLabel]:
    for label, count in sorted(Counter(frame["label"]).items()):
        if label and label not in CELL_TYPES:
            meant = _misspelt(label)
            yield UnknownLabel(label, count, meant or nearest(label), bool(meant))


def _misspelt(label: str) -> str | None:
    """Return the known name that a label is very probably a misspelling of.

    One wrong letter from five letters on, two from seven on: a prolymphocyte or a promonocyte, which are
    types of their own, are three letters away from what they are not.
    """
    plain = " ".join(label.replace("_", " ").replace("-", " ").lower().split())
    allowed = 0 if len(plain) < 5 else 1 if len(plain) < 7 else 2
    names = {
        word: kind.name
        for kind in CELL_TYPES.values()
        for word in (kind.name.replace("_", " "), *kind.synonyms)
    }
    close = [(_edits(plain, word), word) for word in names if abs(len(word) - len(plain)) <= allowed]
    distance, word = min(close, default=(allowed + 1, ""))
    return names[word] if distance <= allowed else None


def _edits(first: str, second: str) -> int:
    """Return Levenshtein's distance."""
    row: list[int] = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        above, row = row, [i, *[0] * len(second)]
        for j, b in enumerate(second, 1):
            row[j] = min(row[j - 1] + 1, above[j] + 1, above[j - 1] + (a != b))
    return row[-1]
