"""Pictures of cells, before any model: from what a person names to decoded, labelled and checked cells.

Functions that are called like their module are imported from there, so that neither hides the other:
``from leukonca.cells.decode import decode``, and likewise `scan` and `check`.
"""

from __future__ import annotations

from leukonca.cells.decode import content_hash
from leukonca.cells.manifest import Listing, Manifest
from leukonca.cells.report import CheckReport
from leukonca.cells.source import Source, Use, find_source, known_sources, load_source
from leukonca.cells.spec import Spec, parse_spec

__all__ = [
    "CheckReport",
    "Listing",
    "Manifest",
    "Source",
    "Spec",
    "Use",
    "content_hash",
    "find_source",
    "known_sources",
    "load_source",
    "parse_spec",
]
