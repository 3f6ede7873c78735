"""The firing of the automaton in plain Python integers, written from its documented definition."""

from __future__ import annotations

import numpy as np


def mix(x: int) -> int:
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) % 2**32
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) % 2**32
    return x ^ (x >> 16)


def absorb(h: int, word: int) -> int:
    return mix(((h ^ word) + 0x9E3779B9) % 2**32)


def site_hash(seed: int, image: int, step: int, row: int, column: int) -> int:
    words = [seed % 2**32, seed // 2**32, image % 2**32, image // 2**32, step, row, column]
    h = 0x6C65756B
    for word in words:
        h = absorb(h, word)
    return h


def site_fires(seed: int, image: int, step: int, row: int, column: int, probability: float) -> bool:
    return site_hash(seed, image, step, row, column) >> 8 < round(probability * 2**24)


def grid_fires(seed: int, image: int, step: int, rows: int, columns: int, probability: float) -> np.ndarray:
    """Bool [rows, columns]."""
    return np.array(
        [
            [site_fires(seed, image, step, row, column, probability) for column in range(columns)]
            for row in range(rows)
        ]
    )


def derived_seed(*words: int) -> int:
    """63 bits from a chain that starts with a lane number and takes each word as (low, high)."""
    lanes = []
    for lane in (0, 1):
        h = absorb(0x6C65756B, lane)
        for word in words:
            h = absorb(absorb(h, word % 2**32), word // 2**32)
        lanes.append(h)
    low, high = lanes
    return (high * 2**32 + low) % 2**63
