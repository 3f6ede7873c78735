"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
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
