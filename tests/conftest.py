"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests run on the definition of the automaton, without building anything; those of the fused engine name it.
os.environ.setdefault("LEUKONCA_ENGINE", "eager")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real cell images beside the project; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real cell images at {SHARED_DATA}, which are not here")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _threads_stay_as_they_were() -> Iterator[None]:
    """Sums depend on the number of threads in their last bits, and tests compare bits across processes."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if torch and torch.get_num_threads() != before:
        torch.set_num_threads(before)
