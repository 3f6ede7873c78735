"""Batches of prepared cells, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from leukonca.learning.balance import Balance, epoch_order

__all__ = ["Batch", "Cells", "CellsModule"]


@dataclass(frozen=True)
class Batch:
    """Some prepared cells.

    Attributes:
        pictures: uint8 [B, S, S, 3].
        labels: int64 [B], class numbers.
        images: int64 [B], identities for the firing.
        rows: int64 [B], rows of the run's manifest.
        positions: int64 [B], places in the epoch.
    """

    pictures: Tensor
    labels: Tensor
    images: Tensor
    rows: Tensor
    positions: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """Return the batch on another device (the name and arguments that Lightning looks for)."""
        return Batch(
            *(
                tensor.to(device, non_blocking=non_blocking)
                for tensor in (self.pictures, self.labels, self.images, self.rows, self.positions)
            )
        )

    def __len__(self) -> int:
        return len(self.labels)


class Cells(Dataset[Batch]):
    """Prepared cells, taken a batch at a time: an item is the batch of a list of (position, index) pairs.

    Args:
        pictures: uint8 [N, S, S, 3]; may be mapped from disk.
        images: int64 [N].
        rows: int64 [n], which of the N belong to this set.
        labels: int64 [n], their class numbers.
    """

    def __init__(
        self,
        pictures: npt.NDArray[np.uint8],
        images: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
    ) -> None:
        self.pictures, self.images, self.rows, self.labels = pictures, images, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: npt.NDArray[np.int64]) -> Batch:
        positions, indices = chosen
        rows = self.rows[indices]
        # Reading a mapped file in rising order is several times faster than at random.
        order = np.argsort(rows, kind="stable")
        pictures = np.empty((len(rows), *self.pictures.shape[1:]), dtype=np.uint8)
        pictures[order] = self.pictures[rows[order]]
        return Batch(
            torch.from_numpy(pictures),
            torch.from_numpy(self.labels[indices]),
            torch.from_numpy(self.images[rows]),
            torch.from_numpy(rows),
            torch.from_numpy(positions),
        )

    def blocks(self, size: int = 256) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield all pictures of the set in blocks, uint8 [≤ size, S, S, 3]."""
        for start in range(0, len(self), size):
            yield self.pictures[self.rows[start : start + size]]


class _EpochSampler(Sampler[npt.NDArray[np.int64]]):
    """Yields [2, B] arrays of positions and indices; Lightning tells it the epoch through ``set_epoch``."""

    def __init__(self, labels: npt.NDArray[np.int64], batch: int, *, seed: int, balance: Balance) -> None:
        self.labels, self.batch, self.seed, self.balance = labels, batch, seed, balance
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch)

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        order = epoch_order(self.labels, epoch=self.epoch, seed=self.seed, balance=self.balance)
        numbered = np.stack((np.arange(len(order), dtype=np.int64), order))
        for start in range(0, len(order), self.batch):
            yield numbered[:, start : start + self.batch]


class _PlainSampler(Sampler[npt.NDArray[np.int64]]):
    def __init__(self, count: int, batch: int) -> None:
        self.count, self.batch = count, batch

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        for start in range(0, self.count, self.batch):
            numbers = np.arange(start, min(start + self.batch, self.count), dtype=np.int64)
            yield np.stack((numbers, numbers))


class CellsModule(LightningDataModule):
    """Training and validation cells for Lightning.

    Args:
        training: The training cells.
        validation: The validation cells.
        batch: Pictures a batch.
        seed: Seed of the run.
        balance: See :func:`leukonca.learning.balance.epoch_order`.
    """

    def __init__(
        self, training: Cells, validation: Cells, *, batch: int, seed: int, balance: Balance
    ) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        self.batch, self.seed, self.balance = batch, seed, balance

    def train_dataloader(self) -> DataLoader[Batch]:  # noqa: D102
        sampler = _EpochSampler(self.training.labels, self.batch, seed=self.seed, balance=self.balance)
        # Slicing a mapped array needs no workers, and batch_size=None leaves the batching to the sampler.
        # A loader draws a seed for workers even without any: from a generator of its own, not the caller's.
        return DataLoader(self.training, batch_size=None, sampler=sampler, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader[Batch]:  # noqa: D102
        # Larger batches cost no gradient memory; 64 keeps the state of the largest preset under 150 MB.
        sampler = _PlainSampler(len(self.validation), 64)
        return DataLoader(self.validation, batch_size=None, sampler=sampler, generator=torch.Generator())
