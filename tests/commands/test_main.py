from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leukonca import __version__
from leukonca.commands import main, sources
from leukonca.errors import DataError

PROGRAM = [sys.executable, "-m", "leukonca"]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr: one line by leukonca, with nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("leukonca: ")
    assert err.count("\n") == 1
    return err.removeprefix("leukonca: ")


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(sources, "run", run)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"leukonca {__version__}\n"


@pytest.mark.parametrize(
    "command",
    ["train", "evaluate", "crossval", "classify", "data", "sources", "import-published", "demo", "bench"],
)
def test_every_command_has_help_and_is_in_the_overview(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--help"], [command, "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.count(command) >= 2
    assert "not a medical device" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "it was not provided. (see: leukonca --help)"),
        (["clasify"], "invalid choice: 'clasify' (choose from 'train', 'evaluate'"),
        (["--bogus"], "unrecognized arguments: --bogus (see: leukonca --help)"),
        (["classify"], "required: model, paths (see: leukonca classify --help)"),
        (["classify", "m", "p", "--bogus=3"], "--bogus=3 (see: leukonca classify --help)"),
        (["classify", "m", "p", "--seeds", "few"], "--seeds: Expected a <class 'int'>. Got value: few"),
        (["evaluate", "m", "--split", "tset"], "argument --split: invalid choice: 'tset'"),
        (["import-published", "m"], "required: out (see: leukonca import-published --help)"),
    ],
)
def test_wrong_use_is_said_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in one_line(capsys)


def test_an_error_of_the_user_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(DataError("cells.csv: is empty; fill it"), monkeypatch)
    assert main(["sources"]) == 2
    assert one_line(capsys) == "cells.csv: is empty; fill it\n"


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.csv"), monkeypatch)
    assert main(["sources"]) == 2
    assert "out.csv" in one_line(capsys)


def test_an_interruption_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(KeyboardInterrupt(), monkeypatch)
    assert main(["sources"]) == 130
    assert one_line(capsys) == "interrupted\n"
    raising(KeyboardInterrupt("3 of 4 are done"), monkeypatch)
    assert main(["sources"]) == 130
    assert one_line(capsys) == "interrupted; 3 of 4 are done\n"


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (MemoryError(), ""),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:129] . DefaultCPUAllocator: can't allocate memory: you tried "
                "to allocate 274877906944 bytes. Error code 12 (Cannot allocate memory)"
            ),
            " for 274877906944 bytes",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), " for 2.00 GiB"),
    ],
)
def test_too_little_memory_is_one_line(
    error: Exception, size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error, monkeypatch)
    assert main(["sources"]) == 2
    assert one_line(capsys).startswith(
        f"there is not enough memory{size}; end other programs, or take a smaller"
    )


def test_an_error_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(ZeroDivisionError(), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(["sources"])


def test_the_library_reports_on_stderr_while_a_command_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child, log = logging.getLogger("leukonca.learning.training"), logging.getLogger("leukonca")
    # A logger remembers what it need not say; being asked before must not make it silent.
    assert not child.isEnabledFor(logging.INFO)
    before = (log.level, list(log.handlers))

    def run(_: object) -> int:
        child.info("epoch %d", 1)
        child.debug("detail")
        return 0

    monkeypatch.setattr(sources, "run", run)
    assert main(["sources"]) == 0
    assert capsys.readouterr() == ("", "epoch 1\n")
    assert (log.level, log.handlers) == before


def test_dashes_and_underscores_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for flag in ("--learning-rate", "--learning_rate"):
        for words in ([flag, "2"], [f"{flag}=2"]):
            assert main(["train", "--data", "x", "--out", "y", *words]) == 2
            said.append(one_line(capsys))
    assert said == ["learning_rate=2.0 must be in (0, 1)\n"] * 4


@pytest.mark.parametrize("flag", ["--epoch", "--learn", "--change.step", "--qu"])
def test_a_part_of_a_name_is_not_enough(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "x", "--out", "y", flag, "1"]) == 2
    assert f"unrecognized arguments: {flag}" in one_line(capsys)


def test_dashes_in_values_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "no-such-model", "a-picture.png", "--out=my-table.txt"]) == 2
    assert "--out my-table.txt" in one_line(capsys)
    assert main(["classify", "no-such-model", "a-picture.png"]) == 2
    assert one_line(capsys).startswith("no-such-model: no such model file, and none of that name comes")


def test_the_arguments_of_the_process_are_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["leukonca", "sources", "bogus"])
    assert main() == 2
    assert "unknown image set 'bogus'" in one_line(capsys)
    assert main([]) == 2
    assert "not provided" in one_line(capsys)


def test_a_closed_pipe_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([*PROGRAM, "sources"], stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_program_starts_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from leukonca.commands import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "main(['classify', 'no-model', 'x.png', '--out', 'table.txt'])\n"
        "sys.exit(1 if {'torch', 'lightning', 'matplotlib'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())


def test_an_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "data", "check", str(tmp_path / "none")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
