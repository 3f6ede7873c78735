"""Peak memory for a picture: each measurement in a process of its own, at two batch sizes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from leukonca.assessment.speed.contenders import Case, job

__all__ = ["available_bytes", "bytes_for_a_picture", "peak_bytes"]

_CHILD: Final = "from leukonca.assessment.speed.memory import _measure; _measure()"


def available_bytes() -> int | None:
    """Return how much memory processes can still get; ``None`` where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def _own_peak() -> int:
    """Return the most memory that this process held at once.

    A child's ``ru_maxrss`` begins on Linux with that of the process that started it, which may be large.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def _measure() -> None:
    """Run what is described on standard input, twice, and write the peak to standard output."""
    told = json.load(sys.stdin)
    work = job(Case(**told["case"]), told["batch"])
    for _ in range(2):
        work()
    sys.stdout.write(json.dumps({"peak": _own_peak()}))


def peak_bytes(case: Case, batch: int, threads: int) -> int:
    """Return the peak memory of a process that does nothing but a case.

    Raises:
        MemoryError: The process ended without an answer: most likely it got no memory.
    """
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps({"case": asdict(case), "batch": batch}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise MemoryError(said[-1] if said else f"exit code {done.returncode}")
    peak: int = json.loads(done.stdout)["peak"]
    return peak


def bytes_for_a_picture(case: Case, batches: tuple[int, int], threads: int) -> float:
    """Return by how much the peak rises for each picture more: what the process takes anyway falls out.

    Raises:
        MemoryError: See :func:`peak_bytes`.
    """
    few, many = (peak_bytes(case, batch, threads) for batch in batches)
    return (many - few) / (batches[1] - batches[0])
