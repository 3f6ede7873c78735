from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from micro import micro, write_cells

from leukonca.errors import SettingError
from leukonca.learning.distillation import Teachers, distance, load_teachers
from leukonca.learning.run import Run
from leukonca.learning.settings import ArchitectureChanges, Settings
from leukonca.learning.training import train


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_cells(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def teacher(cells: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train([cells], tmp_path_factory.mktemp("teacher") / "run", micro())


def file_of(run: Run) -> str:
    return str(run.folder / "best.safetensors")


def test_the_distance_is_the_divergence_of_softened_answers() -> None:
    draw = np.random.default_rng(0)
    student, teaching = draw.normal(size=(2, 5, 4))

    def softened(logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits / 3)
        return powers / powers.sum(1, keepdims=True)

    p, q = softened(teaching), softened(student)
    expected = 9 * (p * np.log(p / q)).sum(1).mean()
    found = distance(torch.tensor(student), torch.tensor(p).float(), 3.0)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(distance(torch.tensor(teaching), torch.tensor(p).float(), 3.0)) == pytest.approx(0, abs=1e-6)


def test_the_gradient_keeps_its_size_whatever_the_temperature() -> None:
    answer = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    sizes = []
    for temperature in (8.0, 16.0):
        logits = torch.zeros(2, 2, requires_grad=True)
        distance(logits, answer, temperature).backward()
        sizes.append(float(logits.grad.norm()) / temperature)  # type: ignore[union-attr]
    # Of hard answers the divergence itself grows with the temperature; the square takes one power away.
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4)


def test_several_teachers_answer_with_their_mean(teacher: Run) -> None:
    model = teacher.model()
    other = replace(model, network=teacher.model("last").network)
    pictures, images = torch.rand(4, 3, 16, 16), torch.arange(4)
    each = [Teachers([one], 2.0).answer(pictures, images, 7) for one in (model, other)]
    both = Teachers([model, other], 2.0).answer(pictures, images, 7)
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    torch.testing.assert_close(both.sum(1), torch.ones(4))


def test_a_student_of_teachers_alone_does_not_ask_the_labels(
    cells: str, teacher: Run, tmp_path: Path
) -> None:
    runs = [
        train(
            [cells],
            tmp_path / str(smoothing),
            micro(teachers=(file_of(teacher),), distill=1.0, label_smoothing=smoothing),
        )
        for smoothing in (0.0, 0.4)
    ]
    one, other = (list(run.model("last").network.parameters()) for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_run_tells_its_teachers(cells: str, teacher: Run, tmp_path: Path) -> None:
    run = train([cells], tmp_path / "run", micro(teachers=(file_of(teacher),), epochs=1))
    (told,) = run.model().provenance["teachers"]
    assert told["parameters"] == teacher.model().network.parameter_count
    assert Settings.from_dict(run.settings.to_dict()) == run.settings


def test_teachers_change_what_is_learnt(cells: str, teacher: Run, tmp_path: Path) -> None:
    run = train([cells], tmp_path / "student", micro(teachers=(file_of(teacher),), distill=0.9))
    one, other = (list(r.model("last").network.parameters()) for r in (run, teacher))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 0.9}, "sees its pictures as .*; train the teacher with the student's fit"),
        ({"seed": 7}, "was trained on .* cells that this run holds out"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_and_leaves_no_folder(
    changes: dict[str, object], message: str, cells: str, teacher: Run, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        train([cells], tmp_path / "run", micro(teachers=(file_of(teacher),), **changes))
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_size_sees_the_picture_resized(cells: str, teacher: Run, tmp_path: Path) -> None:
    larger = ArchitectureChanges(size=32, patch=2, channels=16, hidden=8, steps=3, head_hidden=8)
    run = train([cells], tmp_path / "run", micro(teachers=(file_of(teacher),), change=larger, epochs=1))
    assert run.model().framing.size == 32
    model = teacher.model()
    flat = torch.full((1, 3, 32, 32), 0.4)
    flat[:, 1] = 0.7
    small, ids = flat[:, :, :16, :16], torch.tensor([5])
    answers = [Teachers([model], 1.0).answer(pictures, ids, 0) for pictures in (flat, small)]
    torch.testing.assert_close(answers[0], answers[1])


def test_other_classes_are_refused(teacher: Run) -> None:
    model = teacher.model()
    with pytest.raises(
        SettingError, match=r"knows the classes lymphocyte, .* is to learn basophil, monocyte"
    ):
        load_teachers(
            [file_of(teacher)],
            2.0,
            classes=("basophil", "monocyte"),
            framing=model.framing,
            held_out=np.empty(0, dtype=np.int64),
        )


def test_a_missing_teacher_is_named(cells: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"teachers: .*gone\.safetensors: is not a file"):
        train([cells], tmp_path / "run", micro(teachers=(str(tmp_path / "gone.safetensors"),)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": "a.safetensors"}, "a list of model files"),
        ({"teachers": ("a",), "loss": "bce"}, "empty with loss='bce'"),
        ({"distill": 0}, r"in \(0, 1\]"),
        ({"distill_temperature": 0.0}, "above 0"),
        ({"distill": "x"}, "a number"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        micro(**changes)
