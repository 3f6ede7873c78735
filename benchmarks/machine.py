"""What a measurement was made on, to stand beside every figure."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from leukonca.learning.run import versions


def machine() -> dict[str, Any]:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    wanted = ("cpu_name", "avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    return {
        **versions(),
        "processor": {name: capabilities.get(name) for name in wanted} or platform.processor(),
        "commit": commit(),
    }


def commit() -> str:
    """The commit of the checkout, with a mark where it was changed."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
