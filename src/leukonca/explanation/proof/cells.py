"""The cells whose explanations are measured: drawn, read, named, and outlined where there are masks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leukonca.assessment.evaluate import choose
from leukonca.assessment.predict import FIRING_SEEDS
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.views import align
from leukonca.cells.decode import decode
from leukonca.cells.framing import frame_mask
from leukonca.cells.manifest import Manifest
from leukonca.cells.masks import Masks
from leukonca.errors import DataError
from leukonca.explanation.target import Target
from leukonca.learning.preparation import read_framed
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id

__all__ = ["ExplainedCells", "draw_cells", "framed_masks"]

_LOG = logging.getLogger(__name__)

# Whether a model has seen a cell is known from its pixels alone, so not all are looked at.
_LOOKED_AT: Final = 12
_FEWEST: Final = 500
_BATCH: Final = 64
_LISTS: Final = ("paths", "labels", "groups")
_ARRAYS: Final = ("pictures", "images", "named", "right")


@dataclass(frozen=True, eq=False)
class ExplainedCells:
    """N cells, and why they were named as they were is asked.

    Attributes:
        paths: The N files.
        pictures: Framed, uint8 [N, S, S, 3].
        images: Their identities, int64 [N].
        labels: Their N true classes; ``""`` where the model has no class for one.
        groups: Their N patients or slides; ``""`` where unknown.
        named: int64 [N], the class that the model names; it is the explained one.
        right: bool [N], that is the true one.
        notes: What was left out, in sentences.
    """

    paths: list[str]
    pictures: npt.NDArray[np.uint8]
    images: npt.NDArray[np.int64]
    labels: list[str]
    groups: list[str]
    named: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, chosen: slice | npt.NDArray[np.int64]) -> ExplainedCells:
        """Return some of the cells."""
        places = np.arange(len(self))[chosen].tolist()
        few: dict[str, Any] = {name: [getattr(self, name)[at] for at in places] for name in _LISTS}
        return replace(self, **few, **{name: getattr(self, name)[chosen] for name in _ARRAYS})

    def chunks(self, size: int) -> Iterator[ExplainedCells]:
        """Yield the cells, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))

    @property
    def key(self) -> str:
        """What tells these cells and their explained classes from others."""
        whole = self.images.tobytes() + self.named.tobytes()
        return blake2b(whole, digest_size=12).hexdigest()

    def asked(self, model: TrainedModel) -> tuple[Tensor, Tensor, Target]:
        """Return input, identities and target: why the named class rather than any other."""
        return (
            model.normalised(self.pictures),
            torch.from_numpy(self.images).to(model.device),
            Target("rest", torch.from_numpy(self.named).to(model.device)),
        )

    def known_groups(self) -> list[str] | None:
        """Return the groups for the intervals; ``None`` where none is known."""
        return self.groups if any(self.groups) else None

    def counts(self) -> dict[str, int]:
        """Return how many cells there are of each true class."""
        return {label: self.labels.count(label) for label in sorted(set(self.labels)) if label}


def draw_cells(
    model: TrainedModel, manifest: Manifest, wanted: int, *, right: bool = False, progress: bool = False
) -> ExplainedCells:
    """Draw cells that the model has not seen, by a hash of their names: always the same, in any folder.

    Args:
        model: The model.
        manifest: Labelled cells of one image set.
        wanted: How many; where there are fewer, all of them.
        right: Only cells that the model names rightly.
        progress: Whether to show a progress bar.

    Raises:
        DataError: No cell is left, none can be read, or the model can express none of the labels.
    """
    names = [f"{Path(path).parent.name}/{Path(path).name}" for path in manifest.frame["path"]]
    order = np.argsort(
        [blake2b(name.encode("utf-8", "surrogateescape")).hexdigest() for name in names], kind="stable"
    )
    few = manifest.subset(order[: max(_FEWEST, _LOOKED_AT * wanted)])
    chosen = choose(model, few, "auto", progress=progress)
    frame = chosen.manifest.frame
    reading = zip(frame.itertuples(), read_framed(frame["path"].tolist(), model.framing), strict=True)
    parts: list[ExplainedCells] = []
    while sum(map(len, parts)) < wanted and (part := list(islice(reading, _BATCH))):
        found = _named(model, part)
        if found is not None:
            parts.append(found.rows(np.flatnonzero(found.right)) if right else found)
    drawn = _joined(parts).rows(slice(wanted)) if parts else None
    if not drawn:
        what = "was named rightly" if parts else "can be read"
        raise DataError(
            f"none of the {len(frame)} cells of {_sources(frame)} {what}, so that there is nothing to "
            "explain; name other data"
        )
    notes = []
    if len(drawn) < wanted:
        kind = "rightly named, unseen" if right else "unseen"
        notes.append(f"{_sources(frame)}: {len(drawn)} {kind} cells instead of the {wanted} asked for.")
    return replace(drawn, notes=tuple(notes))


def _sources(frame: Any) -> str:
    return ", ".join(sorted(frame["source"].unique()))


def _named(model: TrainedModel, part: list[tuple[Any, Any]]) -> ExplainedCells | None:
    for cell, (_, _, error) in part:
        if error:
            _LOG.warning("left out: %s: %s", cell.path, error)
    good = [(cell, picture, hash_) for cell, (picture, hash_, _) in part if picture is not None]
    if not good:
        return None
    paths = [str(cell.path) for cell, _, _ in good]
    pictures = np.stack([picture for _, picture, _ in good])
    images = np.array([image_id(hash_) for _, _, hash_ in good], dtype=np.int64)
    probabilities = model.stated(model.observe(pictures, images, FIRING_SEEDS).logits).mean(axis=0)
    nothing = np.full(len(good), np.nan)
    said = Predictions(model.classes, paths, probabilities, nothing, [""] * len(good))
    aligned, labels, _ = align(said, [cell.label for cell, _, _ in good])
    right = [bool(label) and label == name for label, name in zip(labels, aligned.labels, strict=True)]
    return ExplainedCells(
        paths=paths,
        pictures=pictures,
        images=images,
        labels=labels,
        groups=[cell.group for cell, _, _ in good],
        named=probabilities.argmax(axis=1).astype(np.int64),
        right=np.array(right, dtype=bool),
    )


def _joined(parts: list[ExplainedCells]) -> ExplainedCells:
    first, *others = parts
    for part in others:
        both: dict[str, Any] = {name: getattr(first, name) + getattr(part, name) for name in _LISTS}
        both |= {name: np.concatenate((getattr(first, name), getattr(part, name))) for name in _ARRAYS}
        first = replace(first, **both)
    return first


def framed_masks(cells: ExplainedCells, masks: Masks, model: TrainedModel) -> Mapping[str, Tensor]:
    """Return the masks of cells as the model sees them, by part, bool [N, S, S].

    Raises:
        PictureError: A mask is missing or cannot be read.
        SettingError: A mask has another size than its picture.
    """
    found: dict[str, list[npt.NDArray[np.bool_]]] = {}
    for path in cells.paths:
        picture = decode(path)
        for part, mask in masks.of(path).items():
            found.setdefault(part, []).append(frame_mask(mask, picture, model.framing))
    return {part: torch.from_numpy(np.stack(several)) for part, several in found.items()}
