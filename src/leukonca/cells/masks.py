"""Where an image set keeps the outlines of its cells, as its description says in the table ``[masks]``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from leukonca.cells.decode import decode
from leukonca.cells.fields import Fields
from leukonca.errors import PictureError

__all__ = ["PARTS", "Masks", "read_masks"]

PARTS: Final = ("cell", "nucleus")
"""What a mask may outline."""


@dataclass(frozen=True, slots=True)
class Masks:
    """How the file of a mask follows from that of its picture, and what its grey levels mean.

    Attributes:
        file: The mask's file, seen from the folder of the picture; ``{stem}`` is the picture's name without
            its suffix.
        above: By part (`PARTS`), the grey level above which a pixel belongs to it, 0-254.
    """

    file: str
    above: dict[str, int]

    def of(self, picture: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Return the masks of a picture by part, bool [H, W] each.

        Args:
            picture: Its file.

        Raises:
            PictureError: The mask is missing or cannot be read.
        """
        path = Path(picture)
        file = Path(os.path.normpath(path.parent / self.file.replace("{stem}", path.stem)))
        if not file.is_file():
            raise PictureError(picture, f"has no mask {file}; take the image set with its masks")
        # Grey pictures are decoded to three equal channels.
        grey = decode(file)[..., 0]
        return {part: grey > level for part, level in self.above.items()}


def read_masks(file: str, values: object) -> Masks:
    """Read the table ``[masks]`` of a description.

    Args:
        file: The description, for messages.
        values: The table.

    Raises:
        DataError: A key is missing, unknown or of the wrong kind.
    """
    fields = Fields(file, "masks", values, ("file", *PARTS))
    name = fields.text("file")
    if "{stem}" not in name:
        raise fields.error(f"file {name!r} would be one mask for all pictures; put {{stem}} into it")
    above = {part: level for part in PARTS if (level := fields.number(part)) is not None}
    if "cell" not in above or max(above.values()) > 254:
        raise fields.error("says with cell = N above which grey level a pixel is the cell's, 0 to 254")
    return Masks(name, above)
