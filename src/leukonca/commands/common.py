"""What several commands share: flags, and how a result is said in a few lines."""

from __future__ import annotations

import math
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from leukonca.errors import DataError, SettingError
from leukonca.learning.settings import AS_PUBLISHED, Settings
from leukonca.writing import require_writable

if TYPE_CHECKING:
    from leukonca.assessment.intervals import Estimate
    from leukonca.assessment.metrics import Metrics

__all__ = [
    "add_data",
    "add_expect",
    "add_model",
    "add_progress",
    "add_settings",
    "add_settle",
    "add_views",
    "headline",
    "require_file",
    "require_folder",
    "settings_of",
    "shows_progress",
]

# What remains to be chosen where everything else is as in the paper.
_BESIDE_PUBLISHED = ("fold", "seed")


def add_data(parser: ArgumentParser, *, required: bool) -> None:
    """Add ``--data SPEC…``."""
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="SPEC",
        required=required,
        help="NAME:PATH, NAME@USE:PATH, folder:DIR, table:FILE or a path; several may be given",
    )


def add_settings(parser: ArgumentParser, *, skip: frozenset[str] = frozenset()) -> None:
    """Add the training settings, ``--config`` and ``--as_published``; see :func:`settings_of`."""
    parser.add_argument(
        "--as_published",
        action="store_true",
        help="the paper's training; of the other settings only "
        f"{' and '.join(name for name in _BESIDE_PUBLISHED if name not in skip)} can then be given",
    )
    parser.add_argument("--config", action="config", help="settings from a YAML file")
    parser.add_class_arguments(Settings, skip=set(skip))


def add_progress(parser: ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")


def add_expect(parser: ArgumentParser) -> None:
    """Add ``--expect SHARES``; :func:`leukonca.assessment.expected.shares_of` reads it."""
    parser.add_argument(
        "--expect",
        type=str,
        metavar="SHARES",
        help="how often types occur among these pictures: blood (usual in adults), or as "
        "neutrophil=60,eosinophil=3,lymphocyte=30; without it, as in training",
    )


def add_settle(parser: ArgumentParser) -> None:
    """Add ``--settle TOLERANCE``."""
    parser.add_argument(
        "--settle",
        type=float,
        metavar="TOLERANCE",
        help="stop a picture, from half of the steps on, where within an eighth of the steps no probability "
        "changed by more than this; without it all steps are taken",
    )


def add_model(parser: ArgumentParser) -> None:
    """Add ``MODEL``."""
    parser.add_argument(
        "model",
        type=str,
        metavar="MODEL",
        help="model file, folder of a training run, or name of a model that comes along (see models)",
    )


def add_views(parser: ArgumentParser) -> None:
    """Add ``--views N``."""
    parser.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="orientations of every picture to average over: 1 (as it is) to 8 (quarter turns and mirror); "
        "else those that the model is calibrated with",
    )


def shows_progress(args: Namespace) -> bool:
    """Whether progress bars are wanted and there is a person to see them."""
    return not args.quiet and sys.stderr.isatty()


def settings_of(args: Namespace) -> Settings:
    """Return the training settings among the arguments.

    Raises:
        SettingError: A value does not fit, or is given where the paper's are asked for.
    """
    given = args.as_dict()
    values = {entry.name: given[entry.name] for entry in fields(Settings) if entry.name in given}
    if not args.as_published:
        return Settings.from_dict(values)
    beside = {name: values.pop(name) for name in _BESIDE_PUBLISHED if name in values}
    others, default = Settings.from_dict(values), Settings()
    changed = [
        name
        for name in values
        if getattr(others, name) not in (getattr(default, name), getattr(AS_PUBLISHED, name))
    ]
    if changed:
        raise SettingError(
            f"--as_published sets everything itself; leave --{' and --'.join(changed)} away (only "
            f"--{' and --'.join(beside)} can be given with it)"
        )
    return replace(AS_PUBLISHED, **beside)


def require_file(flag: str, file: Path) -> None:
    """Find out before the work whether its result can be written to ``file``.

    Raises:
        SettingError: It cannot; the message says why.
    """
    if file.is_dir():
        raise SettingError(f"{flag} {file}: cannot be written: is a folder; name a file")
    try:
        require_writable(file.parent)
    except DataError as error:
        raise SettingError(f"{flag} {file}: {error}") from None


def require_folder(flag: str, folder: str) -> None:
    """Find out before the work whether its results can be written into ``folder``; a missing one is made.

    Raises:
        SettingError: They cannot; the message says why.
    """
    try:
        require_writable(folder)
    except DataError as error:
        raise SettingError(f"{flag} {error}") from None


def headline(metrics: Metrics) -> str:
    """Return the main figures in three lines."""

    def said(name: str, estimate: Estimate) -> str:
        if math.isnan(estimate.low):
            return f"{name} {estimate.value:.3f}"
        return f"{name} {estimate.value:.3f} (95 % interval {estimate.low:.3f} to {estimate.high:.3f})"

    lines = [
        said("accuracy", metrics.accuracy),
        said("macro-F1", metrics.macro_f1),
        said("calibration error", metrics.ece),
    ]
    unread = f", {metrics.unreadable} unreadable" if metrics.unreadable else ""
    return f"{metrics.n} cells{unread}: " + "\n  ".join(lines)
