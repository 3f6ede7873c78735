"""Similar cells: the training cells that a model finds most like a given one.

A cell is the maximum and mean of each channel after the last step, as the head of a ``max_mean`` model sees
it, each in units of its standard deviation among the training cells. The distance of two cells is the root
mean square of their differences: 1 is as far apart as one standard deviation in every value.

An index is made once and kept in one file. It may hold small pictures of its cells, so that they can be shown
where the files are not. All of its cells are compared with each query, which takes a blink
for 100,000 of them; a search tree would not help in so many dimensions.
"""

from __future__ import annotations

import io
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from leukonca.cells.decode import content_hash, decode
from leukonca.cells.framing import Framing, frame
from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, ModelError, PictureError, SettingError
from leukonca.explanation.automaton import automaton_of, require_seeds
from leukonca.explanation.features import SEEDS, vectors_of
from leukonca.explanation.storage import fingerprint, load_parts, require_same_model, save_parts
from leukonca.learning.preparation import read_framed
from leukonca.learning.trained import TrainedModel
from leukonca.nca.firing import image_id

__all__ = ["CellIndex", "Neighbour", "index_cells"]

_LOG = logging.getLogger(__name__)
_KIND: Final = "index of cells"
_BATCH: Final = 64
_BLOCK: Final = 16_384  # cells compared at once: some 10 MB
_LEAST_SPREAD: Final = 1e-6
# float16 holds nothing beyond 65,504; so far out nothing is alike anyway.
_FARTHEST: Final = 1000.0
_SIDE: Final = 72  # pixels of a small picture

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A similar training cell.

    Attributes:
        path: Its file, as it was named when the index was made.
        label: Its class, as labelled; ``""`` where it has none.
        distance: Root mean square difference of the standardised features, at least 0.
        hash: Content hash of its picture.
        number: Its row in the index.
    """

    path: str
    label: str
    distance: float
    hash: str
    number: int


@dataclass(frozen=True, eq=False)
class CellIndex:
    """The training cells of a model in feature space.

    Attributes:
        features: float16 [N, F], standardised.
        mean: float32 [F], of the features before that.
        spread: float32 [F], their standard deviation.
        paths: The N files.
        labels: Their N labels, ``""`` where there is none.
        hashes: The N content hashes of their pictures.
        seeds: Firing seeds that the features are averaged over.
        model: Fingerprint of the model.
        pictures: N small pictures as WebP; ``None``: they are made from the files, where those are there.
        credit: Where the cells come from, for the page that shows them.
    """

    features: npt.NDArray[np.float16]
    mean: Floats
    spread: Floats
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    hashes: tuple[str, ...]
    seeds: int
    model: str
    pictures: tuple[bytes, ...] | None = None
    credit: str = ""

    def __post_init__(self) -> None:
        count, width = self.features.shape if self.features.ndim == 2 else (-1, -1)
        if not count == len(self.paths) == len(self.labels) == len(self.hashes) or count < 1:
            raise ModelError(
                f"an index of {len(self.paths)} cells has features of shape {list(self.features.shape)}, "
                f"{len(self.labels)} labels and {len(self.hashes)} hashes"
            )
        if self.pictures is not None and len(self.pictures) != count:
            raise ModelError(f"an index of {count} cells has {len(self.pictures)} small pictures")
        if self.mean.shape != (width,) or self.spread.shape != (width,):
            raise ModelError(f"an index of {width} features has means of shape {list(self.mean.shape)}")
        if not all(np.isfinite(values).all() for values in (self.features, self.mean, self.spread)):
            raise ModelError("an index holds values that are not finite")

    def __len__(self) -> int:
        return len(self.paths)

    def nearest(
        self,
        model: TrainedModel,
        pictures: npt.NDArray[np.uint8],
        hashes: Sequence[str],
        count: int = 5,
    ) -> list[list[Neighbour]]:
        """Return the nearest cells of each query, nearest first.

        A cell of the index with the very picture of the query is left out: it is the query itself.

        Args:
            model: The model that the index was made for.
            pictures: The queries, framed, uint8 [B, S, S, 3].
            hashes: Content hashes of their whole pictures, B.
            count: How many neighbours, at least 1; fewer where the index has no more.

        Raises:
            ModelError: It is another model.
            SettingError: ``count`` is below 1.
        """
        if count < 1:
            raise SettingError(f"count={count}: ask for at least 1 similar cell")
        require_same_model(model, self.model, "the index of cells")
        images = np.array([image_id(one) for one in hashes], dtype=np.int64)
        queries = _standardised(_features(model, pictures, images, self.seeds), self.mean, self.spread)
        squares = self._squared_distances(queries)
        found = []
        for row, own in zip(squares, hashes, strict=True):
            # One more than wanted for each copy of the query, which may stand in the index several times.
            copies = self.hashes.count(own)
            first = np.argsort(row, kind="stable")[: count + copies]
            found.append(
                [self._neighbour(int(at), row[at]) for at in first if self.hashes[at] != own][:count]
            )
        return found

    def _neighbour(self, at: int, square: np.float32) -> Neighbour:
        return Neighbour(self.paths[at], self.labels[at], float(np.sqrt(square)), self.hashes[at], at)

    def picture_of(self, cell: Neighbour, framing: Framing) -> bytes | None:
        """Return a small picture of a similar cell as WebP.

        Args:
            cell: One that :meth:`nearest` gave.
            framing: The model's, which says what is shown; the colours are those of the picture.

        Returns:
            The picture; ``None`` where the index has none and its file is gone, or is another one now.
        """
        if self.pictures is not None:
            return self.pictures[cell.number]
        return _small_picture(cell.path, cell.hash, framing)

    def with_pictures(self, framing: Framing) -> CellIndex:
        """Return the index with small pictures of its cells.

        Args:
            framing: As for :meth:`picture_of`.

        Raises:
            DataError: A file is gone, or is another one now.
        """
        pictures = []
        for path, hash_ in zip(self.paths, self.hashes, strict=True):
            picture = _small_picture(path, hash_, framing)
            if picture is None:
                raise DataError(f"{path}: is no longer the picture that was indexed; make the index anew")
            pictures.append(picture)
        return replace(self, pictures=tuple(pictures))

    def _squared_distances(self, queries: Floats) -> Floats:
        """Mean squared difference of each query to each cell, float32 [B, N]."""
        result = np.empty((len(queries), len(self)), dtype=np.float32)
        for start in range(0, len(self), _BLOCK):
            block = self.features[start : start + _BLOCK].astype(np.float32)
            for row, query in enumerate(queries):
                # Not by the expanded square, which loses near cells to rounding.
                result[row, start : start + _BLOCK] = np.square(block - query).mean(axis=1)
        return result

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the index as one safetensors file.

        Raises:
            DataError: It cannot be written.
        """
        note = {"model": self.model, "seeds": self.seeds, "credit": self.credit}
        texts = {name: list(getattr(self, name)) for name in ("paths", "labels", "hashes")}
        arrays = {name: getattr(self, name) for name in ("features", "mean", "spread")}
        if self.pictures is not None:
            arrays["pictures"] = np.frombuffer(b"".join(self.pictures), dtype=np.uint8)
            arrays["picture_ends"] = np.cumsum([len(one) for one in self.pictures], dtype=np.int64)
        save_parts(file, _KIND, {**note, **texts}, arrays)

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> CellIndex:
        """Read an index; nothing in the file is run.

        Raises:
            ModelError: The file is missing, foreign, damaged or newer than this version.
        """
        note, arrays = load_parts(file, _KIND, "an index of cells")
        try:
            texts = {name: tuple(map(str, note[name])) for name in ("paths", "labels", "hashes")}
            return cls(
                features=arrays["features"].astype(np.float16, casting="no"),
                mean=arrays["mean"].astype(np.float32, casting="no"),
                spread=arrays["spread"].astype(np.float32, casting="no"),
                seeds=int(note["seeds"]),
                model=str(note["model"]),
                pictures=_parted(arrays["pictures"], arrays["picture_ends"])
                if "pictures" in arrays
                else None,
                credit=str(note.get("credit", "")),
                **texts,
            )
        except (KeyError, TypeError, ValueError, ModelError) as error:
            raise ModelError(f"{file}: not an index of cells, or damaged ({error}); make it anew") from error


