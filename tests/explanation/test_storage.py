from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import runs
from explanation.scenes import model
from leukonca.cells.framing import Framing
from leukonca.errors import DataError, ModelError
from leukonca.explanation.storage import fingerprint, load_parts, require_same_model, save_parts
from leukonca.learning.bundle import load_bundle, save_bundle

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(0, dtype=np.int64)}


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    note = {"text": "µ \udc80", "list": [1, None, 2.5]}
    save_parts(tmp_path / "new" / "x.safetensors", "thing", note, ARRAYS)
    found, arrays = load_parts(tmp_path / "new" / "x.safetensors", "thing", "a thing")
    assert {name: found[name] for name in note} == note
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert (arrays[name] == array).all()


def test_other_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    with pytest.raises(ModelError, match=r"x\.safetensors: no such file; name a thing"):
        load_parts(file, "thing", "a thing")
    save_parts(file, "other", {}, ARRAYS)
    with pytest.raises(ModelError, match="is not a thing of leukonca"):
        load_parts(file, "thing", "a thing")
    with pytest.raises(ModelError, match="is not a thing of leukonca"):
        load_parts(save_and_name(tmp_path), "thing", "a thing")
    whole = file.read_bytes()
    for part in (b"", whole[:20], whole[:-4], b"text"):
        file.write_bytes(part)
        with pytest.raises(ModelError, match="not a thing, or damaged"):
            load_parts(file, "thing", "a thing")
    for header, said in (("[1]", "is not a thing"), ("{", "damaged"), ("null", "is not a thing")):
        save_file(ARRAYS, file, metadata={"leukonca": header})
        with pytest.raises(ModelError, match=said):
            load_parts(file, "thing", "a thing")
    newer = json.dumps({"kind": "thing", "format": 2, "leukonca": "9.9"})
    save_file(ARRAYS, file, metadata={"leukonca": newer})
    with pytest.raises(ModelError, match=r"written by leukonca 9\.9 in format 2"):
        load_parts(file, "thing", "a thing")
    with pytest.raises(DataError, match="cannot be written"):
        save_parts(file / "below", "thing", {}, ARRAYS)


def save_and_name(folder: Path) -> Path:
    save_bundle(model(), folder / "model.safetensors")
    return folder / "model.safetensors"


def test_a_model_keeps_its_fingerprint_in_its_file(tmp_path: Path) -> None:
    for trained in (model(), runs.model()):
        save_bundle(trained, tmp_path / "m.safetensors")
        assert fingerprint(load_bundle(tmp_path / "m.safetensors")) == fingerprint(trained)
        require_same_model(trained, fingerprint(trained), "the index")


def test_every_difference_that_matters_shows() -> None:
    trained = model()
    bent = model()
    with torch.no_grad():
        bent.network.rule.bias_a[3] += 1e-6  # type: ignore[union-attr, operator, index]
    others = [
        bent,
        model(firing=0.25),
        model(Framing(32, crop=0.9)),
        model(Framing(32, fit="cell")),
        replace(trained, normalisation="none"),
        runs.model(),
    ]
    prints = {fingerprint(one) for one in (trained, *others)}
    assert len(prints) == len(others) + 1
    with pytest.raises(ModelError, match="the index was made for another model than this one"):
        require_same_model(bent, fingerprint(trained), "the index")
    # Names of classes or a calibration do not change a feature.
    assert fingerprint(replace(trained, classes=("a", "b", "c"))) == fingerprint(trained)
