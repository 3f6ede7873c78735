"""The engine for CUDA devices: bf16 products, channels last, compiled steps, checkpointed rollout.

The state is float32 throughout, as in the other engines, and firing is the same hash. Where the steps cannot
be compiled, or compiled give another answer than the definition, they run uncompiled.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import eager
from leukonca.nca.firing import Firing, fires_by_step
from leukonca.nca.rule import Rule

__all__ = ["Status", "rollout", "status"]

_LOG = logging.getLogger(__name__)


def _step(
    state: Tensor,
    by_step: Tensor,
    kernel: Tensor,
    bias: Tensor,
    update: Tensor,
    threshold: int,
    kind: torch.dtype,
) -> Tensor:
    # Firing is within the step, so that its many small operations become a part of the compiled whole.
    fires = fires_by_step(by_step, state.shape[2], state.shape[3], threshold)[:, None]
    around = F.pad(state.to(kind), (1, 1, 1, 1), mode="reflect")
    hidden = F.conv2d(around, kernel.to(kind), bias.to(kind)).relu()
    return state + F.conv2d(hidden, update.to(kind)).float() * fires


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_step, fullgraph=True)


@dataclass(frozen=True)
class Status:
    """How the engine runs on a device.

    Attributes:
        half: Whether products take bf16.
        compiled: Whether the steps are compiled.
        reason: Why they are not; empty where they are.
    """

    half: bool
    compiled: bool
    reason: str = ""


@functools.cache
def status(device: torch.device) -> Status:
    """Compile the steps for a CUDA device, try them, and return how the engine runs. Once a process."""
    with torch.cuda.device(device):
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        wrong = _disagreement(device, half)
    except Exception as error:  # the compiler raises whatever its missing or failing tools make it raise
        wrong = (
            f"the compiler failed: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}"
        )
    if wrong:
        _LOG.info("engine cuda: steps run uncompiled on %s: %s", device, wrong)
    return Status(half, not wrong, wrong)


def _disagreement(device: torch.device, half: bool) -> str:
    """Say how compiled steps differ from the definition on a small rollout; empty where they do not."""
    draw = torch.Generator().manual_seed(0)
    rule = Rule(20, 24, 3)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for parameter in rule.parameters():
            parameter.uniform_(-0.2, 0.2, generator=draw)
        rule = rule.to(device)
        state = torch.randn(2, 20, 9, 17, generator=draw).to(device)
        firing = Firing(1, torch.tensor([2, 3], device=device), 0.5)
        expected, _ = eager.rollout(rule, state, firing, 4)
        kind = torch.bfloat16 if half else torch.float32
        found, _ = _rollout(_compiled(), kind, rule, state, firing, range(4), frozenset(), recompute=False)
    difference = (found - expected).abs().max().item()
    # TensorFloat-32, where a user allows it, has ten bits too.
    return "" if difference < 3e-2 else f"their answer differs by {difference:.2g} on a small example"


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

    Products take bf16 where the device has it; with gradients only under autocast, as in PyTorch.

    Raises:
        SettingError: The state is not on a CUDA device, or is not float32.
    """
    if state.device.type != "cuda" or state.dtype != torch.float32:
        raise SettingError(
            f"the cuda engine takes float32 on a CUDA device, not {state.dtype} on {state.device}; use "
            "engine 'auto' or 'eager'"
        )
    here = status(state.device)
    half = here.half and (not torch.is_grad_enabled() or torch.is_autocast_enabled("cuda"))
    step = _compiled() if here.compiled and not torch.compiler.is_compiling() else _step
    if recompute is None:
        recompute = torch.is_grad_enabled() and eager.too_large_to_store(rule, state, steps)
    kind = torch.bfloat16 if half else torch.float32
    span = range(first, first + steps)
    return _rollout(step, kind, rule, state, firing, span, record, recompute=recompute)


def _rollout(
    step: Callable[..., Tensor],
    kind: torch.dtype,
    rule: Rule,
    state: Tensor,
    firing: Firing,
    steps: range,
    record: frozenset[int],
    *,
    recompute: bool,
) -> tuple[Tensor, dict[int, Tensor]]:
    # The kinds of numbers are ours to choose: an autocast around would round the state's sums as well.
    with torch.autocast(state.device.type, enabled=False):
        kernel, bias = rule.folded()
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        weights = (kernel, bias, rule.visible_update()[:, :, None, None])
        by_step = firing.by_step(firing.keys(), steps)

        def one(state: Tensor, number: int, *weights: Tensor) -> Tensor:
            return step(state, by_step[number - steps.start], *weights, firing.threshold, kind)

        state = state.contiguous(memory_format=torch.channels_last)
        return eager.march(one, state, weights, steps, record, recompute=recompute)
