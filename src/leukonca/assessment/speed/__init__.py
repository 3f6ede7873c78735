"""How fast the automaton runs on the machine at hand, beside what else one could take."""

from __future__ import annotations

__all__: list[str] = []
