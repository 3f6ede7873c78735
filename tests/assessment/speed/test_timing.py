"""With a clock of the tests' own: the real one shows what else the machine does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from leukonca.assessment.speed import timing
from leukonca.assessment.speed.timing import Timing, best_batch, interleaved


class Clock:
    """A clock that stands still but for :meth:`pass_by`; half of the time that passes is work."""

    def __init__(self) -> None:
        self.now = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    times = SimpleNamespace(perf_counter=lambda: made.now, process_time=lambda: made.now / 2)
    monkeypatch.setattr(timing, "time", times)
    return made


def test_jobs_take_turns_and_short_ones_are_repeated(clock: Clock) -> None:
    calls: list[str] = []

    def long() -> None:
        calls.append("l")
        # Slow at first, and once more by chance: neither moves the median.
        clock.pass_by(20.0 if len(calls) in (1, 8) else 2.0)

    def short() -> None:
        calls.append("s")
        clock.pass_by(0.5)

    found = interleaved({"long": long, "short": short}, rounds=3, least=1.0)
    # Each once to warm up and once to see how long it takes; then in turn.
    assert "".join(calls) == "ll" + "ss" + 3 * "lss"
    assert found == {"long": Timing(2.0, 1.0, 3), "short": Timing(0.5, 0.25, 3)}


def test_the_batch_with_the_most_pictures_a_second_is_taken(clock: Clock) -> None:
    made: list[int] = []

    def make(size: int) -> object:
        made.append(size)
        if size == 16:
            raise RuntimeError("can't allocate memory: you tried to allocate 10 bytes")
        return lambda: clock.pass_by({2: 2.0, 4: 2.5, 8: 9.0}[size])

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
