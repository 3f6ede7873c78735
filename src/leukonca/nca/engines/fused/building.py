"""Builds the engine's C++ once for a machine, and keeps it.

PyTorch's extension loader does the building, in a folder that is made for it and thrown away: its own lock
stays behind when a build is killed, and the next one would wait for it for ever. The finished library is
moved into the cache under a name that holds everything it depends on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from leukonca.nca.engines.fused.levels import Level
from leukonca.nca.engines.fused.library import Library

__all__ = ["CACHE_VARIABLE", "CannotBuildError", "cache_folder", "load_library", "search_path"]

_LOG = logging.getLogger(__name__)

CACHE_VARIABLE: Final = "LEUKONCA_CACHE"
"""Environment variable with the folder for what leukonca builds."""

_SOURCES: Final = Path(__file__).parent
_NAME: Final = "leukonca_fused"
_ROOM: Final = "building-"


class CannotBuildError(Exception):
    """The engine cannot be built or loaded here; the message says why. Never shown as a traceback."""


def cache_folder() -> Path:
    """Return the folder for what is built: ``LEUKONCA_CACHE``, or the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        base = Path("~/Library/Caches")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return base.expanduser() / "leukonca"


def search_path() -> str:
    """Return where programs are looked for: PATH, then the folders into which pip puts them.

    ninja comes with leukonca, but is on PATH only where the environment is activated.
    """
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    folders = [
        os.environ.get("PATH", os.defpath),
        *(sysconfig.get_path("scripts", scheme) for scheme in schemes),
    ]
    return os.pathsep.join(dict.fromkeys(filter(None, folders)))


@contextmanager
def _programs_found() -> Iterator[None]:
    """Let PyTorch's loader, which knows PATH alone, find programs by :func:`search_path`."""
    before = os.environ.get("PATH")
    os.environ["PATH"] = search_path()
    try:
        yield
    finally:
        if before is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = before


def _flags(level: Level) -> tuple[list[str], list[str]]:
    # No -ffast-math: a NaN must stay one. The visibility keeps two builds in one process apart.
    compiling = ["-O3", "-std=c++17", "-fvisibility=hidden", "-w", *level.flags]
    if sys.platform == "linux":
        return [*compiling, "-fopenmp"], ["-fopenmp"]
    return compiling, []


def _file(folder: Path, level: Level) -> Path:
    digest = hashlib.sha256()
    for source in sorted([*_SOURCES.glob("*.h"), *_SOURCES.glob("*.cpp")]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    compiler = os.environ.get("CXX", "")
    for part in (*_flags(level), torch.__version__, platform.machine(), compiler):
        digest.update(repr(part).encode())
    return folder / f"{_NAME}-{level.name}-{digest.hexdigest()[:16]}.so"


@contextmanager
def _only_one(file: Path) -> Iterator[None]:
    """Let one process at a time build; the operating system takes the lock from a killed one."""
    import fcntl

    with file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(folder: Path, level: Level, target: Path) -> None:
    """Build in a folder of its own within ``folder`` and move the library to ``target``."""
    from torch.utils import cpp_extension

    compiling, linking = _flags(level)
    with tempfile.TemporaryDirectory(prefix=_ROOM, dir=folder, ignore_cleanup_errors=True) as room:
        try:
            with warnings.catch_warnings(), _programs_found():
                # About the compiler's version and devices that we do not build for; of no use to a user.
                warnings.simplefilter("ignore")
                cpp_extension.load(
                    _NAME,
                    [str(_SOURCES / "library.cpp")],
                    extra_cflags=compiling,
                    extra_ldflags=linking,
                    build_directory=room,
                    with_cuda=False,
                    is_python_module=False,
                )
        except Exception as error:  # the loader raises whatever the missing or failing tool makes it raise
            raise CannotBuildError(_reason(error)) from error
        built = [file for file in Path(room).iterdir() if file.suffix in (".so", ".pyd", ".dylib")]
        if not built:
            raise CannotBuildError("the build left no library")
        os.replace(built[0], target)


def _reason(error: Exception) -> str:
    """Return the line that tells what is wrong in the many that a failed build writes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    telling = [line for line in lines if "error:" in line or "not found" in line]
    return (telling or lines)[0][:300]


def load_library(level: Level) -> Library:
    """Return the compiled engine for a level, building it where the cache lacks it.

    Raises:
        CannotBuildError: No compiler, no ninja, or the build or its result is broken.
    """
    if sys.platform == "win32":
        raise CannotBuildError("it needs GCC or Clang, and is not built on Windows")
    folder = cache_folder()
    target = _file(folder, level)
    if target.is_file():
        try:
            return Library(target)
        except OSError as error:
            _LOG.info("%s is damaged and built again: %s", target, error)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return _load_uncached(level, error)
    with _only_one(folder / f"{_NAME}.lock"):
        if target.is_file():
            try:
                return Library(target)  # another process built it meanwhile
            except OSError:
                target.unlink(missing_ok=True)
        for left in folder.glob(f"{_ROOM}*"):  # by a build that was killed: this one is the only one now
            shutil.rmtree(left, ignore_errors=True)
        _LOG.info("building the fused engine for %s, once on this machine", level.name)
        start = time.monotonic()
        _build(folder, level, target)
        _LOG.info("built in %.0f s: %s", time.monotonic() - start, target)
    try:
        return Library(target)
    except OSError as error:
        raise CannotBuildError(f"{target} was built and cannot be loaded: {error}") from error


def _load_uncached(level: Level, error: OSError) -> Library:
    _LOG.info(
        "building the fused engine for %s for this process alone: %s cannot be written (%s); set %s to a "
        "folder that can",
        level.name,
        cache_folder(),
        error.strerror or error,
        CACHE_VARIABLE,
    )
    with tempfile.TemporaryDirectory(prefix="leukonca-", ignore_cleanup_errors=True) as room:
        target = _file(Path(room), level)
        _build(Path(room), level, target)
        try:
            return Library(target)  # stays loaded after its file is gone
        except OSError as wrong:
            raise CannotBuildError(f"the engine was built and cannot be loaded: {wrong}") from wrong
