from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from leukonca.api import load
from leukonca.cells.decode import decode
from leukonca.errors import ModelError, SettingError
from leukonca.learning.imported import import_published
from leukonca.nca.published import PUBLISHED_CLASSES
from reference import paper

CHANNELS, HIDDEN, STEPS, SIZE = 16, 8, 6, 16
MEAN, STD = (0.7, 0.6, 0.8), (0.2, 0.25, 0.15)


def released() -> dict[str, Tensor]:
    """A MaxNCA under the released names, small and random."""
    draw = torch.Generator().manual_seed(1)
    shapes = {
        "p0": (CHANNELS, 1, 3, 3),
        "p1": (CHANNELS, 1, 3, 3),
        "fc0": (HIDDEN, 3 * CHANNELS),
        "fc1": (CHANNELS, HIDDEN),
        "fc2": (HIDDEN, CHANNELS),
        "fc3": (13, HIDDEN),
    }
    tensors = {f"{name}.weight": torch.randn(shape, generator=draw) * 0.15 for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if name != "fc1":
            tensors[f"{name}.bias"] = torch.randn(shape[0], generator=draw) * 0.15
    return tensors


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(released(), tmp_path / "max_nca.pth")
    return tmp_path / "max_nca.pth"


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    # Of the size that the model sees, so that nothing is resized; rows and columns differ.
    pixels = np.random.default_rng(2).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    pixels[::3] //= 3
    Image.fromarray(pixels).save(tmp_path / "cell.png")
    return tmp_path / "cell.png"


def expected_logits(cell: Path, mean: Any, std: Any) -> np.ndarray:
    picture = decode(cell) / 255
    if mean is None:
        mean, std = picture.mean((0, 1)), picture.std((0, 1))
    weights = {name: tensor.double().numpy() for name, tensor in released().items()}
    state = paper.run((picture - np.array(mean)) / np.array(std), weights, STEPS)
    return paper.max_head(state, weights)


@pytest.mark.parametrize("statistics", [{}, {"mean": MEAN, "std": STD}])
def test_the_file_that_is_written_names_cells_as_the_paper_does(
    checkpoint: Path, cell: Path, tmp_path: Path, statistics: Any
) -> None:
    out = tmp_path / "models" / "paper.safetensors"
    import_published(checkpoint, out, steps=STEPS, firing=1.0, size=SIZE, **statistics)
    model = load(out)
    expected = expected_logits(cell, statistics.get("mean"), statistics.get("std"))
    trained = model.trained
    with torch.no_grad():
        logits = trained.network(trained.normalised(decode(cell)[None]), torch.tensor([0]), 0)[0]
    np.testing.assert_allclose(logits.double().numpy(), expected, rtol=0, atol=1e-4)
    # And the whole way, from the file of the picture: the sigmoid scores of the paper, made a distribution.
    scores = 1 / (1 + np.exp(-expected))
    found = model.views(1).classify(cell)
    np.testing.assert_allclose(found.probabilities[0], scores / scores.sum(), rtol=0, atol=1e-5)
    assert found.labels == [PUBLISHED_CLASSES[int(expected.argmax())]]
    assert np.isnan(found.spread).all()  # every site fires: there is one run


def test_what_the_model_says_of_itself(checkpoint: Path, tmp_path: Path) -> None:
    plain = import_published(checkpoint, tmp_path / "a.safetensors", steps=STEPS, size=SIZE)
    given = import_published(
        checkpoint, tmp_path / "b.safetensors", steps=STEPS, size=SIZE, mean=MEAN, std=STD
    )
    assert (plain.normalisation, plain.statistics) == ("picture", None)
    assert given.normalisation == "training"
    assert given.statistics is not None
    assert (given.statistics.mean, given.statistics.std) == (MEAN, STD)
    for model in (plain, load(tmp_path / "a.safetensors").trained):
        assert model.classes == PUBLISHED_CLASSES
        assert (model.framing.size, model.framing.fit) == (SIZE, "stretch")
        assert model.loss == "bce"
        assert model.network.architecture.firing == 0.5
        assert model.provenance["imported_from"] == "max_nca.pth"
        assert "arXiv:2404.05584" in model.provenance["citations"][0]
        assert not len(model.seen_training)


def test_a_checkpoint_in_safetensors_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    safetensors.torch.save_file(released(), tmp_path / "max_nca.safetensors")
    models = [
        import_published(source, tmp_path / "out.safetensors", steps=STEPS, size=SIZE)
        for source in (checkpoint, tmp_path / "max_nca.safetensors")
    ]
    for name, value in models[0].network.state_dict().items():
        assert torch.equal(value, models[1].network.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": MEAN}, "mean and std belong together"),
        ({"std": STD}, "mean and std belong together"),
        ({"mean": (0.5, 0.5), "std": STD}, "must be three numbers each"),
        ({"mean": MEAN, "std": (0.1, -0.1, 0.1)}, "at least 0"),
        ({"mean": (0.1, float("nan"), 0.1), "std": STD}, "finite"),
        ({"steps": 0}, "steps"),
        ({"firing": 0.0}, "firing"),
        ({"firing": 1.5}, "firing"),
        ({"size": 2}, "size"),
    ],
)
def test_wrong_options_are_refused(checkpoint: Path, tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        import_published(checkpoint, tmp_path / "out.safetensors", **options)
    assert not (tmp_path / "out.safetensors").exists()


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("bare", [True, False])
def test_no_code_of_the_file_is_run(tmp_path: Path, bare: bool) -> None:
    trace, file = tmp_path / "trace", tmp_path / "hostile.pth"
    content = {**released(), "extra": Hostile(trace)}
    if bare:
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(ModelError) as caught:
        import_published(file, tmp_path / "out.safetensors")
    assert str(file) in str(caught.value)
    assert not trace.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_is_no_such_checkpoint_is_named(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3)}, file)
    with pytest.raises(ModelError, match=r"other\.pth: state dict is not that of a released automaton"):
        import_published(file, tmp_path / "out.safetensors")
    with pytest.raises(ModelError, match=r"none\.pth: cannot be read"):
        import_published(tmp_path / "none.pth", tmp_path / "out.safetensors")


def test_where_the_model_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        import_published(checkpoint, checkpoint / "out.safetensors", steps=STEPS, size=SIZE)
