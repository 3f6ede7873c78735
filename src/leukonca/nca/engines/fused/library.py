"""The compiled engine's functions as Python sees them; the other side is ``library.cpp``."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
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
        pad: Channels come in multiples of this.
        hidden_pad: And hidden units in multiples of this.
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
            self.hidden_pad: int = self._library.leukonca_hidden_pad()
            self.block: int = self._library.leukonca_block()
            self.threaded = bool(self._library.leukonca_threaded())
            self.tiles = bool(self._library.leukonca_tiles())
        except AttributeError as error:
            raise OSError(f"{file}: {error}") from None

    def pack(self, state: Tensor) -> Tensor:
        """Return a state, float32 [B, C, H, W], as the engine keeps it: [B, H, C / pad, W, pad]."""
        batch, channels, rows, columns = state.shape
        packed = state.new_empty(batch, rows, -(-channels // self.pad), columns, self.pad)
        self._move(self._library.leukonca_pack, state.contiguous(), packed, channels)
        return packed

    def unpack(self, packed: Tensor, channels: int) -> Tensor:
        """Return the state [B, C, H, W] that :meth:`pack` was given."""
        batch, rows, _, columns, _ = packed.shape
        state = packed.new_empty(batch, channels, rows, columns)
        self._move(self._library.leukonca_unpack, packed, state, channels)
        return state

    @staticmethod
    def _move(function: Any, source: Tensor, target: Tensor, channels: int) -> None:
        batch, rows, columns = (max(source.shape, target.shape, key=len)[axis] for axis in (0, 1, 3))
        threads = max(1, min(torch.get_num_threads(), batch))
        addresses = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (source, target))
        function(*addresses, batch, channels, rows, columns, threads)

    def forward(self, job: Job, half: bool) -> None:
        """Run the steps on ``job.state``, in place."""
        self._call(self._library.leukonca_forward, ctypes.byref(job), int(half))

    def backward(self, job: Job, half: bool) -> None:
        """Turn ``job.state`` and ``job.gradient`` into those before the steps; add to the weights' own."""
        self._call(self._library.leukonca_backward, ctypes.byref(job), int(half))

    def count_firing(self, job: Job, counts: Tensor) -> None:
        """Write to ``counts``, int64 [B], how many sites of each picture fire in all steps."""
        self._call(self._library.leukonca_count_firing, ctypes.byref(job), ctypes.c_void_p(counts.data_ptr()))

    def multiply(self, half: bool, depth: int, columns: int, repeats: int, threads: int) -> None:
        """Multiply ``block`` rows with weights [depth, columns] many times in every thread, to be timed."""
        self._call(self._library.leukonca_multiply, int(half), depth, columns, repeats, threads)

    @staticmethod
    def _call(function: Any, *arguments: Any) -> None:
        outcome = function(*arguments)
        if outcome == 1:
            raise MemoryError("the fused engine got no memory for its threads' work")
        if outcome:
            raise ValueError("this build of the fused engine has no bf16 products")
