from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from leukonca.errors import ModelError, SettingError
from leukonca.nca.classifier import CellClassifier
from leukonca.nca.published import PUBLISHED_CLASSES, from_state_dict, load_state_dict_file
from leukonca.vocabulary import CLASS_SETS
from reference import paper
from reference.firing import grid_fires

HEADS = {"MaxNCA": paper.max_head, "SimpleNCA": paper.simple_head, "ConvNCA": paper.conv_head}
COUNTS = {"MaxNCA": 86_413, "SimpleNCA": 68_224, "ConvNCA": 2_544_461}


def released(variant: str, *, side: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """A state dict with the names and shapes of the released code; random, so that 64 steps stay finite."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, bound: float) -> Tensor:
        return (torch.rand(shape, generator=draw) * 2 - 1) * bound

    channels = 64 if variant == "ConvNCA" else 128
    tensors = {
        "fc0.weight": uniform(128, 3 * channels, bound=0.1),
        "fc0.bias": uniform(128, bound=0.1),
        "fc1.weight": uniform(channels, 128, bound=0.03),
    }
    for name in ("p0", "p1"):
        tensors[f"{name}.weight"] = uniform(channels, 1, 3, 3, bound=0.4)
        tensors[f"{name}.bias"] = uniform(channels, bound=0.4)
    dense = {"MaxNCA": ((128, 128), (13, 128)), "ConvNCA": ((512, 256 * (side // 16) ** 2), (13, 512))}
    for name, shape in zip(("fc2", "fc3"), dense.get(variant, ()), strict=False):
        tensors[f"{name}.weight"] = uniform(*shape, bound=shape[1] ** -0.5)
        tensors[f"{name}.bias"] = uniform(shape[0], bound=0.1)
    if variant == "ConvNCA":
        for name, after, before in (("conv1", 64, 64), ("conv2", 128, 64), ("conv3", 256, 128)):
            tensors[f"{name}.weight"] = uniform(after, before, 3, 3, bound=0.1)
            tensors[f"{name}.bias"] = uniform(after, bound=0.04)
    return tensors


def picture(rows: int, columns: int) -> np.ndarray:
    """Noise and stripes, which look different when rows and columns are swapped."""
    stripes = np.sin(np.arange(rows) * 1.5)[:, np.newaxis, np.newaxis]
    return np.random.default_rng(3).normal(size=(rows, columns, 3)) + 2 * stripes


def reference_logits(
    variant: str, tensors: dict[str, Tensor], cell: np.ndarray, steps: int, fires_at: Any = None
) -> np.ndarray:
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    return HEADS[variant](paper.run(cell, weights, steps, fires_at), weights)


def logits(classifier: CellClassifier, cell: np.ndarray, *, image: int = 0, seed: int = 0) -> np.ndarray:
    pictures = torch.from_numpy(cell).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        return classifier(pictures, torch.tensor([image]), seed)[0].double().numpy()


def test_classes_are_those_of_the_paper() -> None:
    assert CLASS_SETS["thirteen"] == PUBLISHED_CLASSES


@pytest.mark.parametrize("variant", HEADS)
def test_variant_is_recognised(variant: str) -> None:
    classifier = from_state_dict(released(variant))
    assert classifier.parameter_count == COUNTS[variant]
    assert classifier.classes == 13
    assert not classifier.training


@pytest.mark.parametrize(
    ("variant", "rows", "columns", "steps"),
    [
        # A grid that is not square shows swapped rows and columns, 64 steps show what accumulates.
        ("MaxNCA", 20, 24, 64),
        ("SimpleNCA", 20, 24, 64),
        ("MaxNCA", 64, 64, 5),
        ("ConvNCA", 64, 64, 5),
    ],
)
def test_logits_equal_the_slow_formulation(variant: str, rows: int, columns: int, steps: int) -> None:
    tensors, cell = released(variant), picture(rows, columns)
    expected = reference_logits(variant, tensors, cell, steps)
    found = logits(from_state_dict(tensors, steps=steps, firing=1.0), cell)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["MaxNCA", "SimpleNCA"])
def test_logits_equal_the_slow_formulation_with_random_firing(variant: str) -> None:
    tensors, cell = released(variant), picture(10, 13)
    seed, image = 2**40 + 5, 2**61 + 12345
    expected = reference_logits(
        variant, tensors, cell, 24, lambda step: grid_fires(seed, image, step, 10, 13, 0.5)
    )
    found = logits(from_state_dict(tensors, steps=24), cell, image=image, seed=seed)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def untransposed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {name: tensors[name].transpose(-1, -2) for name in ("p0.weight", "p1.weight")}


def swapped_perception(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    state, a, b = tensors["fc0.weight"].chunk(3, dim=1)
    return tensors | {"fc0.weight": torch.cat((state, b, a), dim=1)}


def state_last(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    state, a, b = tensors["fc0.weight"].chunk(3, dim=1)
    return tensors | {"fc0.weight": torch.cat((a, b, state), dim=1)}


@pytest.mark.parametrize("variant", HEADS)
@pytest.mark.parametrize("mistake", [untransposed, swapped_perception, state_last])
def test_the_comparison_would_notice(
    variant: str, mistake: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    """Each way to get the import wrong moves the logits far beyond the tolerance."""
    tensors, cell = released(variant, side=32), picture(32, 32)
    right = reference_logits(variant, tensors, cell, 8)
    wrong = logits(from_state_dict(mistake(tensors), steps=8, firing=1.0, size=32), cell)
    assert np.abs(wrong - right).max() > 1e-2


def test_other_widths_follow_from_the_shapes() -> None:
    tensors = {
        "p0.weight": torch.ones(10, 1, 3, 3),
        "p0.bias": torch.ones(10),
        "p1.weight": torch.ones(10, 1, 3, 3),
        "p1.bias": torch.ones(10),
        "fc0.weight": torch.ones(7, 30),
        "fc0.bias": torch.ones(7),
        "fc1.weight": torch.ones(10, 7),
        "fc2.weight": torch.ones(9, 10),
        "fc2.bias": torch.ones(9),
        "fc3.weight": torch.ones(5, 9, dtype=torch.float64),
        "fc3.bias": torch.ones(5, dtype=torch.float16),
    }
    classifier = from_state_dict(tensors, steps=3, size=16)
    shape = classifier.architecture
    assert (shape.channels, shape.hidden, shape.head_hidden, classifier.classes) == (10, 7, 9, 5)
    assert (shape.steps, shape.size) == (3, 16)
    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}


def test_import_leaves_the_callers_random_numbers_and_tensors_alone() -> None:
    tensors = released("MaxNCA")
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    state = torch.get_rng_state()
    classifier = from_state_dict(tensors)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.zero_()
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)


def without(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def with_value(name: str, index: tuple[int, ...], value: float) -> Callable[[dict[str, Tensor]], Any]:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors[name][index] = value
        return tensors

    return change


def replacing(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: tensors | {name: tensor}


@pytest.mark.parametrize(
    ("variant", "change", "words"),
    [
        ("MaxNCA", without("fc3.bias"), ["missing fc3.bias", "MaxNCA"]),
        ("MaxNCA", replacing("extra", torch.ones(1)), ["unexpected extra"]),
        ("ConvNCA", without("conv2.weight"), ["missing conv2.weight", "ConvNCA"]),
        ("SimpleNCA", without("p1.bias"), ["missing p1.bias", "SimpleNCA"]),
        ("SimpleNCA", lambda _: {"layer1.weight": torch.ones(2)}, ["missing p0.weight", "layer1.weight"]),
        ("SimpleNCA", lambda _: {}, ["missing p0.weight"]),
        ("MaxNCA", replacing("fc1.weight", torch.ones(128, 64)), ["fc1.weight", "[128, 64]", "[128, 128]"]),
        ("MaxNCA", replacing("p0.weight", torch.ones(128, 3, 3)), ["p0.weight", "[128, 1, 3, 3]"]),
        ("MaxNCA", replacing("p0.weight", torch.tensor(1.0)), ["p0.weight", "[]"]),
        ("MaxNCA", replacing("fc3.weight", torch.ones(1, 128)), ["fc3.weight", "at least 2"]),
        ("SimpleNCA", replacing("p0.weight", torch.ones(15, 1, 3, 3)), ["p0.weight", "at least 16"]),
        ("ConvNCA", replacing("fc2.weight", torch.ones(512, 1024)), ["[512, 1024]", "[512, 4096]", "64 px"]),
        ("MaxNCA", with_value("fc0.weight", (3, 4), float("nan")), ["fc0.weight", "[128, 384]", "1 value"]),
        ("MaxNCA", with_value("p1.bias", (7,), float("inf")), ["p1.bias", "infinite"]),
        ("MaxNCA", replacing("fc3.bias", torch.ones(13, dtype=torch.int64)), ["fc3.bias", "int64"]),
        ("MaxNCA", replacing("fc3.bias", torch.ones(13, device="meta")), ["fc3.bias", "meta"]),
        ("MaxNCA", replacing("fc3.bias", torch.ones(13).to_sparse()), ["fc3.bias", "sparse"]),
    ],
)
def test_wrong_state_dict_is_refused_by_name(
    variant: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], words: list[str]
) -> None:
    with pytest.raises(ModelError) as caught:
        from_state_dict(change(released(variant)))
    assert [word for word in words if word not in str(caught.value)] == []


def test_absurd_shapes_take_no_memory() -> None:
    huge = torch.ones(1).expand(10**9, 1, 3, 3)
    with pytest.raises(ModelError, match=r"p0\.bias"):
        from_state_dict(released("MaxNCA") | {"p0.weight": huge})


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingError, match="steps=0"):
        from_state_dict(released("SimpleNCA"), steps=0)


# Files


def save_zip(value: object, file: Path) -> None:
    torch.save(value, file)


def save_legacy(value: object, file: Path) -> None:
    torch.save(value, file, _use_new_zipfile_serialization=False)


def save_safetensors(value: Any, file: Path) -> None:
    safetensors.torch.save_file(value, file)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_safetensors])
def test_file_is_known_by_content(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    tensors, file = released("SimpleNCA"), tmp_path / "größe.anything"
    save(tensors, file)
    found = load_state_dict_file(file)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("length", range(0x4B50 - 8, 0x4B50 + 9, 8))
def test_safetensors_header_length_may_look_like_another_format(tmp_path: Path, length: int) -> None:
    """0x4B50 in the first two bytes reads "PK", as a zip archive begins."""
    file = tmp_path / "weights"
    plain = safetensors.torch.save({"a": torch.ones(2)}, metadata={"pad": ""})
    header = int.from_bytes(plain[:8], "little")
    text = plain[8 : 8 + header].rstrip().ljust(length)
    file.write_bytes(length.to_bytes(8, "little") + text + plain[8 + header :])
    assert torch.equal(load_state_dict_file(file)["a"], torch.ones(2))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_nested_state_dict_is_found(tmp_path: Path, key: str) -> None:
    file = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 32, key: {"a": torch.ones(2)}, "optimizer": {"state": {}}}, file)
    assert torch.equal(load_state_dict_file(file)["a"], torch.ones(2))


class Hostile:
    """Unpickling it creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "save", [save_zip, save_legacy, lambda value, file: file.write_bytes(pickle.dumps(value))]
)
def test_hostile_file_is_refused_and_runs_nothing(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    trace, file = tmp_path / "trace", tmp_path / "hostile.pt"
    save({"p0.weight": Hostile(trace)}, file)
    with pytest.raises(ModelError, match=r"hostile\.pt: .*refused"):
        load_state_dict_file(file)
    assert not trace.exists()


def test_the_hostile_file_would_act_if_it_were_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Hostile(trace)))
    assert trace.exists()


