"""What explanations keep beside a model: safetensors with JSON, tied to the model by its fingerprint."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from leukonca._version import __version__
from leukonca.errors import ModelError
from leukonca.learning.trained import TrainedModel
from leukonca.writing import write_bytes

__all__ = ["fingerprint", "load_parts", "require_same_model", "save_parts"]

_FORMAT: Final = 1
_KEY: Final = "leukonca"
_LARGEST_BYTES: Final = 1 << 30

Arrays = dict[str, npt.NDArray[Any]]


def fingerprint(model: TrainedModel) -> str:
    """Return what tells a model from every other that makes other features, 32 hexadecimal digits.

    It is a hash of its weights and of the way from a picture to its input.
    """
    statistics = None if model.statistics is None else asdict(model.statistics)
    way = [model.network.architecture.to_dict(), asdict(model.framing), model.normalisation, statistics]
    digest = blake2b(json.dumps(way, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode() + b"\0" + tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def require_same_model(model: TrainedModel, made_for: str, what: str) -> None:
    """Refuse to use what was made for another model.

    Args:
        model: The model at hand.
        made_for: Fingerprint of the model that it was made for.
        what: What it is, for the message.

    Raises:
        ModelError: It is another model.
    """
    if fingerprint(model) != made_for:
        raise ModelError(f"{what} was made for another model than this one; make it anew for this model")


def save_parts(file: str | os.PathLike[str], kind: str, note: dict[str, Any], arrays: Arrays) -> None:
    """Write arrays and a note of JSON values into one file.

    Args:
        file: Where to.
        kind: What the file holds; it is read back as that only.
        note: JSON values.
        arrays: By name.

    Raises:
        DataError: The file cannot be written.
    """
    whole = {"format": _FORMAT, "kind": kind, "leukonca": __version__, **note}
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_bytes(file, save(plain, metadata={_KEY: json.dumps(whole, sort_keys=True)}))


def load_parts(file: str | os.PathLike[str], kind: str, what: str) -> tuple[dict[str, Any], Arrays]:
    """Read what :func:`save_parts` wrote. Nothing in the file is run.

    Args:
        file: Where from.
        kind: What it must hold.
        what: The same for messages, such as ``an index of cells``.

    Raises:
        ModelError: The file is missing, foreign, damaged, of another kind or newer than this version.
    """
    path = Path(file)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; name {what}")
    if path.stat().st_size > _LARGEST_BYTES:
        raise ModelError(f"{path}: {path.stat().st_size} bytes is far too large for {what}")
    try:
        with safe_open(path, framework="np") as stored:
            header = (stored.metadata() or {}).get(_KEY, "null")
            note = json.loads(header)
            if not isinstance(note, dict) or note.get("kind") != kind:
                raise ModelError(f"{path}: is not {what} of leukonca")
            if not isinstance(note.get("format"), int) or note["format"] > _FORMAT:
                raise ModelError(
                    f"{path}: written by leukonca {note.get('leukonca', '?')} in format "
                    f"{note.get('format')}; this is {__version__} and reads up to format {_FORMAT}; update it"
                )
            return note, {name: stored.get_tensor(name) for name in list(stored.keys())}
    except (SafetensorError, OSError, ValueError, RecursionError, TypeError) as error:
        raise ModelError(f"{path}: not {what}, or damaged ({error}); make it anew") from error
