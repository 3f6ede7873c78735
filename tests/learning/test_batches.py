from __future__ import annotations

import numpy as np
import pytest
import torch

from leukonca.learning.balance import Balance
from leukonca.learning.batches import Batch, Cells, CellsModule

LABELS = np.array([0] * 13 + [1] * 5 + [2] * 3, dtype=np.int64)


def cells(rows: np.ndarray | None = None) -> Cells:
    pictures = np.zeros((30, 4, 4, 3), dtype=np.uint8)
    pictures[:, 0, 0, 0] = np.arange(30)  # a picture tells its row
    chosen = np.arange(29, 29 - len(LABELS), -1) if rows is None else rows
    return Cells(
        pictures, np.arange(30, dtype=np.int64) * 100, chosen.astype(np.int64), LABELS[: len(chosen)]
    )


def module(balance: Balance = "none", batch: int = 8, seed: int = 1) -> CellsModule:
    return CellsModule(cells(), cells(np.array([3, 1, 2])), batch=batch, seed=seed, balance=balance)


def epoch(data: CellsModule, number: int = 0) -> list[Batch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return list(loader)


def rows(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.rows for batch in batches]).tolist()


def check(batches: list[Batch]) -> None:
    """All that belongs to a cell stays together, and the positions count the cells."""
    place = 0
    for batch in batches:
        for tensor in (batch.labels, batch.images, batch.rows, batch.positions):
            assert (tensor.dtype, tensor.shape) == (torch.int64, (len(batch),))
        assert batch.pictures.dtype == torch.uint8
        for index, row in enumerate(batch.rows.tolist()):
            assert batch.pictures[index, 0, 0, 0] == row
            assert batch.images[index] == row * 100
            assert batch.labels[index] == LABELS[29 - row]
            assert batch.positions[index] == place
            place += 1


@pytest.mark.parametrize("balance", ["none", "weights"])
@pytest.mark.parametrize("batch", [1, 8, 21, 50])
def test_each_cell_comes_once_an_epoch(balance: Balance, batch: int) -> None:
    for number in range(3):
        batches = epoch(module(balance, batch), number)
        check(batches)
        assert sorted(rows(batches)) == sorted(cells().rows.tolist())
        assert {len(one) for one in batches[:-1]} <= {batch}
        assert len(batches) == len(module(balance, batch).train_dataloader())


@pytest.mark.parametrize("balance", ["sampling", "sqrt"])
def test_sampling_draws_as_many_cells_and_favours_rare_classes(balance: Balance) -> None:
    drawn = [batch for number in range(40) for batch in epoch(module(balance), number)]
    for number in range(2):
        check(epoch(module(balance), number))
    assert len(rows(drawn)) == 40 * len(LABELS)
    shares = np.bincount([LABELS[29 - row] for row in rows(drawn)]) / len(rows(drawn))
    power = {"sampling": 0.0, "sqrt": 0.5}[balance]
    expected = np.bincount(LABELS) ** power
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.06)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    first = rows(epoch(module(), 4))
    assert rows(epoch(module(), 4)) == first
    data = module()
    for number in (0, 1, 2):
        epoch(data, number)
    assert rows(epoch(data, 4)) == first  # whatever came before
    assert rows(epoch(module(), 5)) != first
    assert rows(epoch(module(seed=2), 4)) != first


def test_validation_keeps_its_order() -> None:
    loader = module().val_dataloader()
    for _ in range(2):
        assert rows(list(loader)) == [3, 1, 2]


def test_validation_cells_come_in_blocks() -> None:
    many = np.arange(150, dtype=np.int64)
    large = Cells(np.zeros((150, 2, 2, 3), np.uint8), many, many, many % 2)
    loader = CellsModule(large, large, batch=8, seed=0, balance="none").val_dataloader()
    assert [len(batch) for batch in loader] == [64, 64, 22]
    assert len(loader) == 3
    assert torch.cat([batch.positions for batch in loader]).tolist() == many.tolist()


def test_loading_draws_nothing_from_the_global_stream() -> None:
    before = torch.get_rng_state()
    epoch(module("sqrt"))
    list(module().val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_blocks_show_the_cells_of_the_set_alone() -> None:
    shown = np.concatenate(list(cells().blocks(4)))
    assert shown[:, 0, 0, 0].tolist() == cells().rows.tolist()
    assert [len(block) for block in cells().blocks(8)] == [8, 8, 5]


def test_a_batch_moves_as_a_whole() -> None:
    batch = epoch(module())[0]
    moved = batch.to(torch.device("meta"))
    assert len(moved) == len(batch)
    for name in ("pictures", "labels", "images", "rows", "positions"):
        assert getattr(moved, name).device.type == "meta", name
