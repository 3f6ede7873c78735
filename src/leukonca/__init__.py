"""Neural cellular automata that tell white blood cells apart."""

from __future__ import annotations

from leukonca._version import __version__

__all__ = ["__version__"]
