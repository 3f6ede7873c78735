"""Building and keeping the compiled engine; the compiler is replaced by copying what was built before."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils import cpp_extension

from leukonca.nca.engines import auto, fused
from leukonca.nca.engines.fused import building
from leukonca.nca.engines.fused.building import CACHE_VARIABLE, CannotBuildError, load_library
from leukonca.nca.engines.fused.levels import LEVELS, Level, level_of_this_machine
from leukonca.nca.engines.fused.library import Library

LEVEL = level_of_this_machine()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    yield folder
    if folder.exists():
        folder.chmod(0o755)


class Builder:
    """Stands in for PyTorch's loader: copies a library that was built before, and counts."""

    def __init__(self, finished: Path) -> None:
        self.finished, self.builds = finished, 0

    def __call__(self, name: str, sources: list[str], *, build_directory: str, **options: Any) -> None:
        assert all(Path(source).is_file() for source in sources)
        self.builds += 1
        time.sleep(0.05)
        shutil.copy(self.finished, build_directory)


@pytest.fixture
def builder(compiled: Library, monkeypatch: pytest.MonkeyPatch) -> Builder:
    stand_in = Builder(Path(compiled.file))
    monkeypatch.setattr(cpp_extension, "load", stand_in)
    return stand_in


def test_it_is_built_once_and_leaves_only_the_library(cache: Path, builder: Builder) -> None:
    for _ in range(2):
        assert load_library(LEVEL).pad == 16
    assert builder.builds == 1
    library, lock = sorted(cache.iterdir(), key=lambda file: file.suffix, reverse=True)
    assert (library.suffix, lock.suffix) == (".so", ".lock")
    assert LEVEL.name in library.name


def test_two_at_once_build_once(cache: Path, builder: Builder) -> None:
    threads = [threading.Thread(target=load_library, args=[LEVEL]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.builds == 1


def test_a_killed_build_leaves_nothing_that_disturbs(cache: Path, builder: Builder) -> None:
    half_done = cache / "building-x1"
    half_done.mkdir(parents=True)
    # What PyTorch's own loader waits for, for ever, when its process was killed.
    (half_done / "lock").touch()
    (cache / "leukonca_fused.lock").touch()
    assert load_library(LEVEL).pad == 16
    assert not half_done.exists()


def test_a_damaged_library_is_built_again(cache: Path, builder: Builder) -> None:
    cache.mkdir()
    file = building._file(cache, LEVEL)
    file.write_bytes(b"not a library")
    assert load_library(LEVEL).pad == 16
    assert builder.builds == 1
    assert list(cache.glob("*.so")) == [file]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_without_write_permission(cache: Path, builder: Builder) -> None:
    cache.mkdir()
    cache.chmod(0o555)
    assert load_library(LEVEL).pad == 16
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made(cache: Path, builder: Builder, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.INFO, "leukonca"):
        assert load_library(LEVEL).pad == 16
    assert f"{cache} cannot be written" in caplog.text
    assert CACHE_VARIABLE in caplog.text


def test_another_source_or_level_is_another_library(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_library(LEVEL)
    load_library(LEVELS["portable" if LEVEL.name != "portable" else "avx2"])
    monkeypatch.setenv("CXX", "another-compiler")
    load_library(LEVEL)
    assert builder.builds == 3
    assert len(list(cache.glob("*.so"))) == 3


def test_ninja_is_found_where_pip_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ninja = tmp_path / "ninja"
    ninja.write_text("#!/bin/sh\necho 1.13.2\n")
    ninja.chmod(0o755)
    monkeypatch.setattr(building.sysconfig, "get_path", lambda name, scheme: str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert not cpp_extension.is_ninja_available()
    with building._programs_found():
        assert cpp_extension.is_ninja_available()
    assert os.environ["PATH"] == "/nowhere"
    monkeypatch.delenv("PATH")
    with building._programs_found():
        assert "/usr/bin" in os.environ["PATH"]
    assert "PATH" not in os.environ


def test_without_a_compiler_the_reason_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotBuildError, match=r"[Nn]inja|compiler|not found|No such file"):
        load_library(LEVEL)
    assert list(cache.glob("*.so")) == list(cache.glob("building-*")) == []


def test_without_a_compiler_everything_runs_on_eager(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(auto.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(building, "search_path", lambda: "")
    fused.status.cache_clear()
    try:
        name, why = auto.choose()
    finally:
        fused.status.cache_clear()
    assert name == "eager"
    assert why.startswith("the fused engine does not run here: ")


@pytest.mark.skipif(LEVEL.name == "portable", reason="there is nothing to stay below")
@pytest.mark.parametrize(("capped", "level"), [("default", "portable"), ("avx2", "avx2")])
def test_it_stays_below_what_pytorch_is_told_to_stay_below(capped: str, level: str) -> None:
    code = (
        "from leukonca.nca.engines.fused.levels import level_of_this_machine; "
        "print(level_of_this_machine().name)"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capped}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == level


def test_the_reason_is_one_line_of_the_compilers_many() -> None:
    error = RuntimeError("Error building\n[1/2] c++ -O3 ...\na.cpp:1:1: error: bad thing\nninja: stopped\n")
    assert building._reason(error) == "a.cpp:1:1: error: bad thing"
    assert building._reason(RuntimeError()) == "RuntimeError"


def test_a_library_that_computes_wrong_is_not_used(
    compiled: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "load_library", lambda level: compiled)
    monkeypatch.setattr(Library, "forward", lambda *arguments: None)
    fused.status.cache_clear()
    try:
        status = fused.status()
    finally:
        fused.status.cache_clear()
    assert status.library is None
    assert "differs" in status.reason


@pytest.mark.skipif(not LEVEL.half, reason="this processor does not multiply bf16 natively")
def test_where_matrix_tiles_cannot_be_built_vectors_are_taken(
    compiled: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(level: Level) -> Library:
        if level.name == "amx":
            raise CannotBuildError("unrecognized option -mamx-tile")
        return compiled

    monkeypatch.setattr(fused, "level_of_this_machine", lambda: LEVELS["amx"])
    monkeypatch.setattr(fused, "load_library", load)
    fused.status.cache_clear()
    try:
        status = fused.status()
    finally:
        fused.status.cache_clear()
    assert (status.level.name, status.library) == ("avx512", compiled)


def test_a_foreign_library_is_refused(tmp_path: Path) -> None:
    import _ctypes

    with pytest.raises(OSError, match="leukonca_job_bytes"):
        Library(Path(_ctypes.__file__))


@pytest.mark.skipif(
    not os.environ.get("LEUKONCA_TEST_LEVELS"), reason="set LEUKONCA_TEST_LEVELS to build all"
)
@pytest.mark.parametrize("name", LEVELS)
def test_every_level_that_this_processor_runs(name: str, compiled: Library) -> None:
    order = list(LEVELS)
    if order.index(name) > order.index(LEVEL.name) and not (name == "amx" and LEVEL.half):
        pytest.skip("this processor does not run it")
    assert fused._disagreement(load_library(LEVELS[name]), LEVELS[name]) == ""
