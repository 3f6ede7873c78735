"""Who executes the steps of the automaton.

An engine is a function with the signature of ``eager.rollout``.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import auto, cuda, eager, fused
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

__all__ = ["Engine", "EngineName", "engine"]

EngineName = Literal["auto", "eager", "fused", "fused_fp32", "cuda"]


class Engine(Protocol):
    """Applies a rule many times; see :func:`leukonca.nca.engines.eager.rollout`."""

    def __call__(  # noqa: D102
        self,
        rule: Rule,
        state: Tensor,
        firing: Firing,
        steps: int,
        *,
        first: int = 0,
        record: frozenset[int] = frozenset(),
        recompute: bool | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]: ...


_ENGINES: Final[dict[str, Engine]] = {
    "auto": auto.rollout,
    "eager": eager.rollout,
    "fused": fused.rollout,
    "fused_fp32": fused.exact_rollout,
    "cuda": cuda.rollout,
}


def engine(name: EngineName = "auto") -> Engine:
    """Return the engine of a name.

    ``eager`` is the definition, on any device. ``fused`` is compiled for the processor at hand and multiplies
    bf16 where that has it, ``fused_fp32`` always float32. ``cuda`` runs on CUDA devices. ``auto`` takes the
    fastest that can run.

    Raises:
        SettingError: The name is unknown.
    """
    try:
        return _ENGINES[name]
    except KeyError:
        raise SettingError(f"engine {name!r} is unknown; known: {', '.join(_ENGINES)}") from None
