"""Every exception that leukonca raises on purpose.

::

    LeukoncaError                 a user can mend it; the command line prints it and exits 2
    ├── PictureError              one picture cannot be read, or is not what it says
    ├── DataError                 a SPEC, a source description, a table, a label or a split is wrong
    ├── SettingError              a setting has a value that it cannot have
    ├── ModelError                a model file is foreign, broken, newer or does not fit
    └── TrainingError             a training run cannot go on
        └── NonFiniteLossError    the loss became NaN or infinite

A message says what, where, the value and the remedy.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "DataError",
    "LeukoncaError",
    "ModelError",
    "NonFiniteLossError",
    "PictureError",
    "SettingError",
    "TrainingError",
]


class LeukoncaError(Exception):
    """Base of all errors that a user of leukonca can mend."""


class PictureError(LeukoncaError):
    """One picture cannot be used.

    Attributes:
        path: The picture, as it was named by the user.
        reason: What is wrong with it and what helps, without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str]]:
        """Survive the way between processes: the default would pass the joined message only."""
        return type(self), (self.path, self.reason)


class DataError(LeukoncaError):
    """A SPEC, a source description, a table, a label or a split is wrong."""


class SettingError(LeukoncaError):
    """A setting has a value that it cannot have."""


class ModelError(LeukoncaError):
    """A model file is foreign, broken, newer than this version, or does not fit its use."""


class TrainingError(LeukoncaError):
    """A training run cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""
