"""What this processor can run: the instruction set that the fused engine is compiled for."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from typing import Final

import torch

__all__ = ["LEVELS", "Level", "capability", "has", "level_of_this_machine"]


@dataclass(frozen=True)
class Level:
    """An instruction set.

    Attributes:
        name: What logs and the cache call it.
        flags: Of GCC and Clang.
        half: Whether it multiplies bf16 natively.
    """

    name: str
    flags: tuple[str, ...] = ()
    half: bool = False


_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512")
LEVELS: Final[dict[str, Level]] = {
    level.name: level
    for level in (
        Level("portable"),
        Level("avx2", ("-mavx2", "-mfma")),
        Level("avx512", _AVX512),
        Level("avx512_bf16", (*_AVX512, "-mavx512bf16"), half=True),
        Level("amx", (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"), half=True),
    )
}


def has(feature: str) -> bool:
    """Return whether the processor has a feature by PyTorch's name for it, such as ``avx512_bf16``."""
    # PyTorch's own probes of the processor; not every version that we support has each.
    probe = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return bool(probe is not None and probe())


def capability() -> str:
    """Return what PyTorch itself uses, AVX512, AVX2 or less; ``ATEN_CPU_CAPABILITY`` can lower it."""
    return torch.backends.cpu.get_cpu_capability()


def _tiles_wanted() -> bool:
    """Whether ``ONEDNN_MAX_CPU_ISA``, with which users keep PyTorch from the tiles, leaves them to us."""
    wanted = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return wanted in ("", "ALL", "DEFAULT") or "AMX" in wanted


def level_of_this_machine() -> Level:
    """Return the highest level that this processor runs and that PyTorch is not told to stay below."""
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform == "win32":
        return LEVELS["portable"]
    if capability() == "AVX512" and has("avx512"):
        if has("amx_tile"):
            # Without their tiles these processors multiply bf16 more slowly than float32.
            return LEVELS["amx" if _tiles_wanted() else "avx512"]
        if has("avx512_bf16"):
            return LEVELS["avx512_bf16"]
        return LEVELS["avx512"]
    if capability() in ("AVX512", "AVX2") and has("avx2"):
        return LEVELS["avx2"]
    return LEVELS["portable"]
