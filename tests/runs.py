"""Cells and a trained run, so small that the tests of all later rooms share them: made once, then read."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from learning.micro import micro, write_cells
from leukonca.learning.familiarity import Familiarity
from leukonca.learning.run import Run
from leukonca.learning.settings import Settings
from leukonca.learning.trained import TrainedModel
from leukonca.learning.training import train
from leukonca.learning.trust import Trust

PER_CLASS = 10


def settings(**changes: object) -> Settings:
    """So many epochs that the model tells some of the cells apart, and not all."""
    return micro(**{"epochs": 12, "learning_rate": 0.02, "ema": 0.0, **changes})


def flags(**changes: object) -> list[str]:
    """The same settings for the command line, one epoch."""
    chosen = settings(**{"epochs": 1, **changes})
    change = [(f"change.{name}", value) for name, value in vars(chosen.change).items() if value is not None]
    names = ("epochs", "batch", "optimizer", "learning_rate", "ema", "precision")
    words = [*change, *((name, getattr(chosen, name)) for name in names)]
    return [word for name, value in words for word in (f"--{name}", str(value))] + [
        "--fractions",
        str(list(chosen.fractions)),
    ]


@cache
def _home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="leukonca-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


@cache
def cells() -> Path:
    """A folder per class, ten blobs each; nobody may change it."""
    write_cells(_home() / "cells", PER_CLASS)
    return _home() / "cells"


@cache
def run() -> Run:
    """A finished run on :func:`cells`; nobody may write into its folder."""
    return train([f"folder:{cells()}"], _home() / "run", settings())


@cache
def model() -> TrainedModel:
    """The best model of :func:`run`."""
    return run().model()


@cache
def wary() -> TrainedModel:
    """The same model, made to promise what is easily checked: 99 held-out cells, all of them near 0."""
    length = model().network.architecture.channels + model().network.architecture.head_hidden
    familiarity = Familiarity(
        np.eye(length, dtype=np.float32),
        np.zeros((1, length), np.float32),
        np.geomspace(1e-6, 1e6, 99, dtype=np.float32),
    )
    scores = np.linspace(0.01, 0.99, 99, dtype=np.float32)
    return replace(model(), trust=Trust(0.5, scores, familiarity, {"cells": 99}))


def paths(split: str) -> list[str]:
    """The pictures of a part of :func:`run`."""
    frame = run().manifest.frame
    return frame["path"][frame["split"] == split].tolist()


def copy_as(path: str, target: Path) -> str:
    """Write the same pixels in another lossless format, under another name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as picture:
        picture.save(target)
    return str(target)


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave the figures of reports undrawn: nearly all of the time, where they are not what is tested."""
    with mock.patch("leukonca.assessment.report.to_png", return_value=b"figure"):
        yield
