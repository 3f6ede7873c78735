from __future__ import annotations

import json
import os
import pickle
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import leukonca.writing
from leukonca.cells.framing import Framing
from leukonca.errors import ModelError
from leukonca.learning.bundle import FORMAT, load_bundle, save_bundle
from leukonca.learning.familiarity import Familiarity
from leukonca.learning.pooled import PooledStatistics
from leukonca.learning.statistics import InputStatistics
from leukonca.learning.trained import TrainedModel
from leukonca.learning.trust import Trust
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier

ARCHITECTURE = Architecture(size=16, patch=2, channels=16, hidden=4, steps=2, head_hidden=4)


def trained(architecture: Architecture = ARCHITECTURE, **changes: Any) -> TrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = CellClassifier(architecture, 3)
    model = TrainedModel(
        network=network,
        classes=("basophil", "Größe \udce9", "platelet"),  # the end of a folder's name that is no UTF-8
        framing=Framing(architecture.size, 0.8, "stretch"),
        normalisation="training",
        statistics=InputStatistics((0.5, 1 / 3, 0.7), (0.1, 0.2, 0.3)),
        loss="focal",
        provenance={"sources": ["acevedo20"], "settings": {"seed": 42}, "validation": {"accuracy": 1 / 3}},
        seen_training=np.array([3, 5, 1 << 62], dtype=np.int64),
        seen_validation=np.array([4], dtype=np.int64),
    )
    return replace(model, **changes)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    save_bundle(trained(), file)
    return file.read_bytes()


@pytest.fixture
def file(tmp_path: Path, good: bytes) -> Path:
    (tmp_path / "model.safetensors").write_bytes(good)
    return tmp_path / "model.safetensors"


def note_of(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["leukonca"])


def rewrite(
    file: Path,
    note: Callable[[dict[str, Any]], None] | str | None = None,
    tensors: Callable[[dict[str, Tensor]], None] | None = None,
) -> None:
    """Write the file again with another note or other tensors."""
    values, content = load_file(file), note_of(file)
    if tensors:
        tensors(values)
    if callable(note):
        note(content)
    header = note if isinstance(note, str) else json.dumps(content)
    save_file(values, file, metadata={"leukonca": header})


