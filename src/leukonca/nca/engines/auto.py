"""The engine that is taken where none is named: the fastest that runs here."""

from __future__ import annotations

import functools
import logging
import os
from typing import Final

import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import cuda, eager, fused
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

__all__ = ["VARIABLE", "choose", "rollout"]

_LOG = logging.getLogger(__name__)

VARIABLE: Final = "LEUKONCA_ENGINE"
"""Environment variable that names the engine to take instead: ``eager``, ``fused`` or ``fused_fp32``.

For states on a CUDA device only ``eager`` means anything."""


def choose() -> tuple[str, str]:
    """Return the name of the engine that this machine takes for states on its processor, and why.

    Builds the fused engine where it was not built yet.

    Raises:
        SettingError: ``LEUKONCA_ENGINE`` names none.
    """
    named = os.environ.get(VARIABLE, "")
    if named in ("eager", "fused", "fused_fp32"):
        return named, f"{VARIABLE}={named}"
    if named not in ("", "auto"):
        raise SettingError(f"{VARIABLE}={named!r} is unknown; known: auto, eager, fused, fused_fp32")
    status = fused.status()
    if status.library is None:
        return "eager", f"the fused engine does not run here: {status.reason}"
    products = "bf16" if status.level.half else "float32"
    return "fused", f"compiled for {status.level.name}, products in {products}"


@functools.cache
def _say_once(name: str, why: str) -> None:
    _LOG.info("engine: %s (%s)", name, why)


def rollout(
    rule: Rule,
    state: Tensor,
    firing: Firing,
    steps: int,
    *,
    first: int = 0,
    record: frozenset[int] = frozenset(),
    recompute: bool | None = None,
) -> tuple[Tensor, dict[int, Tensor]]:
    """Apply the rule ``steps`` times; see :func:`leukonca.nca.engines.eager.rollout`.

    Takes the fused engine for float32 on the processor, where that can be built; the cuda engine for float32
    on a CUDA device; eager otherwise.
    """
    run = eager.rollout
    if state.device.type == "cuda" and state.dtype == torch.float32:
        if os.environ.get(VARIABLE) != "eager":
            _say_once("cuda", f"the state is on {torch.cuda.get_device_name(state.device)}")
            run = cuda.rollout
    elif not fused.serves(rule, state):
        name, why = choose()
        _say_once(name, why)
        run = {"eager": eager.rollout, "fused": fused.rollout, "fused_fp32": fused.exact_rollout}[name]
    return run(rule, state, firing, steps, first=first, record=record, recompute=recompute)
