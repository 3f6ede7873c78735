"""One run of all measurements, part by part, so that what is finished can be kept while the rest runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, get_args

import torch

from leukonca.assessment.speed.contenders import (
    AUTOMATA,
    Case,
    Precision,
    Task,
    job,
    missing,
    useful_flops,
)
from leukonca.assessment.speed.memory import available_bytes, bytes_for_a_picture
from leukonca.assessment.speed.peak import fused_peak, torch_peak
from leukonca.assessment.speed.scaling import scaling
from leukonca.assessment.speed.timing import Timing, best_batch, interleaved
from leukonca.errors import SettingError
from leukonca.learning.baselines import MissingMonaiError, require_monai
from leukonca.learning.shapes import BASELINES
from leukonca.nca.architecture import preset

__all__ = ["PARTS", "Part", "Plan", "Row", "bench", "cores"]

_LOG = logging.getLogger(__name__)

Part = Literal["peak", "inference", "training", "memory", "networks", "scaling"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
Row = dict[str, Any]

_PRESETS: Final = ("paper", "base", "tiny")
_KINDS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# The paper's formulation is slower with more pictures at once: its states no longer fit a cache.
_BATCHES: Final = {"paper": (1, 2, 4), "base": (1, 4, 16, 64), "tiny": (1, 8, 32, 128)}
_QUICK_BATCHES: Final = {"paper": (1,), "base": (16,), "tiny": (32,)}
_MEMORY_BATCHES: Final = {"paper": (2, 6), "base": (8, 40), "tiny": (16, 144)}
_NETWORK_BATCHES: Final = {64: 16, 128: 16, 224: 8}
# Of the memory that is free, so that the measurement does not drive out what else runs.
_SHARE_OF_MEMORY: Final = 0.6


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        parts: Which parts, in the order in which they run.
        presets: Of the automaton, among ``paper``, ``base``, ``tiny``.
        rounds: How often each thing is measured, at least 1.
        threads: Of PyTorch and the engines, at least 1.
        quick: Take one batch size each and short measurements.

    Raises:
        SettingError: A part or preset is unknown or missing, or a number too small.
    """

    parts: tuple[Part, ...] = PARTS
    presets: tuple[str, ...] = _PRESETS
    rounds: int = 5
    threads: int = 1
    quick: bool = False

    def __post_init__(self) -> None:
        for name, values, known in (("parts", self.parts, PARTS), ("presets", self.presets, _PRESETS)):
            if not values or (odd := [value for value in values if value not in known]):
                raise SettingError(
                    f"{name}: {', '.join(odd) if values else 'none'}; known: {', '.join(known)}"
                )
        for name, value in (("rounds", self.rounds), ("threads", self.threads)):
            if value < 1:
                raise SettingError(f"{name}={value} must be at least 1")

    @property
    def least(self) -> float:
        """Seconds that one measurement lasts at least."""
        return 0.05 if self.quick else 0.25


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bench(plan: Plan) -> Iterator[tuple[Part, list[Row]]]:
    """Measure, and give the rows of each piece as soon as they are there.

    What cannot be measured here is a row with ``left_out``, the reason.
    """
    peaks: dict[str, dict[str, float]] = {}
    pieces: dict[Part, Callable[[], Iterator[list[Row]]]] = {
        "peak": lambda: _peaks(plan, peaks),
        "inference": lambda: _automata(plan, "inference", peaks),
        "training": lambda: _automata(plan, "training", peaks),
        "memory": lambda: _memory(plan),
        "networks": lambda: _networks(plan),
        "scaling": lambda: scaling(plan.rounds, plan.threads, quick=plan.quick),
    }
    with _threads(plan.threads):
        for part in plan.parts:
            for rows in pieces[part]():
                yield part, rows


def _peaks(plan: Plan, peaks: dict[str, dict[str, float]]) -> Iterator[list[Row]]:
    seconds = 0.1 if plan.quick else 1.0
    rows: list[Row] = []
    for precision, kind in _KINDS.items():
        found = {
            "torch": torch_peak(kind, seconds),
            "fused": fused_peak(half=precision != "float32", seconds=seconds),
        }
        peaks[precision] = {name: value for name, value in found.items() if value is not None}
        rows += [
            {"product": name, "precision": precision, "gflops": round(value / 1e9, 1)}
            for name, value in peaks[precision].items()
        ]
    yield rows


def _fits(case: Case, batch: int) -> bool:
    free = available_bytes()
    return free is None or case.bytes_of(batch) < _SHARE_OF_MEMORY * free