def test_tensor_that_claims_more_than_its_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "forged.pt"
    torch.save({"p0.weight": torch.ones(1).expand(10**9, 1, 3, 3)}, file)
    with pytest.raises(ModelError, match=r"forged\.pt: claims 36000000000 bytes"):
        load_state_dict_file(file)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_safetensors])
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path: Path, save: Callable[[Any, Path], None], share: float) -> None:
    whole, file = tmp_path / "whole", tmp_path / "part"
    save(released("SimpleNCA"), whole)
    content = whole.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match="part: is truncated or broken"):
        load_state_dict_file(file)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_safetensors])
def test_damaged_file_loads_or_is_refused_but_never_crashes(
    tmp_path: Path, save: Callable[[Any, Path], None]
) -> None:
    file = tmp_path / "damaged"
    save({"a": torch.ones(2, 3), "b": torch.zeros(4)}, file)
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    draw = np.random.default_rng(5)
    refused = 0
    for _ in range(60):
        damaged = whole.copy()
        places = draw.integers(len(whole), size=4)
        damaged[places] = draw.integers(256, size=4)
        file.write_bytes(damaged.tobytes())
        try:
            load_state_dict_file(file)
        except ModelError:
            refused += 1
    assert refused > 0


def test_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pictures.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ModelError, match=r"pictures\.zip: "):
        load_state_dict_file(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"x", "neither"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither"),
        (b"path,label\na.png,basophil\n", "neither"),
    ],
)
def test_foreign_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "foreign.pt"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=rf"foreign\.pt: .*{words}"):
        load_state_dict_file(file)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(3), "of type Tensor"),
        ([1, 2], "of type list"),
        ({}, "an empty dict"),
        ({"state_dict": {}}, "an empty dict"),
        ({"epoch": 3}, "'epoch' is of type int"),
        ({1: torch.ones(1)}, "entry 1 is"),
    ],
)
def test_saved_value_that_is_no_state_dict_is_refused(tmp_path: Path, value: object, words: str) -> None:
    file = tmp_path / "value.pt"
    torch.save(value, file)
    with pytest.raises(ModelError, match=rf"value\.pt: .*{words}"):
        load_state_dict_file(file)


def test_absent_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            load_state_dict_file(path)
