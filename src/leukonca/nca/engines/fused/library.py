"""The compiled engine's functions as Python sees them; the other side is ``library.cpp``."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["Job", "Library"]

_COUNTS = ("batch", "rows", "columns", "channels", "hidden", "first", "last", "threads")
_ADDRESSES = (
    "keys",
    "state",
    "filters",
    "hidden_weight",
    "hidden_bias",
    "update",
    "tape",
    "tape_starts",
    "gradient",
    "filters_gradient",
    "hidden_weight_gradient",
    "hidden_bias_gradient",
    "update_gradient",
)


class Job(ctypes.Structure):
    """One call, field by field as ``Job`` in ``grid.h``, which says what each is."""

    _fields_ = (
        *((name, ctypes.c_int) for name in _COUNTS),
        ("threshold", ctypes.c_uint32),
        *((name, ctypes.c_void_p) for name in _ADDRESSES),
    )


class Library:
    """A compiled engine.

    Attributes:
        file: Where it is.
        width: Float32 numbers in a vector.
        pad: Channels and hidden units come in multiples of this.
        block: Sites that are computed together.
        threaded: Whether it was compiled with OpenMP.
        tiles: Whether it uses the processor's matrix tiles (AMX).

    Raises:
        OSError: The file cannot be loaded, or is another kind of library.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._library = ctypes.CDLL(str(file))
        try:
            if self._library.leukonca_job_bytes() != ctypes.sizeof(Job):
                raise OSError(f"{file} was built from other sources")
            self.width: int = self._library.leukonca_width()
            self.pad: int = self._library.leukonca_pad()
            self.block: int = self._library.leukonca_block()
            self.threaded = bool(self._library.leukonca_threaded())
            self.tiles = bool(self._library.leukonca_tiles())
        except AttributeError as error:
            raise OSError(f"{file}: {error}") from None

    def forward(self, job: Job, half: bool) -> None:
        """Run the steps on ``job.state``, in place."""
        self._call(self._library.leukonca_forward, ctypes.byref(job), int(half))

    def backward(self, job: Job, half: bool) -> None:
        """Turn ``job.state`` and ``job.gradient`` into those before the steps; add to the weights' own."""
        self._call(self._library.leukonca_backward, ctypes.byref(job), int(half))

    def count_firing(self, job: Job, counts: Tensor) -> None:
        """Write to ``counts``, int64 [B], how many sites of each picture fire in all steps."""
        self._call(self._library.leukonca_count_firing, ctypes.byref(job), ctypes.c_void_p(counts.data_ptr()))

    @staticmethod
    def _call(function: Any, *arguments: Any) -> None:
        outcome = function(*arguments)
        if outcome == 1:
            raise MemoryError("the fused engine got no memory for its threads' work")
        if outcome:
            raise ValueError("this build of the fused engine has no bf16 products")
