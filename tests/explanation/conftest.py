"""Independent implementations to compare with, where they are installed."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest


def foreign(name: str) -> Any:
    """Import a package for comparison; zennit also without torchvision.

    zennit imports its canonizers of torchvision's networks on the way, which nothing here needs. quantus
    imports zennit where that is installed.
    """
    if find_spec(name) is None:
        pytest.skip(f"needs {name} to compare with, which is not installed")
    if find_spec("torchvision") is None:
        sys.modules.setdefault("zennit.torchvision", ModuleType("zennit.torchvision"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@pytest.fixture(scope="session")
def zennit() -> Any:
    return foreign("zennit")


@pytest.fixture(scope="session")
def captum() -> Any:
    foreign("captum")
    return foreign("captum.attr")


@pytest.fixture(scope="session")
def quantus() -> Any:
    return foreign("quantus")
