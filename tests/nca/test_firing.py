from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leukonca.errors import SettingError
from leukonca.nca.firing import Firing, derive_seed, fires, image_id, mix32
from reference import firing as reference

WORDS = st.integers(0, 2**63 - 1)


def grid(
    seed: int, images: list[int], step: int, rows: int, columns: int, probability: float = 0.5
) -> np.ndarray:
    found = fires(Firing(seed, torch.tensor(images, dtype=torch.int64), probability), step, rows, columns)
    assert found.dtype == torch.bool
    return found.numpy()


# Made once by tests/reference/firing.py: they hold the definition still, also against a change of both.
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0, 0, 0, 0, 0), 0x0EDD38AA),
        ((42, 7, 3, 2, 1), 0xE25ABA55),
        ((2**63 - 1, 2**63 - 1, 63, 511, 511), 0x1B1DB123),
        ((2**32, 2**33, 1, 0, 5), 0xEEE38B65),
    ],
)
def test_golden_hashes(words: tuple[int, int, int, int, int], expected: int) -> None:
    assert reference.site_hash(*words) == expected
    seed, image, step, row, column = words
    # The hash itself stays inside; the lowest probability that fires tells its upper 24 bits.
    level = expected >> 8
    assert not grid(seed, [image], step, row + 1, column + 1, level / 2**24)[0, row, column]
    assert grid(seed, [image], step, row + 1, column + 1, (level + 1) / 2**24)[0, row, column]


def test_golden_grid() -> None:
    expected = """
        .XXXXXX.X.X.
        .XX.XX.X.X.X
        ........XXXX
        X.......XX..
    """
    drawn = ["".join(".X"[int(site)] for site in row) for row in grid(42, [7], 3, 4, 12)[0]]
    assert drawn == expected.split()


@given(seed=WORDS, image=WORDS, step=st.integers(0, 2**31 - 1), probability=st.floats(0, 1))
def test_firing_equals_the_reference(seed: int, image: int, step: int, probability: float) -> None:
    expected = reference.grid_fires(seed, image, step, 3, 4, probability)
    np.testing.assert_array_equal(grid(seed, [image], step, 3, 4, probability)[0], expected)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_mix32_equals_the_reference(words: list[int]) -> None:
    mixed = mix32(torch.from_numpy(np.array(words, np.uint32).view(np.int32)))
    assert mixed.numpy().view(np.uint32).tolist() == [reference.mix(word) for word in words]


def test_firing_depends_neither_on_the_batch_nor_on_the_size_of_the_grid() -> None:
    images = [5, 2**40, 0, 77]
    together = grid(9, images, 4, 6, 8)
    for place, image in enumerate(images):
        np.testing.assert_array_equal(together[place], grid(9, [image], 4, 6, 8)[0])
        np.testing.assert_array_equal(together[place, :3, :5], grid(9, [image], 4, 3, 5)[0])


@pytest.mark.parametrize("probability", [0.01, 0.25, 0.5, 0.9])
def test_rate_is_the_probability(probability: float) -> None:
    sites = grid(1, list(range(16)), 0, 64, 64, probability)
    spread = (probability * (1 - probability) / sites.size) ** 0.5
    assert abs(sites.mean() - probability) < 4 * spread


def test_probability_one_fires_all_and_zero_none() -> None:
    assert grid(3, [1, 2], 7, 32, 32, 1.0).all()
    assert not grid(3, [1, 2], 7, 32, 32, 0.0).any()


@pytest.mark.parametrize(
    ("seed", "image", "step"),
    [(1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 2**32, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
)
def test_neighbouring_seeds_images_and_steps_are_uncorrelated(seed: int, image: int, step: int) -> None:
    here = grid(1000, [2000], 30, 128, 128)[0]
    there = grid(1000 ^ seed, [2000 ^ image], 30 ^ step, 128, 128)[0]
    assert abs((here == there).mean() - 0.5) < 4 * 0.5 / 128


@pytest.mark.parametrize(("down", "right"), [(0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (16, 0), (0, 16)])
def test_neighbouring_sites_are_uncorrelated(down: int, right: int) -> None:
    sites = grid(0, [0], 0, 128, 128)[0]
    assert abs((sites == np.roll(sites, (down, right), (0, 1))).mean() - 0.5) < 4 * 0.5 / 128


def test_rows_and_columns_are_told_apart() -> None:
    sites = grid(0, [0], 0, 64, 64)[0]
    assert abs((sites == sites.T)[~np.eye(64, dtype=bool)].mean() - 0.5) < 6 * 0.5 / 64


@pytest.mark.parametrize(
    ("seed", "probability", "words"),
    [
        (0, 1.5, "probability 1.5"),
        (0, -0.1, "probability -0.1"),
        (0, float("nan"), "nan"),
        (-1, 0.5, "seed -1"),
        (2**63, 0.5, "seed 9223372036854775808"),
    ],
)
def test_impossible_firing_is_refused(seed: int, probability: float, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Firing(seed, torch.zeros(1, dtype=torch.int64), probability)


@pytest.mark.parametrize("images", [torch.zeros(2), torch.zeros(2, 1, dtype=torch.int64)])
def test_wrong_image_identities_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(SettingError, match=r"int64 \[B\]"):
        Firing(0, images, 0.5)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=4))
def test_derived_seed_equals_the_reference_and_is_a_seed(words: list[int]) -> None:
    seed = derive_seed(*words)
    assert seed == reference.derived_seed(*words)
    Firing(seed, torch.zeros(1, dtype=torch.int64), 0.5)


def test_derived_seeds_differ() -> None:
    assert derive_seed(42, 1) == 5653410105674713879  # golden, from the reference
    words = [(a, b) for a in range(40) for b in range(40)]
    assert len({derive_seed(*pair) for pair in words}) == len(words)
    assert len({derive_seed(*[0] * length) for length in range(5)}) == 5


def test_image_id_is_the_start_of_the_hash() -> None:
    assert image_id("0000000000000abc" + "f" * 16) == 0xABC
    assert image_id("f" * 32) == 2**63 - 1
