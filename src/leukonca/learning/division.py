"""Which cells of a manifest are trained on, which choose the best epoch, and which are kept for the test."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd

from leukonca.cells.manifest import Manifest
from leukonca.cells.splits import PARTS, leaks, stratified_folds, stratified_split
from leukonca.errors import DataError
from leukonca.learning.balance import limit_per_class
from leukonca.learning.settings import Settings
from leukonca.vocabulary import CLASS_SETS, project

__all__ = ["divide", "with_classes"]

_LOG = logging.getLogger(__name__)

# Of the cells that a fold leaves for training, this share chooses the best epoch.
_VALIDATION_SHARE = 0.1


def with_classes(manifest: Manifest, classes: str) -> Manifest:
    """Return the cells that have a place in a class set, labelled by it.

    Args:
        manifest: The cells.
        classes: ``auto`` keeps the labels; ``five``, ``eight`` or ``thirteen`` projects them.

    Raises:
        DataError: No cell has a label, or fewer than two classes are left.
    """
    labels = manifest.frame["label"]
    if classes != "auto":
        wanted = CLASS_SETS[classes]
        labels = labels.map(lambda label: project(label, wanted) or "")
        placeless = manifest.frame["label"][(labels == "") & (manifest.frame["label"] != "")]
        for name, count in placeless.value_counts().items():
            _LOG.warning(
                "%d cells labelled %r have no place in the class set %r: left out", count, name, classes
            )
    labelled = manifest.with_column("label", labels).subset((labels != "").to_numpy())
    if len(labelled.classes) < 2:
        raise DataError(
            f"training needs cells of at least 2 classes; these have "
            f"{', '.join(labelled.classes) or 'no labels'}"
        )
    return labelled


def divide(manifest: Manifest, settings: Settings) -> Manifest:
    """Return the cells with a split each.

    Splits that the data bring are kept. Where they bring none, ``settings.folds`` or
    ``settings.fractions`` decide. Groups stay together, and so do several copies of one picture. Where the
    data know no validation cells, a tenth of the training cells becomes them.

    Args:
        manifest: Labelled cells with content hashes.
        settings: Of the run; training cells beyond its ``limit_per_class`` are in no part.

    Raises:
        DataError: Only some rows have a split, or all have one and folds are asked for; a part is empty, a
            class has no training cell, or a group or picture lies in several parts.
    """
    frame = manifest.frame
    own = (frame["split"] != "").to_numpy()
    if own.any() and not own.all():
        raise DataError(
            f"{int(own.sum())} of {len(frame)} cells have a split and the others have none; give all of them "
            "one, or none"
        )
    _warn_of_contradictions(frame)
    groups = _groups(frame)
    seed = settings.seed
    if own.all():
        if settings.folds:
            raise DataError(
                f"folds={settings.folds}, but these cells have a split of their own, which folds would "
                "ignore; set folds to 0, or name a table of the cells without the column split"
            )
        split = frame["split"].to_numpy(dtype=object)
        if not (split == "val").any():
            split = _some_for_validation(split, frame, groups, seed)
    elif settings.folds:
        folds = stratified_folds(frame["label"], groups, folds=settings.folds, seed=seed)
        split = np.where(folds == settings.fold, "test", "train").astype(object)
        split = _some_for_validation(split, frame, groups, seed)
    else:
        split = stratified_split(frame["label"], groups, fractions=settings.fractions, seed=seed).astype(
            object
        )
    divided = manifest.with_column("split", split)
    _check(divided)
    if settings.limit_per_class:
        training = np.flatnonzero(split == "train")
        codes = frame["label"].iloc[training].astype("category").cat.codes.to_numpy(dtype=np.int64)
        kept = limit_per_class(codes, settings.limit_per_class, seed)
        split = split.copy()  # the data's own column, which pandas does not let us write to
        split[np.setdiff1d(training, training[kept])] = ""
        divided = manifest.with_column("split", split)
    return divided


def _warn_of_contradictions(frame: pd.DataFrame) -> None:
    known = frame[frame["hash"] != ""]
    several = known.groupby("hash")["label"].nunique()
    if contradicted := known[known["hash"].isin(several.index[several > 1])]["path"].tolist():
        _LOG.warning(
            "%d files are pictures that occur under two labels, the first: %s; 'leukonca data check' lists "
            "them",
            len(contradicted),
            contradicted[0],
        )


def _groups(frame: pd.DataFrame) -> npt.NDArray[np.object_]:
    """The groups that must not be divided: the data's own, joined where they share a picture."""
    # A group may be called anything, so that both kinds of names need a first word of their own.
    alone = [f"row {row}" for row in range(len(frame))]
    names = ("group " + frame["group"]).where(frame["group"] != "", alone)
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    known = frame["hash"] != ""
    for members in names[known].groupby(frame["hash"][known]).unique():
        for other in members[1:]:
            leader[find(other)] = find(members[0])
    roots = names.map(find)
    # A row alone in its group is no group: without real ones the plain stratified split is exact.
    return roots.where(roots.duplicated(keep=False), "").to_numpy(dtype=object)


def _some_for_validation(
    split: npt.NDArray[np.object_], frame: pd.DataFrame, groups: npt.NDArray[np.object_], seed: int
) -> npt.NDArray[np.object_]:
    training = np.flatnonzero(split == "train")
    parts = stratified_split(
        frame["label"].iloc[training],
        groups[training],
        fractions=(1 - _VALIDATION_SHARE, _VALIDATION_SHARE, 0.0),
        seed=seed,
    )
    split = split.copy()
    split[training[parts == "val"]] = "val"
    return split


def _check(manifest: Manifest) -> None:
    frame = manifest.frame
    counts = pd.crosstab(frame["label"], frame["split"]).reindex(columns=list(PARTS), fill_value=0)
    for part in ("train", "val"):
        if not counts[part].sum():
            raise DataError(f"the split has no {part} cells; change fractions or the table's split column")
    if missing := [str(name) for name in counts.index[counts["train"] == 0]]:
        raise DataError(
            f"no training cell of {', '.join(missing)}; add cells, leave the class out, or change the split"
        )
    found = leaks(frame["split"], frame["group"], frame["hash"])
    if found:
        first = found[0]
        raise DataError(
            f"{len(found)} groups or pictures lie in more than one part, "
            f"the first: {first.kind} {first.value!r} "
            f"in {' and '.join(first.parts)} ({frame['path'].iloc[first.rows[0]]}); "
            "'leukonca data check' lists them all"
        )
