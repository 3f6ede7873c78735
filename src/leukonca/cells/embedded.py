"""Real cells that come with the package, so that everything runs at once after installation.

480 cells of Acevedo-20 at 96 × 96 pixels: of each of the eight classes 40 to train on, 6 to validate and 14
to test with. They are licensed under CC BY 4.0; ``embedded_cells/ATTRIBUTION.md`` says whose they are.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from leukonca.errors import DataError

__all__ = ["embedded_table"]


def embedded_table() -> Path:
    """Return the table of the embedded cells.

    Its columns are ``path`` (beside the table; files keep their names in Acevedo-20), ``label``,
    ``split`` and ``source``.

    It serves wherever a table of one's own does, as ``table:FILE``.

    Raises:
        DataError: The package was installed without them.
    """
    table = Path(str(resources.files("leukonca"))) / "cells" / "embedded_cells" / "cells.csv"
    if not table.is_file():
        raise DataError(f"the embedded cells are missing at {table}; install leukonca again as a wheel")
    return table
