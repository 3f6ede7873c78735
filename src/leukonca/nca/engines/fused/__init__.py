"""The fused engine: whole rollouts in C++ on the processor, computing only the sites that fire.

It is built on first use (a C++ compiler is needed) and kept; see :mod:`.building`. The state is
float32 throughout. Products take bf16 numbers with float32 sums where the processor multiplies bf16 natively,
and float32 otherwise. For the backward pass only the hidden layer of the firing sites is kept, and the steps
are undone from it, which needs a few hundredths of the memory of stored activations.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import eager
from leukonca.nca.engines.fused.building import CannotBuildError, load_library
from leukonca.nca.engines.fused.levels import LEVELS, Level, level_of_this_machine
from leukonca.nca.engines.fused.library import Library
from leukonca.nca.engines.fused.running import Span, Weights, run
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

__all__ = ["Status", "exact_rollout", "rollout", "serves", "status"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """Whether the engine runs here.

    Attributes:
        level: The instruction set that it is compiled for.
        library: The compiled engine; ``None`` where it does not run.
        reason: Why it does not run; empty where it does.
    """

    level: Level
    library: Library | None = None
    reason: str = ""


@functools.cache
def status() -> Status:
    """Build or load the engine, try it, and return whether it runs. Done once a process."""
    level = level_of_this_machine()
    found = _status_of(level)
    if found.library is None and level.name == "amx":
        # Not every compiler knows matrix tiles; all that get so far know the vectors.
        vectors = _status_of(LEVELS["avx512"])
        if vectors.library is not None:
            _LOG.info("the fused engine does without matrix tiles: %s", found.reason)
            return vectors
    return found


def _status_of(level: Level) -> Status:
    try:
        library = load_library(level)
    except (CannotBuildError, OSError) as error:
        return Status(level, reason=str(error))
    if wrong := _disagreement(library, level):
        return Status(level, reason=wrong)
    return Status(level, library)


def _disagreement(library: Library, level: Level) -> str:
    """Say how the engine differs from the definition on a small rollout; empty where it does not.

    Guards against a compiler's or a library's fault: a wrong answer would be worse than a slow one.
    """
    draw = torch.Generator().manual_seed(0)
    rule = Rule(20, 24, 3)
    # The first use may be within a training step: its autocast must not round the definition's answer.
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for parameter in rule.parameters():
            parameter.uniform_(-0.2, 0.2, generator=draw)
        state = torch.randn(2, 20, 9, 17, generator=draw)
        firing = Firing(1, torch.tensor([2, 3]), 0.5)
        expected, _ = eager.rollout(rule, state, firing, 4)
        for half, tolerance in ((False, 1e-4), (True, 3e-2)):
            if half and not level.half:
                continue
            found, _ = _rollout(library, half, rule, state, firing, range(4), frozenset())
            difference = (found - expected).abs().max().item()
            if not difference < tolerance:
                return f"its answer differs by {difference:.2g} from the eager engine's on a small example"
    return ""


def serves(rule: Rule, state: Tensor) -> str:
    """Say why the engine cannot take a state; empty where it can. Says nothing about the machine."""
    if state.device.type != "cpu" or rule.update_weight.device.type != "cpu":
        return f"it runs on the processor, and the state is on {state.device}"
    if state.dtype != torch.float32 or rule.update_weight.dtype != torch.float32:
        return f"it takes float32, not {state.dtype} with weights of {rule.update_weight.dtype}"
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or torch.compiler.is_compiling():
        return "it cannot be traced or exported"
    if state.dim() != 4 or min(state.shape[2:]) < 2:
        return f"it takes states [B, C, H, W] with at least 2 rows and columns, not {list(state.shape)}"
    return ""


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

    Products take bf16 where the processor has them; with gradients only under autocast, as in PyTorch.
    A NaN of the state spreads only to sites that fire. With ``recompute`` most steps are run again in the
    backward pass, which needs less memory still; ``None``: where their hidden layers would take more than
    about 1 GB.

    Raises:
        SettingError: The engine does not run on this machine, or does not take this state.
    """
    return _checked(rule, state, firing, range(first, first + steps), record, recompute, exact=False)


def exact_rollout(
    rule: Rule,
    state: Tensor,
    firing: Firing,
    steps: int,
    *,
    first: int = 0,
    record: frozenset[int] = frozenset(),
    recompute: bool | None = None,
) -> tuple[Tensor, dict[int, Tensor]]:
    """As :func:`rollout`, with products in float32."""
    return _checked(rule, state, firing, range(first, first + steps), record, recompute, exact=True)


def _checked(
    rule: Rule,
    state: Tensor,
    firing: Firing,
    steps: range,
    record: frozenset[int],
    recompute: bool | None,
    *,
    exact: bool,
) -> tuple[Tensor, dict[int, Tensor]]:
    if reason := serves(rule, state):
        raise SettingError(f"the fused engine cannot run this: {reason}; use engine 'auto' or 'eager'")
    here = status()
    if here.library is None:
        raise SettingError(
            f"the fused engine does not run on this machine: {here.reason}; use engine 'auto' or 'eager', or "
            "see what `leukonca doctor` says"
        )
    half = here.level.half and not exact
    if torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
        half = False
    return _rollout(here.library, half, rule, state, firing, steps, record, recompute)


def _rollout(
    library: Library,
    half: bool,
    rule: Rule,
    state: Tensor,
    firing: Firing,
    steps: range,
    record: frozenset[int],
    recompute: bool | None = None,
) -> tuple[Tensor, dict[int, Tensor]]:
    if firing.images.numel() != len(state):
        raise SettingError(
            f"{firing.images.numel()} image identities do not fit {len(state)} states; give each one"
        )
    weights = Weights.of(rule, library)
    keys = firing.keys().contiguous()
    kept = {steps.start: state} if steps.start in record else {}
    stops = {stop for stop in (steps.stop, *record) if steps.start < stop <= steps.stop}
    for first, last in pairwise([steps.start, *sorted(stops)]):
        span = Span(library, half, keys, firing.threshold, first, last)
        state = run(span, state, weights, recompute=recompute)
        if last in record:
            kept[last] = state
    return state, kept
