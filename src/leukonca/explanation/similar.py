"""Similar cells: the training cells that a model finds most like a given one.

A cell is the maximum and mean of each channel after the last step, as the head of a ``max_mean`` model sees
it, each in units of its standard deviation among the training cells. The distance of two cells is the root
mean square of their differences: 1 is as far apart as one standard deviation in every value.

An index is made once and kept in one file. All of its cells are compared with each query, which takes a blink
for 100,000 of them; a search tree would not help in so many dimensions.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, ModelError, SettingError
from leukonca.explanation.automaton import automaton_of, require_seeds
from leukonca.explanation.features import SEEDS, cell_features
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

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A similar training cell.

    Attributes:
        path: Its file, as it was named when the index was made.
        label: Its class, as labelled; ``""`` where it has none.
        distance: Root mean square difference of the standardised features, at least 0.
        hash: Content hash of its picture.
    """

    path: str
    label: str
    distance: float
    hash: str


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
    """

    features: npt.NDArray[np.float16]
    mean: Floats
    spread: Floats
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    hashes: tuple[str, ...]
    seeds: int
    model: str

    def __post_init__(self) -> None:
        count, width = self.features.shape if self.features.ndim == 2 else (-1, -1)
        if not count == len(self.paths) == len(self.labels) == len(self.hashes) or count < 1:
            raise ModelError(
                f"an index of {len(self.paths)} cells has features of shape {list(self.features.shape)}, "
                f"{len(self.labels)} labels and {len(self.hashes)} hashes"
            )
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
        return Neighbour(self.paths[at], self.labels[at], float(np.sqrt(square)), self.hashes[at])

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
        note = {"model": self.model, "seeds": self.seeds}
        texts = {name: list(getattr(self, name)) for name in ("paths", "labels", "hashes")}
        arrays = {name: getattr(self, name) for name in ("features", "mean", "spread")}
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
                **texts,
            )
        except (KeyError, TypeError, ValueError, ModelError) as error:
            raise ModelError(f"{file}: not an index of cells, or damaged ({error}); make it anew") from error


def index_cells(
    model: TrainedModel, cells: Manifest, *, seeds: int = SEEDS, progress: bool = False
) -> CellIndex:
    """Make the index of a model's training cells.

    Args:
        model: An automaton.
        cells: Where they are. Of them those are taken that the model was trained on, which it knows by their
            pictures; a model that knows none (an imported one) takes all.
        seeds: Firing seeds to average over, at least 1.
        progress: Whether to show a progress bar.

    Raises:
        DataError: None of the cells can be read, or the model was trained on none of them.
        ModelError: The network is no automaton.
        SettingError: ``seeds`` is below 1.
    """
    require_seeds(seeds)
    automaton_of(model, "an index of cells")
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


def _features(
    model: TrainedModel, pictures: npt.NDArray[np.uint8], images: npt.NDArray[np.int64], seeds: int
) -> Floats:
    features = cell_features(
        model, pictures, images, steps=[model.steps], seeds=seeds, purpose="an index of cells"
    )
    return features[:, : 2 * features.shape[1] // 3]


def _standardised(features: Floats, mean: Floats, spread: Floats) -> Floats:
    return ((features - mean) / spread).clip(-_FARTHEST, _FARTHEST)
