"""Run the fused engine's tests with its C++ under AddressSanitizer and UndefinedBehaviorSanitizer.

python tools/sanitize_fused.py [arguments of pytest]

Needs GCC. The library is put where the engine looks for it; the tests take it unchanged.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from leukonca.nca.engines.fused import building
from leukonca.nca.engines.fused.levels import level_of_this_machine

TESTS = "tests/nca/engines/test_fused.py"


def main() -> int:
    """Build, test, and return the exit code of pytest."""
    level = level_of_this_machine()
    compiler = os.environ.get("CXX", "g++")
    compiling, linking = building._flags(level)
    sanitizing = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    with tempfile.TemporaryDirectory() as cache:
        library = building._file(Path(cache), level)
        command = [
            compiler,
            *compiling,
            *sanitizing,
            "-fPIC",
            "-shared",
            str(building._SOURCES / "library.cpp"),
            *linking,
            "-o",
            str(library),
        ]
        subprocess.run(command, check=True)
        runtimes = [
            subprocess.run(
                [compiler, f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True
            ).stdout.strip()
            for name in ("asan", "ubsan", "stdc++")
        ]
        environment = {
            **os.environ,
            building.CACHE_VARIABLE: cache,
            "LD_PRELOAD": " ".join(runtimes),
            # Python and PyTorch keep memory to the end on purpose.
            "ASAN_OPTIONS": "detect_leaks=0",
        }
        arguments = [sys.executable, "-m", "pytest", "-q", TESTS, *sys.argv[1:]]
        return subprocess.run(arguments, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
