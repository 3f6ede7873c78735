"""What the tests of whole runs share: pictures and a network so small that an epoch takes a blink."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.numpy import load_file
from tqdm import tqdm

from leukonca.learning.settings import ArchitectureChanges, Settings

CLASSES = ("eosinophil", "lymphocyte", "monocyte")
SETTINGS = Settings(
    change=ArchitectureChanges(size=16, patch=2, channels=16, hidden=8, steps=3, firing=0.5, head_hidden=8),
    epochs=3,
    batch=8,
    fractions=(0.6, 0.2, 0.2),
    optimizer="adamw",
    learning_rate=0.02,
    ema=0.5,
    precision="float32",
)
# A server that has imported everything once forks each child in a moment; Windows has none.
_CONTEXT: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
if sys.platform != "win32":
    _CONTEXT.set_forkserver_preload(["leukonca.learning.training"])


def micro(**changes: Any) -> Settings:
    return replace(SETTINGS, **changes)


def picture(seed: int, kind: int = 0, side: int = 20) -> np.ndarray:
    """Return a noisy picture whose colour tells its kind; no two seeds give the same."""
    noise = np.random.default_rng([seed, kind]).integers(0, 90, (side, side, 3))
    noise[..., kind % 3] += 120
    return noise.astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_cells(folder: Path, per_class: int = 10, classes: Sequence[str] = CLASSES) -> str:
    """Write a folder per class and return its SPEC."""
    for kind, name in enumerate(classes):
        for number in range(per_class):
            save(folder / name / f"{number:02}.png", picture(number, kind))
    return f"folder:{folder}"


def weights(folder: Path, which: str = "last") -> dict[str, np.ndarray]:
    """The tensors of a run's model file."""
    return load_file(folder / f"{which}.safetensors")


def history(folder: Path) -> pd.DataFrame:
    """The history without what the clock decides."""
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def assert_same_run(one: Path, other: Path) -> None:
    """Both runs ended with the same history and, bit by bit, with the same weights."""
    pd.testing.assert_frame_equal(history(one), history(other), check_exact=True)
    for which in ("best", "last"):
        expected, found = weights(one, which), weights(other, which)
        assert expected.keys() == found.keys()
        for name, values in expected.items():
            assert values.dtype == found[name].dtype
            np.testing.assert_array_equal(values, found[name], err_msg=f"{which}: {name}")


def _in_child(target: Callable[..., None], *arguments: Any) -> None:
    # Progress bars share a lock between processes; that of a killed child would be reported as lost.
    tqdm.set_lock(threading.RLock())
    target(*arguments)


def start(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a child process that imports ``target`` by name."""
    child = _CONTEXT.Process(target=_in_child, args=(target, *arguments), daemon=True)
    child.start()
    return child


def killed(target: Callable[..., None], *arguments: Any) -> bool:
    """Run a child to its end, and tell whether it was killed."""
    child = start(target, *arguments)
    child.join(60)
    assert child.exitcode is not None, "the child hangs"
    if sys.platform == "win32":
        return bool(child.exitcode)
    assert child.exitcode in (0, -signal.SIGKILL), f"the child failed with {child.exitcode}"
    return child.exitcode == -signal.SIGKILL


def kill_oneself() -> None:
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
