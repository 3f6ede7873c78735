from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from micro import micro

import leukonca
from leukonca.errors import DataError, ModelError
from leukonca.learning.run import Run, versions


def run(folder: Path) -> Run:
    return Run(folder, micro(seed=7), ("folder:/cells", "table:/näme \udce9.csv"), "float32")


def test_a_run_is_opened_as_it_was_created(tmp_path: Path) -> None:
    run(tmp_path / "deep" / "run").create()
    assert Run.open(tmp_path / "deep" / "run") == run(tmp_path / "deep" / "run")
    assert Run.is_run(tmp_path / "deep" / "run")
    assert [entry.name for entry in (tmp_path / "deep" / "run").iterdir()] == ["run.json"]


def test_the_note_tells_what_the_result_may_depend_on(tmp_path: Path) -> None:
    run(tmp_path).create()
    note = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert note["versions"] == versions()
    assert note["versions"]["leukonca"] == leukonca.__version__
    assert {"torch", "lightning", "numpy", "python", "machine", "threads"} <= set(note["versions"])
    assert note["settings"]["seed"] == 7


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    run(tmp_path).create()
    assert Run.is_run(tmp_path)


def test_what_a_run_killed_at_its_first_file_left_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.json.part").write_text('{"for')
    run(tmp_path).create()
    assert Run.open(tmp_path) == run(tmp_path)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(DataError, match="not empty; choose another folder") as caught:
        run(tmp_path).create()
    assert str(tmp_path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path).create()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(DataError, match="--resume to go on, or choose another folder"):
        run(tmp_path).create()
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize("name", ["file", "file/run", "nul\0", "long" * 100])
def test_a_place_that_cannot_be_is_a_data_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another folder"):
        run(tmp_path / name).create()


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="the administrator may write everywhere"
)
def test_a_read_only_place_is_a_data_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="choose another folder"):
            run(tmp_path / "run").create()
    finally:
        tmp_path.chmod(0o700)


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert not Run.is_run(folder)
        with pytest.raises(DataError, match="not the folder of a training run") as caught:
            Run.open(folder)
        assert str(folder) in str(caught.value)


def edit(**changes: Any) -> Any:
    def apply(note: dict[str, Any]) -> Any:
        return {name: value for name, value in {**note, **changes}.items() if value is not ...}

    return apply


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda note: [], "a table is expected"),
        (lambda note: None, "a table is expected"),
        (edit(format=2), "format 2"),
        (edit(format=...), "format None"),
        (edit(settings=...), "misses 'settings'"),
        (edit(data=...), "misses 'data'"),
        (edit(precision=...), "misses 'precision'"),
        (edit(precision="float64"), "precision='float64'"),
        (edit(settings={"epochs": 0}), "epochs=0"),
        (edit(settings={"epoch": 1}), "unknown settings: epoch"),
        (edit(settings={"change": {"steps": "x"}}), "steps='x'"),
        (edit(settings=3), "damaged"),
        (edit(architecture=3), "architecture is not a table"),
        (edit(architecture={"steps": "x"}), "steps='x'"),
        (edit(data=3), "damaged"),
    ],
)
def test_a_damaged_note_is_refused(tmp_path: Path, change: Any, reason: str) -> None:
    run(tmp_path).create()
    path = tmp_path / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Run.open(tmp_path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "given", "expected"),
    [
        ("base", {}, {"channels": 48, "hidden": 96, "steps": 16, "firing": 0.5}),
        ("base", {"channels": 64, "firing": 1.0}, {"channels": 64, "hidden": 96, "steps": 16, "firing": 1.0}),
        ("tiny", {}, {"channels": 32, "hidden": 64, "steps": 12, "firing": 0.5}),
        ("paper", {}, {"channels": 128, "hidden": 128, "steps": 64, "firing": 0.5}),
    ],
)
def test_a_run_from_before_keeps_the_architecture_of_then(
    tmp_path: Path, preset: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    run(tmp_path).create()
    path = tmp_path / "run.json"
    settings = {"preset": preset, "change": given, "optimizer": "adamw"}
    note = edit(settings=settings, architecture=...)(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(note), encoding="utf-8")
    found = Run.open(tmp_path).settings
    shape = found.architecture().to_dict()
    assert {name: shape[name] for name in expected} == expected
    assert found.restraint_weight() == 0  # which there was not
    # And where a preset changes again, the note knows what it was.
    named = {**note, "settings": {**settings, "change": {}}, "architecture": shape}
    path.write_text(json.dumps(named), encoding="utf-8")
    assert Run.open(tmp_path).settings.architecture().to_dict() == shape


def test_an_unchanged_preset_is_not_spelt_out(tmp_path: Path) -> None:
    run(tmp_path).create()
    assert Run.open(tmp_path).settings == run(tmp_path).settings


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_note_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        Run.open(tmp_path)


def test_before_the_first_epoch_there_is_neither_history_nor_model(tmp_path: Path) -> None:
    run(tmp_path).create()
    with pytest.raises(DataError, match="no epoch has finished yet"):
        _ = run(tmp_path).history
    for which in ("best", "last"):
        with pytest.raises(ModelError, match=f"{which}.safetensors"):
            run(tmp_path).model(which)


def test_a_damaged_history_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("")
    with pytest.raises(DataError, match=r"history\.csv: cannot be read"):
        _ = run(tmp_path).history