def _automata(plan: Plan, task: Task, peaks: dict[str, dict[str, float]]) -> Iterator[list[Row]]:
    for name in plan.presets:
        batches = (_QUICK_BATCHES if plan.quick else _BATCHES)[name]
        rows: dict[str, Row] = {}
        ready: dict[str, tuple[int, Callable[[], None]]] = {}
        for contender in AUTOMATA:
            case = _automaton(contender, name, task)
            rows[contender] = {"preset": name, "contender": contender, "precision": case.precision}
            if reason := missing(contender):
                rows[contender]["left_out"] = reason
                continue
            chosen = best_batch(partial(job, case), batches, partial(_fits, case))
            if chosen is None:
                rows[contender]["left_out"] = "there is not enough memory for one picture"
            else:
                ready[contender] = chosen
        timings = interleaved(
            {contender: work for contender, (_, work) in ready.items()}, rounds=plan.rounds, least=plan.least
        )
        flops = useful_flops(preset(name), task)
        for contender, timing in timings.items():
            row, batch = rows[contender], ready[contender][0]
            row |= _speed(timing, batch)
            if "straightforward" in timings:
                first, size = timings["straightforward"], ready["straightforward"][0]
                row["ratio"] = round(batch / timing.seconds * first.seconds / size, 2)
                row["processor_ratio"] = round(batch / timing.work * first.work / size, 2)
            reached = flops * batch / timing.seconds
            row["gflops"] = round(reached / 1e9, 1)
            for product, peak in peaks.get(row["precision"], {}).items():
                row[f"share_of_{product}_peak"] = round(reached / peak, 3)
        yield list(rows.values())


def _automaton(contender: str, name: str, task: Task) -> Case:
    return Case(contender, name, task, "bfloat16" if contender == "fused" else "float32")


def _speed(timing: Timing, batch: int) -> Row:
    return {
        "batch": batch,
        "cells_per_second": float(f"{batch / timing.seconds:.4g}"),
        "cells_per_processor_second": float(f"{batch / timing.work:.4g}"),
        "rounds": timing.rounds,
    }


def _memory(plan: Plan) -> Iterator[list[Row]]:
    for name in plan.presets:
        for task in get_args(Task):
            rows: list[Row] = []
            cases = [_automaton(contender, name, task) for contender in AUTOMATA]
            if task == "training":
                cases += [replace(case, recompute=True) for case in cases if case.contender == "fused"]
            for case in cases:
                contender = f"{case.contender}, recomputing" if case.recompute else case.contender
                row: Row = {"preset": name, "task": task, "contender": contender, "precision": case.precision}
                rows.append(row)
                batches = _MEMORY_BATCHES[name]
                if reason := missing(case.contender):
                    row["left_out"] = reason
                elif not _fits(case, batches[1]):
                    row["left_out"] = f"there is not enough memory for {batches[1]} pictures"
                else:
                    try:
                        bytes_ = bytes_for_a_picture(case, batches, plan.threads)
                    except MemoryError as error:
                        row["left_out"] = f"a process of {batches[1]} pictures ended: {error}"
                        continue
                    row["megabytes_per_picture"] = float(f"{bytes_ / 1e6:.4g}")
                    first = rows[0].get("megabytes_per_picture")
                    if first and bytes_ > 0:
                        row["ratio"] = round(first * 1e6 / bytes_, 2)
            yield rows


def _networks(plan: Plan) -> Iterator[list[Row]]:
    try:
        require_monai("resnet18")
    except MissingMonaiError as error:
        yield [{"network": name, "left_out": str(error)} for name in BASELINES]
        return
    for size, batch in _NETWORK_BATCHES.items():
        for task in get_args(Task):
            cases = [Case(name, str(size), task, kind) for name in BASELINES for kind in get_args(Precision)]
            batches = dict.fromkeys(cases, batch)
            # Beside the automata that one would take instead.
            for name in plan.presets:
                own = _automaton("fused" if not missing("fused") else "fused_fp32", name, task)
                if name != "paper" and size == 64 and not missing(own.contender):
                    batches[own] = _QUICK_BATCHES[name][0]
            jobs = {case: job(case, count) for case, count in batches.items()}
            timings = interleaved(jobs, rounds=plan.rounds, least=plan.least)
            yield [
                {
                    "network": case.contender if case in cases else f"{case.model} ({case.contender})",
                    "pixels": case.shape.size,
                    "task": task,
                    "precision": case.precision,
                    **_speed(timing, batches[case]),
                }
                for case, timing in timings.items()
            ]
