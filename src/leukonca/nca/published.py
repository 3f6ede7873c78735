"""The released checkpoints of Deutges et al., MICCAI 2024 (arXiv 2404.05584), as classifiers.

A released checkpoint is a plain state dict. Which automaton it belongs to shows in its names:

==============================  ================================================================
all                             ``p0``, ``p1`` (perception), ``fc0``, ``fc1`` (update)
MaxNCA adds                     ``fc2``, ``fc3``
ConvNCA adds                    ``conv1``, ``conv2``, ``conv3``, ``fc2``, ``fc3``
SimpleNCA adds                  nothing (so a checkpoint of the segmentation variant looks like it)
==============================  ================================================================

The released code runs its 3×3 convolutions on the picture with rows and columns swapped, which is the
same as transposed kernels on the picture as it is. Everything else keeps its place: the perception is
[state, p0, p1] there and here, and ConvNCA's head sees rows and columns unswapped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from leukonca.errors import ModelError
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier
from leukonca.vocabulary import CLASS_SETS

__all__ = ["PUBLISHED_CLASSES", "from_state_dict", "load_state_dict_file"]

PUBLISHED_CLASSES: Final = CLASS_SETS["thirteen"]
"""What the outputs of a released checkpoint mean, in their order."""


def _named(**layers: int) -> dict[str, str]:
    """Released name → ours, of layers with weight and bias in our ``head``."""
    return {
        f"{name}.{kind}": f"head.{at}.{kind}" for name, at in layers.items() for kind in ("weight", "bias")
    }


# Released name → ours.
_RULE: Final = {
    "p0.weight": "rule.kernel_a",
    "p0.bias": "rule.bias_a",
    "p1.weight": "rule.kernel_b",
    "p1.bias": "rule.bias_b",
    "fc0.weight": "rule.hidden_weight",
    "fc0.bias": "rule.hidden_bias",
    "fc1.weight": "rule.update_weight",
}
_NAMES: Final = {
    "MaxNCA": _RULE | _named(fc2=0, fc3=2),
    "SimpleNCA": _RULE,
    "ConvNCA": _RULE | _named(conv1=1, conv2=4, conv3=7, fc2=11, fc3=13),
}
_TRANSPOSED: Final = ("p0.weight", "p1.weight")

# Under these names training programs keep the state dict inside a larger checkpoint.
_NESTED: Final = ("state_dict", "model_state_dict")


def load_state_dict_file(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict without running any code from its file.

    Args:
        path: A file of ``torch.save`` or of safetensors; its content decides, not its name. A state dict
            inside a larger checkpoint is found under ``state_dict`` or ``model_state_dict``.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ModelError: The file is absent, empty, truncated, not a state dict, or would run code.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise ModelError(
            f"{file}: cannot be read ({error.strerror or error}); give a checkpoint file"
        ) from error
    if not size:
        raise ModelError(f"{file}: is empty; download or copy it again")
    # Safetensors first: the length before its header may happen to begin like the other two.
    if start[8:] == b"{":  # safetensors: 8 bytes of length, then a header in JSON
        content = _load_safetensors(file)
    elif start.startswith((b"PK", b"\x80")):  # torch.save: a zip archive, before torch 1.6 a bare pickle
        content = _load_torch(file)
    else:
        raise ModelError(
            f"{file}: is neither a file of torch.save nor of safetensors; give a checkpoint file"
        )
    tensors = _tensors_in(content, file)
    # A forged tensor can claim to be far larger than its file by repeating values; no released one does.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > size:
        raise ModelError(
            f"{file}: claims {claimed} bytes of weights but has only {size}; it is broken or forged"
        )
    return tensors


def _load_torch(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken or hostile pickle raises can be nearly anything
        reason = str(error)
        if "weights_only" in reason or "Weights only" in reason:
            raise ModelError(
                f"{file}: holds more than tensors; loading it could run code, which is refused; "
                "save its state_dict() alone with torch.save"
            ) from error
        first = reason.strip().split("\n")[0] or type(error).__name__
        raise ModelError(f"{file}: is truncated or broken ({first}); download or copy it again") from error


def _load_safetensors(file: Path) -> object:
    try:
        return safetensors.torch.load_file(file, device="cpu")
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{file}: is truncated or broken ({error}); download or copy it again") from error


def _tensors_in(content: object, file: Path) -> dict[str, Tensor]:
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(
            f"{file}: holds no state dict but {_described(content)}; save a model's state_dict()"
        )
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelError(
                f"{file}: entry {key!r} is {_described(value)}, not a tensor; save a model's state_dict()"
            )
    return dict(content)


def _described(value: object) -> str:
    return f"an empty {type(value).__name__}" if value in ({}, [], ()) else f"of type {type(value).__name__}"


def from_state_dict(
    tensors: Mapping[str, Tensor], *, steps: int = 64, firing: float = 0.5, size: int = 64
) -> CellClassifier:
    """Return the classifier of a released state dict.

    Channels, widths and number of classes follow from the shapes; SimpleNCA, whose shapes do not say the
    last, has the thirteen of :data:`PUBLISHED_CLASSES`. Steps, firing and size are not in a checkpoint.

    Args:
        tensors: As :func:`load_state_dict_file` gives them.
        steps: Steps from the picture to the decision.
        firing: Probability with which a site fires, in (0, 1] (one minus the released ``fire_rate``).
        size: Side of the square input picture, px.

    Returns:
        A classifier in evaluation mode with float32 weights of its own.

    Raises:
        ModelError: A name is missing or unexpected, a shape is wrong or a value is not finite.
        SettingError: ``steps``, ``firing`` or ``size`` has a value that it cannot have.
    """
    variant = _variant(tensors)
    names = _NAMES[variant]
    _check_names(tensors, names, variant)
    shape: dict[str, Any] = {}
    classes = len(PUBLISHED_CLASSES)
    if variant == "SimpleNCA":
        shape = {"pooling": "mean", "head": "channels"}
    else:
        classes = _rows(tensors, "fc3.weight", at_least=2)
        shape = {"head": "conv"} if variant == "ConvNCA" else {"head_hidden": _rows(tensors, "fc2.weight")}
    architecture = Architecture(
        size=size,
        # SimpleNCA's logits are channels after the three of the picture; the others need one such channel.
        channels=_rows(tensors, "p0.weight", at_least=3 + (classes if variant == "SimpleNCA" else 1)),
        hidden=_rows(tensors, "fc0.weight"),
        steps=steps,
        firing=firing,
        **shape,
    )
    with torch.device("meta"):  # shapes without memory: those of a forged file may be absurd
        expected = CellClassifier(architecture, classes).state_dict()
    for theirs, ours in names.items():
        _check_shape(theirs, tensors[theirs], expected[ours].shape, f"{variant} for {size} px")
    for name in names:
        _check_values(name, tensors[name])
    # The random first weights are replaced at once: the caller's random numbers must not notice them.
    with torch.random.fork_rng(devices=[]):
        classifier = CellClassifier(architecture, classes)
    classifier.load_state_dict(
        {
            ours: tensors[theirs].transpose(-1, -2) if theirs in _TRANSPOSED else tensors[theirs]
            for theirs, ours in names.items()
        }
    )
    return classifier.eval()


def _variant(tensors: Mapping[str, Tensor]) -> str:
    if any(name.startswith("conv") for name in tensors):
        return "ConvNCA"
    return "MaxNCA" if any(name.startswith(("fc2.", "fc3.")) for name in tensors) else "SimpleNCA"


def _check_names(tensors: Mapping[str, Tensor], names: Mapping[str, str], variant: str) -> None:
    faults = [
        f"{fault} {', '.join(found[:6])}{' …' if len(found) > 6 else ''}"
        for fault, found in (
            ("missing", [name for name in names if name not in tensors]),
            ("unexpected", sorted(name for name in tensors if name not in names)),
        )
        if found
    ]
    if faults:
        raise ModelError(
            f"state dict is not that of a released automaton (nearest: {variant}): {'; '.join(faults)}; "
            "give a checkpoint of the published code"
        )


def _rows(tensors: Mapping[str, Tensor], name: str, at_least: int = 1) -> int:
    shape = tensors[name].shape
    if not shape or shape[0] < at_least:
        raise ModelError(
            f"state dict: {name} has shape {list(shape)}; its first length must be at least {at_least}"
        )
    return int(shape[0])


def _check_shape(name: str, tensor: Tensor, expected: torch.Size, variant: str) -> None:
    if tensor.shape != expected:
        raise ModelError(
            f"state dict: {name} has shape {list(tensor.shape)}, expected {list(expected)} in a {variant}"
        )


def _check_values(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
        raise ModelError(
            f"state dict: {name} is {tensor.dtype}, {tensor.layout} on {tensor.device}; "
            "expected dense floating-point values"
        )
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise ModelError(
            f"state dict: {name} of shape {list(tensor.shape)} has {bad} values that are NaN or infinite, "
            "expected none; take a checkpoint from before training diverged"
        )
