"""The mistakes worth looking at: where a model was sure and wrong."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from leukonca.assessment.prediction import Predictions
from leukonca.errors import LeukoncaError

__all__ = ["Mistake", "data_uri", "file_name", "thumbnail", "worst_mistakes"]

_log = logging.getLogger(__name__)

_SIDE = 192  # pixels of a thumbnail: twice its size on the page, for sharp prints


@dataclass(frozen=True, slots=True)
class Mistake:
    """One cell that was called by a wrong name.

    Attributes:
        path: The file.
        truth: Its true class.
        predicted: What the model called it.
        probability: How sure the model was of that, 0–1.
        own: The probability that it gave to the true class, 0–1.
    """

    path: str
    truth: str
    predicted: str
    probability: float
    own: float


def worst_mistakes(predictions: Predictions, truth: Sequence[str], limit: int = 24) -> list[Mistake]:
    """Return the mistakes that the model was surest of, the surest first; ties in the order of the files.

    Args:
        predictions: What the model said of N cells.
        truth: N true classes, ``""`` where unknown; those are no mistakes.
        limit: The greatest number of mistakes to return.
    """
    labels, sure = predictions.labels, predictions.confidence
    wrong = [row for row, label in enumerate(labels) if label and truth[row] and label != truth[row]]
    wrong.sort(key=lambda row: -sure[row])
    column = {name: index for index, name in enumerate(predictions.classes)}
    return [
        Mistake(
            path=predictions.paths[row],
            truth=truth[row],
            predicted=labels[row],
            probability=float(sure[row]),
            own=float(predictions.probabilities[row, column[truth[row]]]),
        )
        for row in wrong[:limit]
    ]


def thumbnail(path: str, load_picture: Callable[[str], npt.NDArray[np.uint8]]) -> str | None:
    """Return a small JPEG of a cell as a data URI, or ``None`` where its picture is not to be had any more.

    Args:
        path: The file.
        load_picture: Gives the picture of a file, uint8 [H, W, 3] RGB.
    """
    try:
        image = Image.fromarray(load_picture(path))
    except (LeukoncaError, OSError) as error:
        # The report is about the predictions; it does not fail because a folder was moved meanwhile.
        _log.warning("no picture of %s in the report: %s", path, error)
        return None
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """Return ``data`` as a URI that holds it whole."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def file_name(path: str) -> str:
    """Return the last part of a path, of ``FILE.npz::MEMBER/INDEX`` the file with its member."""
    file, separator, member = path.partition("::")
    return PurePath(file).name + separator + member
