"""The folder of a training run: all that is needed to resume it, to repeat it and to use its result.

::

    run.json             settings, data, precision, versions; what --resume reads
    cells.csv            the manifest with the split of every cell
    skipped.csv          the files that could not be read, with the reason
    history.csv          one row an epoch
    best.safetensors     the model of the best epoch
    last.safetensors     the model of the last finished epoch
    resume.ckpt          the whole state of the training after the last finished epoch
    tensorboard/         the same history for TensorBoard
    prepared/            decoded pictures; may be deleted
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch

from leukonca._version import __version__
from leukonca.cells.manifest import Manifest
from leukonca.errors import DataError, SettingError
from leukonca.learning.bundle import load_bundle
from leukonca.learning.settings import ArchitectureChanges, Precision, Settings
from leukonca.learning.shapes import BaselineShape, Shape
from leukonca.learning.trained import TrainedModel
from leukonca.nca.engines import auto

__all__ = ["FORMER_PRESETS", "Run", "versions"]

_FORMAT = 1

# What a run did whose note is from before there was a choice.
_BEFORE = {"start": "still", "pooled_norm": "none", "restraint": 0.0, "restraint_bound": 1.0}
FORMER_PRESETS: Final[dict[str, dict[str, Any]]] = {
    "base": {"channels": 48, "hidden": 96, "steps": 16, "firing": 0.5},
    "tiny": {"steps": 12, "firing": 0.5},
}
"""What presets were, where they differ now, while the notes of runs did not name the architecture."""


def versions(shape: Shape | None = None) -> dict[str, Any]:
    """Return what a result may depend on beside data and settings.

    Args:
        shape: Of the network, where there is one: a baseline depends on MONAI instead of an engine.
    """
    baseline = isinstance(shape, BaselineShape)
    packages = ("torch", "lightning", "numpy", "pandas", "pillow", "scikit-learn", "torchmetrics")
    return {
        "leukonca": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": platform.machine(),
        "system": platform.system(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **({"monai": version("monai")} if baseline else {"engine": auto.choose()[0]}),
    }


@dataclass(frozen=True, slots=True)
class Run:
    """A training run on disk.

    Attributes:
        folder: Where it is.
        settings: Its settings.
        data: The SPECs that it was given.
        precision: ``float32`` or ``bfloat16``, which ``auto`` became.
    """

    folder: Path
    settings: Settings
    data: tuple[str, ...]
    precision: Precision

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Open an existing run.

        Raises:
            DataError: It is not the folder of a run, or its note is damaged.
        """
        path = Path(folder) / "run.json"
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{folder}: not the folder of a training run (it has no run.json)") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if not isinstance(note, dict):
            raise DataError(f"{path}: damaged: a table is expected, not {type(note).__name__}")
        if note.get("format") != _FORMAT:
            raise DataError(
                f"{path}: format {note.get('format')!r}, but leukonca {__version__} reads {_FORMAT}"
            )
        try:
            settings = _as_begun({**_BEFORE, **note["settings"]}, note.get("architecture"))
            data = tuple(map(str, note["data"]))
            if note["precision"] not in ("float32", "bfloat16"):
                raise SettingError(f"precision={note['precision']!r} must be float32 or bfloat16")
            return cls(Path(folder), settings, data, note["precision"])
        except KeyError as error:
            raise DataError(f"{path}: damaged: misses {error}") from error
        except (TypeError, ValueError, SettingError) as error:
            raise DataError(f"{path}: damaged: {error}") from error

    def create(self) -> None:
        """Write ``run.json`` into a new folder.

        Raises:
            DataError: The folder already holds something, or cannot be made.
        """
        note = {
            "format": _FORMAT,
            "settings": self.settings.to_dict(),
            "architecture": self.settings.architecture().to_dict(),
            "data": list(self.data),
            "precision": self.precision,
            "versions": versions(self.settings.architecture()),
        }
        try:
            if self.folder.exists() and (not self.folder.is_dir() or _holds_something(self.folder)):
                remedy = "give its folder to --resume to go on, or " if self.is_run(self.folder) else ""
                raise DataError(
                    f"{self.folder}: already exists and is not empty; {remedy}choose another folder"
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = self.folder / "run.json.part"
            unfinished.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
            os.replace(unfinished, self.folder / "run.json")
        except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
            raise DataError(f"{self.folder}: cannot be written: {error}; choose another folder") from error

    @staticmethod
    def is_run(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder holds a run."""
        return (Path(folder) / "run.json").is_file()

    @property
    def manifest(self) -> Manifest:
        """The cells with their split."""
        return Manifest.read(self.folder / "cells.csv")

    @property
    def history(self) -> pd.DataFrame:
        """One row a finished epoch.

        Raises:
            DataError: No epoch has finished yet, or the file is damaged.
        """
        path = self.folder / "history.csv"
        try:
            return pd.read_csv(path)
        except FileNotFoundError:
            raise DataError(f"{self.folder}: no epoch has finished yet (there is no history.csv)") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error

    def model(self, which: str = "best") -> TrainedModel:
        """Return the ``best`` or the ``last`` model.

        Raises:
            ModelError: No epoch has finished yet.
        """
        return load_bundle(self.folder / f"{which}.safetensors")


def _as_begun(values: dict[str, Any], architecture: Any) -> Settings:
    """Return a run's settings, with the architecture that it began with where the preset is another now."""
    settings = Settings.from_dict(values)
    if architecture == settings.architecture().to_dict():
        return settings
    if architecture is None:
        given = {name: value for name, value in asdict(settings.change).items() if value is not None}
        change = {**FORMER_PRESETS.get(settings.preset, {}), **given}
    elif isinstance(architecture, dict):
        change = {entry.name: architecture.get(entry.name) for entry in fields(ArchitectureChanges)}
    else:
        raise SettingError("architecture is not a table")
    return replace(settings, change=ArchitectureChanges(**change))


def _holds_something(folder: Path) -> bool:
    # What a run that was killed at its very first file left behind is nothing.
    return any(entry.name != "run.json.part" for entry in folder.iterdir())
