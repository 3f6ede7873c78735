"""The fused engine, built once for all tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from leukonca.nca.engines import fused
from leukonca.nca.engines.fused.building import CACHE_VARIABLE, search_path
from leukonca.nca.engines.fused.library import Library

CACHE = Path(__file__).resolve().parents[3] / "build" / "cache"


@pytest.fixture(scope="session")
def compiled() -> Library:
    """The compiled engine; it stays in ``build/``, so that only the first run of the tests builds it."""
    before = os.environ.get(CACHE_VARIABLE)
    os.environ.setdefault(CACHE_VARIABLE, str(CACHE))
    try:
        fused.status.cache_clear()
        status = fused.status()
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
    if status.library is None:
        if all(shutil.which(tool, path=search_path()) for tool in (os.environ.get("CXX", "c++"), "ninja")):
            pytest.fail(f"the fused engine does not run: {status.reason}")
        pytest.skip(f"the fused engine does not run here: {status.reason}")
    return status.library