def _small_picture(path: str, hash_: str, framing: Framing) -> bytes | None:
    try:
        picture = decode(path)
    except PictureError:
        return None
    if content_hash(picture) != hash_:
        return None
    shown, buffer = frame(picture, replace(framing, size=_SIDE, colour="as_is")), io.BytesIO()
    Image.fromarray(shown).save(buffer, "WEBP", quality=80, method=6)
    return buffer.getvalue()


def _parted(joined: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> tuple[bytes, ...]:
    whole, starts = joined.tobytes(), [0, *ends.tolist()[:-1]]
    if ends.tolist()[-1:] != [len(whole)] or (np.diff(ends, prepend=0) <= 0).any():
        raise ValueError("its small pictures are not whole")
    return tuple(whole[start:end] for start, end in zip(starts, ends.tolist(), strict=True))


def index_cells(
    model: TrainedModel,
    cells: Manifest,
    *,
    seeds: int = SEEDS,
    per_class: int | None = None,
    progress: bool = False,
) -> CellIndex:
    """Make the index of a model's training cells.

    Args:
        model: An automaton.
        cells: Where they are. Of them those are taken that the model was trained on, which it knows by their
            pictures; a model that knows none (an imported one) takes all.
        seeds: Firing seeds to average over, at least 1.
        per_class: At most so many of each label, at least 1: those whose content hashes are the smallest,
            which is a choice by chance that does not depend on names or order. ``None``: all.
        progress: Whether to show a progress bar.

    Raises:
        DataError: None of the cells can be read, or the model was trained on none of them.
        ModelError: The network is no automaton.
        SettingError: ``seeds`` or ``per_class`` is below 1.
    """
    require_seeds(seeds)
    automaton_of(model, "an index of cells")
    if per_class is not None:
        if per_class < 1:
            raise SettingError(f"per_class={per_class} must be at least 1")
        # Where there is none, all are looked at, and the message below tells how many that were.
        cells = cells.subset(_chosen(model, cells, per_class, progress) or range(len(cells)))
    frame, seen = cells.frame, set(model.seen_training.tolist())
    paths, labels = frame["path"].tolist(), frame["label"].tolist()
    kept: list[tuple[int, str]] = []
    features = []
    reading = read_framed(paths, model.framing)
    with tqdm(total=len(paths), desc="indexing", unit=" cells", disable=not progress) as bar:
        for start in range(0, len(paths), _BATCH):
            part = list(enumerate(islice(reading, _BATCH), start))
            bar.update(len(part))
            for row, (_, _, error) in part:
                if error:
                    _LOG.warning("left out: %s: %s", paths[row], error)
            good = [
                (row, picture, hash_)
                for row, (picture, hash_, _) in part
                if picture is not None and (not seen or image_id(hash_) in seen)
            ]
            if good:
                images = np.array([image_id(hash_) for _, _, hash_ in good], dtype=np.int64)
                features.append(_features(model, np.stack([one for _, one, _ in good]), images, seeds))
                kept += [(row, hash_) for row, _, hash_ in good]
    if not kept:
        raise DataError(
            f"none of the {len(paths)} pictures is one that this model was trained on and can be read; name "
            "the cells of its training"
        )
    values = np.concatenate(features)
    mean, spread = values.mean(axis=0), np.maximum(values.std(axis=0), np.float32(_LEAST_SPREAD))
    return CellIndex(
        features=_standardised(values, mean, spread).astype(np.float16),
        mean=mean,
        spread=spread,
        paths=tuple(paths[row] for row, _ in kept),
        labels=tuple(labels[row] for row, _ in kept),
        hashes=tuple(hash_ for _, hash_ in kept),
        seeds=seeds,
        model=fingerprint(model),
    )


def _chosen(model: TrainedModel, cells: Manifest, per_class: int, progress: bool) -> list[int]:
    """The rows of so many cells of each label, in the order of the table."""
    seen, labels = set(model.seen_training.tolist()), cells.frame["label"].tolist()
    by_label: dict[str, dict[str, int]] = defaultdict(dict)
    # Only the hashes are wanted; finding the cell and bringing it to size would take most of the time.
    reading = read_framed(
        cells.frame["path"].tolist(), model.framing, view=lambda picture, _, __: picture[:1, :1]
    )
    bar = tqdm(reading, total=len(labels), desc="choosing cells", unit=" cells", disable=not progress)
    for row, (_, hash_, error) in enumerate(bar):
        if not error and (not seen or image_id(hash_) in seen):
            by_label[labels[row]].setdefault(hash_, row)
    return sorted(row for found in by_label.values() for _, row in sorted(found.items())[:per_class])


def _features(
    model: TrainedModel, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seeds: int
) -> Floats:
    features = vectors_of(model, pictures, images, seeds=seeds, purpose="an index of cells").features
    return features[:, : 2 * features.shape[1] // 3]


def _standardised(features: Floats, mean: Floats, spread: Floats) -> Floats:
    return ((features - mean) / spread).clip(-_FARTHEST, _FARTHEST)