def refused(file: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_bundle(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


def loads_or_is_refused(file: Path) -> None:
    try:
        load_bundle(file)
    except ModelError:
        refused(file)


@pytest.mark.parametrize(
    "architecture",
    [
        ARCHITECTURE,
        replace(ARCHITECTURE, pooling="max_mean"),
        replace(ARCHITECTURE, pooling="attention", firing=1.0),
        replace(ARCHITECTURE, pooling="mean", head="channels"),
        Architecture(size=16, channels=6, hidden=4, steps=1, head="conv"),
    ],
)
def test_what_was_saved_is_loaded(tmp_path: Path, architecture: Architecture) -> None:
    saved = trained(architecture)
    save_bundle(saved, tmp_path / "deep" / "er" / "model.safetensors")
    found = load_bundle(tmp_path / "deep" / "er" / "model.safetensors")
    assert found.network.architecture == architecture
    expected = saved.network.state_dict()
    assert found.network.state_dict().keys() == expected.keys()
    for name, tensor in found.network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    for name in ("classes", "framing", "normalisation", "statistics", "loss", "provenance"):
        assert getattr(found, name) == getattr(saved, name), name
    np.testing.assert_array_equal(found.seen_training, saved.seen_training)
    np.testing.assert_array_equal(found.seen_validation, saved.seen_validation)
    assert not found.network.training
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    images = np.array([1, 2], dtype=np.int64)
    np.testing.assert_array_equal(
        found.probabilities(pictures, images, 0), saved.probabilities(pictures, images, 0)
    )


def test_a_model_without_statistics_is_loaded(tmp_path: Path) -> None:
    save_bundle(trained(statistics=None, normalisation="picture"), tmp_path / "m.safetensors")
    assert load_bundle(tmp_path / "m.safetensors").statistics is None


def test_what_features_are_like_is_kept_to_the_last_digit(tmp_path: Path) -> None:
    pooled = PooledStatistics(np.linspace(-1, 1 / 3, 16), np.linspace(0.1, 2, 16))
    save_bundle(trained(pooled=pooled), tmp_path / "model.safetensors")
    found = load_bundle(tmp_path / "model.safetensors").pooled
    assert found is not None
    np.testing.assert_array_equal(found.mean, pooled.mean)
    np.testing.assert_array_equal(found.spread, pooled.spread)
    for name, tensor in (
        ("pooled.mean", torch.zeros(16)),
        ("pooled.spread", torch.zeros(15, dtype=torch.float64)),
        ("pooled.mean", torch.full((16,), torch.nan, dtype=torch.float64)),
    ):
        save_bundle(trained(pooled=pooled), tmp_path / "model.safetensors")
        rewrite(
            tmp_path / "model.safetensors", tensors=lambda values, n=name, t=tensor: values.update({n: t})
        )
        assert "pooled" in refused(tmp_path / "model.safetensors")
    save_bundle(trained(pooled=pooled), tmp_path / "model.safetensors")
    rewrite(tmp_path / "model.safetensors", tensors=lambda values: values.pop("pooled.spread"))
    assert "pooled.spread" in refused(tmp_path / "model.safetensors")


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, good: bytes) -> None:
    save_bundle(trained(), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == good


def test_loading_and_saving_draw_nothing_from_the_global_stream(file: Path) -> None:
    before = torch.get_rng_state()
    save_bundle(load_bundle(file), file)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_weights_are_stored_as_float32(tmp_path: Path) -> None:
    model = trained()
    save_bundle(replace(model, network=model.network.bfloat16()), tmp_path / "m.safetensors")
    assert {
        parameter.dtype for parameter in load_bundle(tmp_path / "m.safetensors").network.parameters()
    } == {torch.float32}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(file: Path, good: bytes, value: float) -> None:
    model = trained()
    with torch.no_grad():
        model.network.rule.bias_a[3] = value
    with pytest.raises(ModelError, match=r"rule\.bias_a.*not finite"):
        save_bundle(model, file)
    assert file.read_bytes() == good


def test_an_error_while_writing_leaves_the_old_file(
    file: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as draft:
            draft.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leukonca.writing.Path, "write_bytes", fail)
    with pytest.raises(ModelError, match="No space left") as caught:
        save_bundle(trained(loss="bce"), file)
    assert str(file) in str(caught.value)
    monkeypatch.undo()
    assert file.read_bytes() == good
    assert list(file.parent.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_a_model_error(file: Path) -> None:
    for impossible in (file / "below-a-file", file.parent):
        with pytest.raises(ModelError, match="cannot be written"):
            save_bundle(trained(), impossible)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_model_can_be_read_by_colleagues(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        save_bundle(trained(), tmp_path / "m.safetensors")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o644


def test_a_cut_file_is_refused_at_every_length(tmp_path: Path, good: bytes) -> None:
    cut = tmp_path / "cut.safetensors"
    for length in {*range(64), *range(64, len(good), 97), len(good) - 8, len(good) - 1}:
        cut.write_bytes(good[:length])
        refused(cut)
    cut.write_bytes(good + b"\0")
    refused(cut)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert "no such model file" in refused(tmp_path)
    assert "no such model file" in refused(tmp_path / "missing.safetensors")
    assert "no such model file" in refused(tmp_path / "nul\0")
    foreign = tmp_path / "foreign.safetensors"
    for content in (b"", b"\0" * 8, b"\xff" * 100, os.urandom(1000), b"<html>404</html>", b"PK\x03\x04"):
        foreign.write_bytes(content)
        assert "not a leukonca model" in refused(foreign)
    save_file({"weight": torch.ones(3)}, foreign)
    assert "import-published" in refused(foreign)
    save_file({"weight": torch.ones(3)}, foreign, metadata={"format": "pt"})
    assert "import-published" in refused(foreign)


class _Trap:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "model.safetensors"
    file.write_bytes(pickle.dumps(_Trap(victim)))
    refused(file)
    torch.save({"state": _Trap(victim)}, file)
    refused(file)
    assert not victim.exists()
    pickle.loads(pickle.dumps(_Trap(victim)))  # the trap does work
    assert victim.exists()


def change(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(note: dict[str, Any]) -> None:
        for key in keys[:-1]:
            note = note[key]
        note[keys[-1]] = to

    return apply


def drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def apply(note: dict[str, Any]) -> None:
        for key in keys[:-1]:
            note = note[key]
        del note[keys[-1]]

    return apply


NOTES = {
    "newer": (change("format", to=FORMAT + 1), "update leukonca"),
    "format text": (change("format", to="1"), "format number"),
    "no format": (drop("format"), "format number"),
    "no architecture": (drop("architecture"), "misses 'architecture'"),
    "architecture list": (change("architecture", to=[1, 2]), "damaged"),
    "unknown field": (change("architecture", "colour", to=1), "unknown fields: colour"),
    "wrong field": (change("architecture", "steps", to="many"), "steps='many'"),
    "huge channels": (change("architecture", "channels", to=10**9), "out of bounds"),
    "huge hidden": (change("architecture", "hidden", to=10**12), "out of bounds"),
    "huge head": (change("architecture", "head_hidden", to=10**18), "out of bounds"),
    "huge steps": (change("architecture", "steps", to=10**9), "out of bounds"),
    "wide as allowed": (change("architecture", "channels", to=4096), "expected float32"),
    "huge grid": (change("architecture", "size", to=10**6), "sites a side"),
    "another size": (change("architecture", "size", to=32), "32 px"),
    "another head": (change("architecture", "head", to="channels"), "missing or not expected"),
    "another pooling": (change("architecture", "pooling", to="max_mean"), "expected float32"),
    "classes twice": (change("classes", to=["a", "b", "a"]), "not distinct"),
    "classes of numbers": (change("classes", to=[1, 2, 3]), "not distinct names"),
    "class empty": (change("classes", to=["a", "b", ""]), "not distinct names"),
    "classes text": (change("classes", to="abc"), "not a list"),
    "classes nested": (change("classes", to=[["a"], {}, None]), "not distinct names"),
    "one class": (change("classes", to=["a"]), "at least 2 classes"),
    "more classes": (change("classes", to=["a", "b", "c", "d"]), "expected float32"),
    "many classes": (change("classes", to=[str(n) for n in range(2000)]), "2000 classes"),
    "framing size": (change("framing", "size", to=-1), "size = -1"),
    "framing crop": (change("framing", "crop", to=[]), "damaged"),
    "framing fit": (change("framing", "fit", to={}), "damaged"),
    "framing more": (change("framing", "angle", to=3), "angle"),
    "framing none": (change("framing", to=None), "damaged"),
    "normalisation": (change("normalisation", to="target"), "'target' is unknown"),
    "normalisation list": (change("normalisation", to=[]), "unknown"),
    "loss": (change("loss", to="__import__"), "'__import__' is unknown"),
    "no statistics": (change("statistics", to=None), "statistics are missing"),
    "statistics text": (change("statistics", to="0.5"), "damaged"),
    "statistics NaN": (change("statistics", "mean", to=[float("nan")] * 3), "three finite numbers"),
    "statistics negative": (change("statistics", "std", to=[-1, 1, 1]), "at least 0"),
    "statistics huge": (change("statistics", "mean", to=[10**400] * 3), "damaged"),
    "provenance": (change("provenance", to=[]), "provenance"),
}


@pytest.mark.parametrize("name", NOTES)
def test_a_note_that_does_not_fit_is_refused(file: Path, name: str) -> None:
    edit, reason = NOTES[name]
    rewrite(file, edit)
    assert reason in refused(file)


@pytest.mark.parametrize(
    "header",
    ["", "{", "nonsense", "null", "[]", "3", '"format"', "[" * 100_000, '{"a":' * 100_000, "1" * 5000],
    ids=lambda header: header[:10],
)
def test_a_note_that_is_no_table_is_refused(file: Path, header: str) -> None:
    rewrite(file, header)
    refused(file)


TENSORS: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda t: t.pop("network.rule.bias_a"), "rule.bias_a"),
    "more": (lambda t: t.update({"network.trap": torch.ones(1)}), "trap"),
    "shape": (lambda t: t.update({"network.rule.bias_a": torch.ones(17)}), "expected float32 [16]"),
    "transposed": (
        lambda t: t.update({"network.rule.hidden_weight": t["network.rule.hidden_weight"].T.contiguous()}),
        "expected float32 [4, 48]",
    ),
    "float64": (lambda t: t.update({"network.rule.bias_a": torch.ones(16).double()}), "torch.float64"),
    "float8": (
        lambda t: t.update({"network.rule.bias_a": torch.ones(16).to(torch.float8_e4m3fn)}),
        "expected float32",
    ),
    "NaN": (lambda t: t["network.rule.bias_a"].fill_(float("nan")), "not finite"),
    "infinite": (lambda t: t["network.head.2.weight"][1].fill_(float("-inf")), "not finite"),
    "no seen": (lambda t: t.pop("seen.training"), "seen.training"),
    "seen as numbers": (lambda t: t.update({"seen.validation": torch.ones(4)}), "expected int64"),
    "seen as table": (
        lambda t: t.update({"seen.validation": torch.ones(2, 2, dtype=torch.int64)}),
        "expected int64",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit_are_refused(file: Path, name: str) -> None:
    edit, reason = TENSORS[name]
    rewrite(file, tensors=edit)
    assert reason in refused(file)


def test_a_note_takes_no_more_memory_than_the_file_has(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    start = CellClassifier.__init__

    def follow(self: CellClassifier, architecture: Architecture, classes: int) -> None:
        made.append(torch.get_default_device().type)
        start(self, architecture, classes)

    monkeypatch.setattr(CellClassifier, "__init__", follow)
    rewrite(file, change("architecture", "hidden", to=4096))
    refused(file)
    assert made == ["meta"]


def test_a_file_far_too_large_is_not_read(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(2 << 30)  # sparse: takes no space
    assert "far too large" in refused(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data())
def test_flipped_bytes_give_a_model_or_a_model_error(
    tmp_path: Path, good: bytes, data: st.DataObject
) -> None:
    (length,) = struct.unpack("<Q", good[:8])
    # Half of them in the first bytes and the header, where there is most to break.
    places = st.integers(0, 8 + length) | st.integers(0, len(good) - 1)
    edits = data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4))
    broken = bytearray(good)
    for place, value in edits:
        broken[place] = value
    file = tmp_path / "flipped.safetensors"
    file.write_bytes(broken)
    loads_or_is_refused(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "random.safetensors"
    file.write_bytes(content)
    refused(file)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(value=JSON, data=st.data())
def test_any_value_anywhere_in_the_note_gives_a_model_or_a_model_error(
    tmp_path: Path, good: bytes, value: Any, data: st.DataObject
) -> None:
    file = tmp_path / "edited.safetensors"
    file.write_bytes(good)
    note = note_of(file)
    keys = [(key,) for key in note]
    keys += [(key, inner) for key in ("architecture", "framing", "statistics") for inner in note[key]]
    rewrite(file, change(*data.draw(st.sampled_from(sorted(keys))), to=value))
    loads_or_is_refused(file)


@pytest.mark.parametrize(
    ("framing", "format_"),
    [
        (Framing(16, 0.8), 1),
        (Framing(16, 0.8, colour="light"), 2),
        (Framing(16, fit="cell", colour="nucleus", reach=2.5), 2),
    ],
)
def test_a_framing_that_older_versions_do_not_know_has_a_higher_format(
    tmp_path: Path, framing: Framing, format_: int
) -> None:
    file = tmp_path / "model.safetensors"
    save_bundle(trained(framing=framing), file)
    assert load_bundle(file).framing == framing
    assert note_of(file)["format"] == format_


def trusted() -> TrainedModel:
    familiarity = Familiarity(
        np.array([[1, 2], [0, 3]], np.float32), np.eye(2, dtype=np.float32), np.array([1, 4], np.float32)
    )
    scores = np.array([0.01, 0.25, 0.5], np.float32)
    return trained(trust=Trust(1 / 3, scores, familiarity, {"cells": 3, "ece": {"before": 0.1}}))


@pytest.mark.parametrize(("firing", "views"), [(0.5, 1), (0.5, 4), (1.0, 4), (1.0, 1)])
def test_a_loaded_model_has_the_views_that_it_is_calibrated_for(
    tmp_path: Path, firing: float, views: int
) -> None:
    bare = trained(replace(ARCHITECTURE, firing=firing))
    save_bundle(bare, tmp_path / "bare.safetensors")
    assert load_bundle(tmp_path / "bare.safetensors").views == (1 if firing < 1 else 4)
    fitted = {"views": views} if views > 1 else {}
    calibrated = replace(bare, views=views, trust=Trust(1.0, np.zeros(1, np.float32), fitted=fitted))
    save_bundle(calibrated, tmp_path / "calibrated.safetensors")
    assert load_bundle(tmp_path / "calibrated.safetensors").views == views


def test_trust_is_kept_to_the_bit(tmp_path: Path) -> None:
    saved = trusted()
    assert saved.trust is not None
    save_bundle(saved, tmp_path / "m.safetensors")
    found = load_bundle(tmp_path / "m.safetensors").trust
    assert found is not None
    assert (found.temperature, found.fitted) == (saved.trust.temperature, saved.trust.fitted)
    np.testing.assert_array_equal(found.scores, saved.trust.scores)
    assert found.familiarity is not None
    assert saved.trust.familiarity is not None
    for name in ("whitening", "centres", "distances"):
        expected = getattr(saved.trust.familiarity, name)
        np.testing.assert_array_equal(getattr(found.familiarity, name), expected)
    save_bundle(load_bundle(tmp_path / "m.safetensors"), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_a_file_from_before_the_channels_told_keeps_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def older(tensors: dict[str, Tensor]) -> None:
        for name in ("whitening", "centres", "distances"):
            tensors[f"trust.{name}"] = tensors.pop(f"familiarity.{name}")

    save_bundle(trusted(), tmp_path / "m.safetensors")
    rewrite(tmp_path / "m.safetensors", tensors=older)
    found = load_bundle(tmp_path / "m.safetensors").trust
    assert found is not None
    assert (found.temperature, found.familiarity) == (1 / 3, None)
    np.testing.assert_array_equal(found.scores, np.array([0.01, 0.25, 0.5], np.float32))
    assert "'leukonca calibrate'" in caplog.text


def test_trust_without_familiarity_is_kept(tmp_path: Path) -> None:
    save_bundle(trained(trust=Trust(2.0, np.zeros(1, np.float32))), tmp_path / "m.safetensors")
    found = load_bundle(tmp_path / "m.safetensors").trust
    assert found is not None
    assert (found.temperature, found.familiarity) == (2.0, None)


def test_a_model_without_trust_is_written_and_read_as_ever(file: Path) -> None:
    assert "trust" not in note_of(file)
    assert not [name for name in load_file(file) if name.startswith("trust")]
    assert load_bundle(file).trust is None


@pytest.mark.parametrize(
    ("note", "tensors", "message"),
    [
        (lambda note: note.update(trust=3), None, "damaged"),
        (lambda note: note["trust"].pop("temperature"), None, "misses 'temperature'"),
        (lambda note: note["trust"].update(temperature=0), None, "temperature 0.0 must be a number above 0"),
        (lambda note: note["trust"].update(temperature="warm"), None, "damaged"),
        (lambda note: note["trust"].update(fitted=[]), None, "trust.fitted is not a table"),
        (lambda note: note["trust"].update(fitted={"views": 9}), None, "fitted for 9 views"),
        (None, lambda tensors: tensors.pop("trust.scores"), "misses 'trust.scores'"),
        (None, lambda tensors: tensors.pop("familiarity.centres"), "misses 'familiarity.centres'"),
        (None, lambda t: t.update({"trust.scores": t["trust.scores"].double()}), "expected float32"),
        (None, lambda t: t.update({"trust.scores": t["trust.scores"] + 1}), "scores must be numbers in 0–1"),
        (None, lambda t: t.update({"familiarity.centres": torch.ones(2, 3)}), "do not fit together"),
        (None, lambda t: t.update({"familiarity.whitening": torch.ones(2, 2) / 0}), "not finite"),
    ],
)
def test_damaged_trust_is_refused(tmp_path: Path, note: Any, tensors: Any, message: str) -> None:
    save_bundle(trusted(), tmp_path / "m.safetensors")
    rewrite(tmp_path / "m.safetensors", note, tensors)
    assert message in refused(tmp_path / "m.safetensors")
