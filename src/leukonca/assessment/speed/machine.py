"""What a measurement was made on, to stand beside every figure."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from leukonca.learning.run import versions

__all__ = ["commit", "machine"]


def machine() -> dict[str, Any]:
    """Return versions, processor, and the commit where the package lies in a checkout."""
    told = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    wanted = ("cpu_name", "avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    return {
        **versions(),
        "processor": {name: told.get(name) for name in wanted} if told else platform.processor(),
        "commit": commit(),
    }


def commit() -> str:
    """Return the commit of the checkout, with a mark where it was changed; ``unknown`` elsewhere."""
    root = Path(__file__).resolve().parents[4]
    if not (root / ".git").exists():
        return "unknown"
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"
