from __future__ import annotations

import logging
from pathlib import Path

import pytest

import runs
from explanation.scenes import model
from leukonca.errors import ModelError
from leukonca.explanation.companions import find_index, find_probes, index_file, probes_file
from leukonca.explanation.similar import index_cells


def test_what_lies_beside_the_model_is_found(tmp_path: Path) -> None:
    file, trained = tmp_path / "my.best.safetensors", runs.model()
    assert probes_file(file) == tmp_path / "my.best.probes.safetensors"
    assert index_file(file) == tmp_path / "my.best.cells.safetensors"
    assert probes_file("model.v2") == Path("model.v2.probes.safetensors")
    assert find_index(trained, file, None) is None
    assert find_probes(trained, None, None) is None
    index_cells(trained, runs.run().manifest, seeds=1, per_class=1).save(index_file(file))
    found = find_index(trained, file, None)
    assert found is not None
    assert len(found) == 3


def test_those_of_another_model_are_left_alone_or_refused_where_they_were_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "model.safetensors"
    index_cells(runs.model(), runs.run().manifest, seeds=1, per_class=1).save(index_file(file))
    probes_file(file).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert find_index(model(), file, None) is None
        assert find_probes(model(), file, None) is None
    assert "without the index of cells: " in caplog.text
    assert "made for another model than this one" in caplog.text
    assert "without the probes of morphology: " in caplog.text
    with pytest.raises(ModelError, match=r"model\.cells\.safetensors: made for another model"):
        find_index(model(), file, index_file(file))
    with pytest.raises(ModelError, match="no such file"):
        find_probes(model(), file, tmp_path / "none")
