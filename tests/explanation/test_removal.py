from __future__ import annotations

import numpy as np
import pytest
import torch

from leukonca.errors import SettingError
from leukonca.explanation.removal import clear_field, erase, halves, in_patches, spread_patches
from leukonca.nca.firing import derive_seed
from reference.firing import grid_fires


def test_the_clear_field_has_the_colour_between_the_cells() -> None:
    pictures = torch.full((2, 3, 20, 20), 0.2)
    plasma = torch.tensor([0.9, 0.8, 0.7])
    pictures[0, :, :, :5] = plasma[:, None, None]
    pictures[0, :, 0, 0] = 1.0  # a glint
    field = clear_field(pictures)
    assert torch.equal(field[0], plasma[:, None, None].expand(3, 20, 20))
    assert torch.equal(field[1], pictures[1])


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_clear_field_is_the_same_colour_in_every_unit(scale: float) -> None:
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    shifted = (pictures - 0.4) * scale
    torch.testing.assert_close(clear_field(shifted), (clear_field(pictures) - 0.4) * scale)


def test_erasing_leaves_the_rest() -> None:
    pictures, field = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    gone = torch.zeros(1, 4, 4, dtype=torch.bool)
    gone[0, 1, 2] = True
    erased = erase(pictures, gone, field)
    assert erased.sum() == 3
    assert erased[0, :, 1, 2].tolist() == [1, 1, 1]


def test_patches_are_summed_and_spread_row_by_row() -> None:
    relevance = torch.arange(24.0).reshape(1, 4, 6)
    sums = in_patches(relevance, 2)
    assert sums.tolist() == [[14.0, 22.0, 30.0, 62.0, 70.0, 78.0]]
    spread = spread_patches(sums, 4, 6, 2)
    assert spread.shape == (1, 4, 6)
    assert spread[0, :2, 2:4].unique().tolist() == [22.0]
    torch.testing.assert_close(in_patches(spread, 2), sums * 4)
    assert torch.equal(spread_patches(in_patches(relevance, 1), 4, 6, 1), relevance)


@pytest.mark.parametrize("side", [0, 3, 8])
def test_patches_must_divide_the_map(side: int) -> None:
    with pytest.raises(SettingError, match=f"patch={side} px does not divide a map of 4 × 6 px"):
        in_patches(torch.zeros(1, 4, 6), side)


def test_halves_depend_on_the_picture_and_the_order_alone() -> None:
    images = torch.tensor([5, 2**40, 9])
    chosen = halves(images, 2, 16, 16)
    assert chosen.shape == (3, 16, 16)
    assert torch.equal(chosen[1:2], halves(images[1:2], 2, 16, 16))
    assert not torch.equal(chosen, halves(images, 3, 16, 16))
    assert 0.4 < float(chosen.float().mean()) < 0.6
    expected = grid_fires(derive_seed(0x68616C76), 9, 2, 16, 16, 0.5)
    np.testing.assert_array_equal(chosen[2].numpy(), expected)
