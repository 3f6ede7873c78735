"""``leukonca doctor``: what this machine runs the automaton with, and why."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Final

from jsonargparse import ArgumentParser, Namespace

__all__ = ["HELP", "parser", "run"]

HELP: Final = "say which engine runs here and why"
_FEATURES: Final = {
    "avx2": "AVX2",
    "avx512": "AVX-512",
    "avx512_bf16": "AVX-512 BF16",
    "amx_tile": "AMX",
}


def parser() -> ArgumentParser:
    """Return the parser of this command."""
    return ArgumentParser(
        description="Say which engine runs the automaton on this machine and why, with versions and what the "
        "processor can do. Builds the fused engine where that was not done yet, which takes a minute at most "
        "on most machines. Send what it prints along with a report of a fault."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _found(program: str) -> str:
    from leukonca.nca.engines.fused.building import search_path

    return shutil.which(program, path=search_path()) or f"{program}: not found"


def run(args: Namespace) -> int:
    """Run the command."""
    import torch

    from leukonca._version import __version__
    from leukonca.nca.engines import auto, cuda, fused
    from leukonca.nca.engines.fused.building import cache_folder
    from leukonca.nca.engines.fused.levels import capability, has

    name, why = auto.choose()
    status = fused.status()
    features = [shown for feature, shown in _FEATURES.items() if has(feature)]
    if status.library is None:
        compiled = f"does not run: {status.reason}"
    else:
        parts = [f"{32 * status.library.width}-bit vectors"]
        parts.append("bf16 and float32 products" if status.level.half else "float32 products")
        parts += ["matrix tiles"] * status.library.tiles
        parts.append("threads by OpenMP" if status.library.threaded else "one thread (no OpenMP)")
        compiled = f"runs, compiled for {status.level.name}: {', '.join(parts)}"
    facts = {
        "leukonca": f"{__version__}, Python {platform.python_version()}, PyTorch {torch.__version__}",
        "system": platform.platform(),
        "processor": f"{_processor()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads for PyTorch",
        "features": f"{', '.join(features) or 'none of those used'}; PyTorch uses {capability()}",
        "CUDA device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "compiler": _found(os.environ.get("CXX", "c++")),
        "ninja": _found("ninja"),
        "cache": str(cache_folder()),
        "fused engine": compiled,
        "auto takes": f"{name} ({why})",
    }
    if torch.cuda.is_available():
        there = cuda.status(torch.device("cuda", torch.cuda.current_device()))
        products = "bf16 and float32 products" if there.half else "float32 products"
        steps = "compiled steps" if there.compiled else f"uncompiled steps: {there.reason}"
        facts["on CUDA"] = f"cuda ({products}, {steps})"
    sys.stdout.write("".join(f"{fact + ':':14}{value}\n" for fact, value in facts.items()))
    if status.library is None:
        sys.stdout.write(
            "\nEverything works on the eager engine too, more slowly. The fused one needs a C++ compiler "
            "(GCC or Clang)\nand ninja (pip install ninja); install what is not found, then run "
            "`leukonca doctor` again.\n"
        )
    return 0
