"""A model as one file: safetensors weights plus JSON metadata. Reading it runs no code from it.

The header's metadata has the key ``leukonca`` with a JSON object:

- ``format``: 1, or 2 where older versions would not know how to use it: for a baseline, and for framings that
  find the cell or correct its colours. A higher number is refused.
- ``leukonca``: the version that wrote the file.
- ``architecture``, ``classes``, ``framing``, ``normalisation``, ``statistics``, ``loss``, ``provenance``:
  see :class:`leukonca.learning.trained.TrainedModel`.
- ``trust``: ``temperature`` and ``fitted`` of :class:`leukonca.learning.trust.Trust`; missing where the model
  has none. Versions before it overlook it and its tensors, and state uncalibrated probabilities.

Tensors are the network's parameters and running statistics, float32, under the prefix ``network.``; and
``seen.training`` and ``seen.validation``, int64. With ``trust`` there are ``trust.scores`` and, where foreign
pictures can be told, ``familiarity.whitening``, ``familiarity.centres`` and ``familiarity.distances``, all
float32. Older files have them of the hidden layer alone, named ``trust.…``: these are overlooked.
``pooled.mean`` and ``pooled.spread``, float64, may be missing.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from leukonca._version import __version__
from leukonca.cells.framing import Framing
from leukonca.errors import DataError, LeukoncaError, ModelError
from leukonca.learning.baselines import Baseline, MissingMonaiError
from leukonca.learning.familiarity import Familiarity
from leukonca.learning.geometry import SYMMETRIES
from leukonca.learning.losses import LossName
from leukonca.learning.networks import Network, build
from leukonca.learning.pooled import PooledStatistics
from leukonca.learning.shapes import shape_from_dict
from leukonca.learning.statistics import InputStatistics, Normalisation
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trust import Trust
from leukonca.nca.architecture import Architecture
from leukonca.writing import replacing

__all__ = ["FORMAT", "load_bundle", "save_bundle"]

FORMAT: Final = 2
_LOG = logging.getLogger(__name__)
_KEY: Final = "leukonca"
_NETWORK: Final = "network."
_OF_FAMILIARITY: Final = ("whitening", "centres", "distances")
# A hostile header must not make us allocate: no automaton of this package is anywhere near.
_MOST_CLASSES: Final = 1000
_WIDEST: Final = 4096
_MOST_STEPS: Final = 10_000
_LARGEST_BYTES: Final = 1 << 30


def save_bundle(model: TrainedModel, path: str | os.PathLike[str]) -> None:
    """Write a model; an existing file is replaced in one move.

    Raises:
        ModelError: The file cannot be written, or a weight is not finite.
    """
    target = Path(path)
    tensors = {
        _NETWORK + name: tensor.detach().cpu().float().contiguous()
        for name, tensor in _kept(model.network).items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{target}: {name} has values that are not finite; the training has diverged")
    tensors["seen.training"] = torch.from_numpy(model.seen_training.copy())
    tensors["seen.validation"] = torch.from_numpy(model.seen_validation.copy())
    if model.pooled is not None:
        tensors["pooled.mean"] = torch.from_numpy(model.pooled.mean)
        tensors["pooled.spread"] = torch.from_numpy(model.pooled.spread)
    statistics, framing = model.statistics, asdict(model.framing)
    if model.framing.fit != "cell" and model.framing.colour == "as_is":
        del framing["colour"], framing["reach"]
    note: dict[str, Any] = {
        "format": FORMAT if isinstance(model.network, Baseline) or len(framing) > 3 else 1,
        "leukonca": __version__,
        "architecture": model.network.architecture.to_dict(),
        "classes": list(model.classes),
        "framing": framing,
        "normalisation": model.normalisation,
        "statistics": None
        if statistics is None
        else {"mean": list(statistics.mean), "std": list(statistics.std)},
        "loss": model.loss,
        "provenance": model.provenance,
    }
    if model.trust:
        note["trust"] = {"temperature": model.trust.temperature, "fitted": model.trust.fitted}
        tensors |= _trust_tensors(model.trust)
    # ASCII, because the name of a class may come from a folder's name that is no Unicode text.
    data = save(tensors, metadata={_KEY: json.dumps(note, sort_keys=True)})
    try:
        with replacing(target) as draft:
            draft.write_bytes(data)
    except DataError as error:
        raise ModelError(str(error)) from error


def _trust_tensors(trust: Trust) -> dict[str, Tensor]:
    arrays = {"trust.scores": trust.scores}
    if known := trust.familiarity:
        arrays |= {f"familiarity.{name}": getattr(known, name) for name in _OF_FAMILIARITY}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def load_bundle(path: str | os.PathLike[str]) -> TrainedModel:
    """Read a model.

    Raises:
        ModelError: The file is missing, foreign, truncated, newer than this version, or its parts do not fit.
    """
    source = Path(path)
    if not source.is_file():
        raise ModelError(f"{source}: no such model file")
    if source.stat().st_size > _LARGEST_BYTES:
        raise ModelError(f"{source}: {source.stat().st_size} bytes is far too large for a leukonca model")
    try:
        with safe_open(source, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            if header is None:
                raise ModelError(
                    f"{source}: a safetensors file, but not a leukonca model (no {_KEY!r} metadata); for the "
                    "paper's checkpoints use 'leukonca import-published'"
                )
            note = _note(source, header)
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{source}: not a leukonca model, or cut off ({error}); copy it again from where it came"
        ) from error
    try:
        return _build(note, tensors)
    except MissingMonaiError as error:
        raise ModelError(f"{source}: {error}") from error
    except (LeukoncaError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"misses {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"{source}: the model file is damaged or was not written by leukonca: {reason}"
        ) from error


def _note(source: Path, header: str) -> dict[str, Any]:
    try:
        note = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source}: its metadata is not JSON ({error}); the file is damaged") from error
    if not isinstance(note, dict) or not isinstance(note.get("format"), int):
        raise ModelError(f"{source}: its metadata has no format number; not a leukonca model")
    if note["format"] > FORMAT:
        raise ModelError(
            f"{source}: written by leukonca {note.get('leukonca', '?')} in format {note['format']}, this is "
            f"{__version__}, which reads up to format {FORMAT}; update leukonca"
        )
    return note


def _build(note: dict[str, Any], tensors: dict[str, Tensor]) -> TrainedModel:
    architecture = shape_from_dict(note["architecture"])
    if isinstance(architecture, Architecture):
        widest = max(architecture.channels, architecture.hidden, architecture.head_hidden)
        if widest > _WIDEST or architecture.steps > _MOST_STEPS:
            raise ModelError(
                f"an architecture of {widest} channels and {architecture.steps} steps is out of bounds"
            )
    if not isinstance(note["classes"], list):
        raise ModelError(f"classes {note['classes']!r} are not a list")
    classes = tuple(note["classes"])
    if not all(isinstance(name, str) and name for name in classes) or len(set(classes)) != len(classes):
        raise ModelError(f"classes {note['classes']!r} are not distinct names")
    if len(classes) > _MOST_CLASSES:
        raise ModelError(f"{len(classes)} classes are out of bounds")
    for name, known in (("loss", get_args(LossName)), ("normalisation", get_args(Normalisation))):
        if note[name] not in known:
            raise ModelError(f"{name} {note[name]!r} is unknown; known: {', '.join(known)}")
    statistics = None if note["statistics"] is None else InputStatistics(**note["statistics"])
    if note["normalisation"] == "training" and statistics is None:
        raise ModelError("input statistics are missing")
    framing = Framing(**note["framing"])
    if framing.size != architecture.size:
        raise ModelError(f"framing gives {framing.size} px but the network takes {architecture.size} px")
    if not isinstance(note["provenance"], dict):
        raise ModelError("provenance is not a table")
    # The shapes are compared before memory is taken, so that only what the file really holds is allocated.
    with torch.device("meta"):
        weights = _weights(build(architecture, len(classes)), tensors)
    # Start weights are drawn, though only to be replaced: not from the caller's stream.
    with torch.random.fork_rng(devices=[]):
        network = build(architecture, len(classes))
    network.load_state_dict(weights, strict=False)  # the names are compared above
    trust = _trust(note["trust"], tensors) if "trust" in note else None
    if trust and not 1 <= trust.views <= SYMMETRIES:
        raise ModelError(f"trust is fitted for {trust.views} views; a square has {SYMMETRIES}")
    return TrainedModel(
        network=network.eval(),
        classes=classes,
        framing=framing,
        normalisation=note["normalisation"],
        statistics=statistics,
        loss=note["loss"],
        provenance=note["provenance"],
        seen_training=_ids(tensors, "seen.training"),
        seen_validation=_ids(tensors, "seen.validation"),
        views=trust.views if trust else 0,
        trust=trust,
        pooled=_pooled(network, tensors),
    )


def _trust(note: dict[str, Any], tensors: dict[str, Tensor]) -> Trust:
    def array(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        tensor = tensors[name]
        if tensor.dtype != torch.float32:
            raise ModelError(f"{name} is {tensor.dtype}, expected float32")
        return tensor.numpy()

    familiarity = None
    if "familiarity.distances" in tensors:
        familiarity = Familiarity(**{name: array(f"familiarity.{name}") for name in _OF_FAMILIARITY})
    elif "trust.distances" in tensors:
        _LOG.warning(
            "this model file is from before foreign pictures were told by the automaton's channels: they are "
            "not noticed until 'leukonca calibrate' has fitted it anew"
        )
    if not isinstance(note["fitted"], dict):
        raise ModelError("trust.fitted is not a table")
    return Trust(float(note["temperature"]), array("trust.scores"), familiarity, note["fitted"])


def _kept(network: Network) -> dict[str, Tensor]:
    # Batch normalisation counts its batches in whole numbers, which only training would need.
    return {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def _weights(network: Network, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    expected = _kept(network)
    found = {name.removeprefix(_NETWORK): t for name, t in tensors.items() if name.startswith(_NETWORK)}
    if odd := sorted(set(expected) ^ set(found)):
        raise ModelError(f"weights are missing or not expected: {', '.join(odd)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape or tensor.dtype != torch.float32:
            raise ModelError(
                f"{name} is {tensor.dtype} {list(tensor.shape)}, "
                f"expected float32 {list(expected[name].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{name} has values that are not finite")
    return found


def _pooled(network: Network, tensors: dict[str, Tensor]) -> PooledStatistics | None:
    if "pooled.mean" not in tensors or isinstance(network, Baseline):
        return None
    mean, spread = tensors["pooled.mean"], tensors["pooled.spread"]
    for name, tensor in (("mean", mean), ("spread", spread)):
        if tensor.dtype != torch.float64 or tensor.shape != (network.pooled_length,):
            raise ModelError(
                f"pooled.{name} is {tensor.dtype} {list(tensor.shape)}, expected float64 "
                f"[{network.pooled_length}]"
            )
    return PooledStatistics(mean.numpy(), spread.numpy())


def _ids(tensors: dict[str, Tensor], name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    ids = tensors[name]
    if ids.dtype != torch.int64 or ids.dim() != 1:
        raise ModelError(f"{name} is {ids.dtype} {list(ids.shape)}, expected int64 [n]")
    return np.sort(ids.numpy())
