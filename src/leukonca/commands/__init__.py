"""The command line: one short file a command, no logic that the library lacks."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType

from jsonargparse import ArgumentError, ArgumentParser
from tqdm import tqdm

from leukonca._version import __version__
from leukonca.commands import (
    adapt,
    bench,
    calibrate,
    classify,
    crossval,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    explain_check,
    import_published,
    index,
    models,
    probe,
    segment,
    sources,
    train,
)
from leukonca.errors import LeukoncaError

__all__ = ["main"]

_COMMANDS: dict[str, ModuleType] = {
    "train": train,
    "evaluate": evaluate,
    "crossval": crossval,
    "classify": classify,
    "segment": segment,
    "explain": explain,
    "explain-check": explain_check,
    "probe": probe,
    "index": index,
    "calibrate": calibrate,
    "adapt": adapt,
    "data": data,
    "models": models,
    "sources": sources,
    "import-published": import_published,
    "demo": demo,
    "doctor": doctor,
    "bench": bench,
}
_WRONG_USE = 2
_NO_MEMORY = re.compile("can't allocate memory|out of memory")
_INTERRUPTED = 130


class _BesideBars(logging.Handler):
    """Writes log lines to stderr without tearing progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="leukonca",
        description="Train, test and use neural cellular automata that tell white blood cells apart. "
        "For research; not a medical device.",
        version=__version__,
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND")
    for name, module in _COMMANDS.items():
        command = module.parser()
        # Else --fold 1 would be taken for --folds 1 where there is no --fold.
        command.allow_abbrev = False
        commands.add_subcommand(name, command, help=module.HELP)
    return parser


def _with_underscores(word: str) -> str:
    # Settings are named as in Python; people type --learning-rate as often as --learning_rate.
    return re.sub("^--[^=]+", lambda flag: "--" + flag[0][2:].replace("-", "_"), word)


def _wrong_use(error: ArgumentError, words: Sequence[str]) -> str:
    """Return what is wrong with the words of a command line, in one line."""
    said = " ".join(str(error).split())
    said = re.sub('^Parser key "([^"]+)":', r"--\1:", said)
    command = next((word for word in words if word in _COMMANDS), None)
    if command and said.startswith("the following arguments are required:"):
        said = said.replace(f" {command}.", " ")
    return f"{said} (see: leukonca {f'{command} ' if command else ''}--help)"


def _out_of_memory(error: Exception) -> str:
    asked = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
    size = f" for {asked[1]}" if asked else ""
    return (
        f"there is not enough memory{size}; end other programs, or take a smaller batch (train: --batch) or "
        "a smaller preset"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after the program's name; by default those that the process was started with.

    Returns:
        0: done. 1: done, but something was wrong with the data (unreadable files, a failed check). 2: wrong
        use or unusable input, said in one line. 130: interrupted.

    Raises:
        SystemExit: Help, the version or a configuration was asked for, and is written.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # An old terminal that cannot show a character must not end a long run.
            stream.reconfigure(errors="backslashreplace")
    handler = _BesideBars()
    log = logging.getLogger("leukonca")
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    words = [_with_underscores(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        parsed = _parser().parse_args(words)
        code: int = _COMMANDS[parsed.command].run(parsed[parsed.command])
        # A closed pipe (| head) shows only when the last lines leave.
        sys.stdout.flush()
    except LeukoncaError as error:
        print(f"leukonca: {error}", file=sys.stderr)
        return _WRONG_USE
    except ArgumentError as error:
        print(f"leukonca: {_wrong_use(error, words)}", file=sys.stderr)
        return _WRONG_USE
    except KeyboardInterrupt as error:
        print(f"leukonca: interrupted{f'; {error}' if str(error) else ''}", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MemoryError, RuntimeError) as error:
        # PyTorch has an exception of its own for a GPU only; on the processor it raises the general one.
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        print(f"leukonca: {_out_of_memory(error)}", file=sys.stderr)
        return _WRONG_USE
    except OSError as error:
        # A full disk, a lost network drive: nothing that a traceback would explain better.
        print(f"leukonca: {error}", file=sys.stderr)
        return _WRONG_USE
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return code
