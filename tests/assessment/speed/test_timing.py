from __future__ import annotations

import time

import pytest

from leukonca.assessment.speed.timing import best_batch, interleaved


def test_jobs_take_turns_and_short_ones_are_repeated() -> None:
    calls: list[str] = []

    def long() -> None:
        calls.append("long")
        time.sleep(0.02)

    def short() -> None:
        calls.append("short")
        time.sleep(0.001)

    found = interleaved({"long": long, "short": short}, rounds=3, least=0.01)
    assert found["long"].seconds >= 0.02
    assert 0.001 <= found["short"].seconds < found["long"].seconds
    assert found["short"].work < found["short"].seconds
    assert found["short"].rounds == 3
    rounds = "".join(name[0] for name in calls[4:])  # after one call to warm up and one to count, of each
    assert rounds.count("l") == 3
    assert rounds.count("ls") == rounds.count("sl") + 1 == 3
    assert rounds.count("s") > 3


def test_the_batch_with_the_most_pictures_a_second_is_taken() -> None:
    made: list[int] = []

    def make(size: int) -> object:
        made.append(size)
        if size == 16:
            raise RuntimeError("can't allocate memory: you tried to allocate 10 bytes")
        # 4 pictures take as long as 2, 8 far longer.
        return lambda: time.sleep({2: 0.002, 4: 0.002, 8: 0.04}.get(size, 0))

    best = best_batch(make, (2, 4, 8, 16, 32), lambda size: True)  # type: ignore[arg-type]
    assert best is not None
    assert best[0] == 4
    assert made == [2, 4, 8, 16]
    assert best_batch(make, (2, 4), lambda size: False) is None  # type: ignore[arg-type]


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def make(size: int) -> object:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        best_batch(make, (1, 2), lambda size: True)  # type: ignore[arg-type]
