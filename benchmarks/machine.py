"""What a measurement was made on, to stand beside every figure."""

from __future__ import annotations

from leukonca.assessment.speed.machine import commit, machine

__all__ = ["commit", "machine"]
