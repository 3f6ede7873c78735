"""Who executes the steps of the automaton.

An engine is a function with the signature of ``eager.rollout``.
"""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from leukonca.errors import SettingError
from leukonca.nca.engines import eager
from leukonca.nca.firing import Firing
from leukonca.nca.rule import Rule

__all__ = ["Engine", "EngineName", "engine"]

EngineName = Literal["auto", "eager"]


class Engine(Protocol):
    """Applies a rule many times; see :func:`leukonca.nca.engines.eager.rollout`."""

    def __call__(  # noqa: D102
        self,
        rule: Rule,
        state: Tensor,
        firing: Firing,
        steps: int,
        *,
        record: frozenset[int] = frozenset(),
        recompute: bool | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]: ...


def engine(name: EngineName = "auto") -> Engine:
    """Return the engine of a name; ``auto`` takes the fastest that this machine can run.

    Raises:
        SettingError: The name is unknown.
    """
    if name in ("auto", "eager"):
        return eager.rollout
    raise SettingError(f"engine {name!r} is unknown; known: auto, eager")
