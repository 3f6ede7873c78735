from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from leukonca.learning.draws import mix64, normals, picture_seeds, stream_keys, uniforms

BITS = (1 << 64) - 1
SIGNED = st.integers(-(1 << 63), (1 << 63) - 1)


def splitmix64(x: int) -> int:
    """SplitMix64's output for state x, in whole numbers of any size."""
    z = (x + 0x9E3779B97F4A7C15) & BITS
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & BITS
    return z ^ (z >> 31)


def test_mix64_gives_the_published_first_number_of_splitmix64() -> None:
    # First output of Vigna's splitmix64.c for the seeds 0 and 1234567.
    assert mix64(torch.tensor([0, 1234567])).tolist() == [
        0xE220A8397B1DCDAF - (1 << 64),
        6457827717110365317,
    ]


@given(SIGNED)
def test_mix64_agrees_with_whole_numbers(x: int) -> None:
    assert mix64(torch.tensor([x])).item() & BITS == splitmix64(x & BITS)


def test_mix64_leaves_its_argument_alone() -> None:
    x = torch.tensor([5])
    mix64(x)
    assert x.item() == 5


@given(st.lists(SIGNED, min_size=1, max_size=9))
def test_uniforms_depend_on_their_own_seed_and_place_only(seeds: list[int]) -> None:
    together = uniforms(torch.tensor(seeds), 7)
    for row, seed in zip(together, seeds, strict=True):
        assert torch.equal(uniforms(torch.tensor([seed]), 3)[0], row[:3])


def test_uniforms_are_uniform_and_uncorrelated_even_for_consecutive_seeds() -> None:
    drawn = uniforms(torch.arange(4000), 12).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert min(stats.kstest(column, "uniform").pvalue for column in drawn.T) > 1e-3
    correlation = np.corrcoef(drawn.T) - np.eye(12)
    assert abs(correlation).max() < 0.07
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.05


def test_normals_are_standard_normal_and_belong_to_their_key() -> None:
    keys = stream_keys(torch.arange(5), 1)
    drawn = normals(keys, 20_001)
    assert drawn.dtype == torch.float32
    assert drawn.shape == (5, 20_001)
    assert torch.equal(drawn[3:4], normals(keys[3:4], 20_001))
    assert min(stats.kstest(row.numpy(), "norm").pvalue for row in drawn) > 1e-3
    assert abs(np.corrcoef(drawn.numpy()) - np.eye(5)).max() < 0.03


def test_streams_differ_from_each_other() -> None:
    seeds = torch.arange(100)
    assert not set(stream_keys(seeds, 1).tolist()) & set(stream_keys(seeds, 2).tolist())


def test_picture_seeds_differ_by_run_epoch_and_row() -> None:
    rows = torch.arange(50)
    seeds = [picture_seeds(run, epoch, rows) for run in (0, 1, 2**64 - 1) for epoch in range(5)]
    assert len(set(torch.cat(seeds).tolist())) == 3 * 5 * 50
    assert torch.equal(picture_seeds(1, 2, rows[[7, 3]]), picture_seeds(1, 2, rows)[[7, 3]])
