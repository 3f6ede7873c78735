from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import runs
from explanation.scenes import model, smear
from leukonca.cells.decode import content_hash
from leukonca.cells.framing import Framing, frame
from leukonca.errors import ModelError, SettingError
from leukonca.explanation.explained import Call, CellExplanation, Explainer
from leukonca.explanation.relevance import relevance
from leukonca.explanation.similar import index_cells
from leukonca.explanation.target import Target
from leukonca.learning.baselines import Baseline
from leukonca.learning.shapes import BaselineShape
from leukonca.nca.firing import image_id

PICTURE = smear(side=48, cell=(24, 24, 11))[0]
CALL = Call(np.array([0.2, 0.5, 0.3]), 0.01)


def explained(**options: object) -> CellExplanation:
    return Explainer(model(), seeds=1, **options).explain(PICTURE, CALL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1, 2)),
        ({"explained": "eosinophil"}, (0, 1)),
        ({"against": "eosinophil"}, (1, 0)),
        # What is called so itself is held against the next.
        ({"against": "lymphocyte"}, (1, 2)),
        ({"explained": "monocyte", "against": "eosinophil"}, (2, 0)),
    ],
)
def test_which_class_is_explained_against_which(options: dict[str, str], expected: tuple[int, int]) -> None:
    cell = explained(**options)
    assert (cell.explained, cell.against) == expected


def test_relevance_is_that_of_both_logits() -> None:
    trained, cell = model(), explained()
    image = image_id(content_hash(PICTURE))
    inputs = trained.normalised(frame(PICTURE, trained.framing)[None])
    targets = (Target("logit", torch.tensor([1])), Target("class", torch.tensor([1]), torch.tensor([2])))
    for found, target in zip((cell.relevance, cell.contrast), targets, strict=True):
        alone = relevance(trained.network, inputs, torch.tensor([image]), target, seeds=1)  # type: ignore[arg-type]
        assert torch.allclose(found.pixels, alone.pixels, atol=1e-5)
        assert torch.allclose(found.by_site, alone.by_site, atol=1e-4)
        assert float(found.value) == pytest.approx(float(alone.value), abs=1e-5)
        assert float(found.completeness_error[0]) < 1e-5


def test_the_parts_of_the_cell_share_all_that_reached_the_pixels() -> None:
    cell = explained()
    shares = cell.shares(cell.relevance)
    assert list(shares) == ["nucleus", "cytoplasm", "surroundings"]
    assert sum(shares.values()) == pytest.approx(float(cell.relevance.pixels.sum()), abs=1e-5)
    outline = replace(cell.outline, cell=np.zeros((48, 48), bool), nucleus=np.zeros((48, 48), bool))
    nothing = replace(cell, outline=outline).shares(cell.relevance)
    assert (nothing["nucleus"], nothing["cytoplasm"]) == (0, 0)


def test_a_mask_lies_where_the_model_sees_it() -> None:
    cell = replace(explained(), place=(-12.0, 12.0, 48.0, 24.0))
    mask = np.zeros((48, 48), bool)
    mask[12:18, :6] = True
    seen = cell.seen(mask)
    # On the left 12 of 48 px lie outside; 6 px are an eighth of what is seen across, and a quarter down.
    expected = np.zeros((32, 32), bool)
    expected[:8, 8:12] = True
    assert (seen == expected).all()
    assert not cell.seen(np.ones((48, 48), bool))[:, :8].any()


def test_a_picture_that_the_usual_patches_do_not_divide_is_explained_too() -> None:
    trained = model(Framing(30))
    found = Explainer(trained, seeds=1).explain(PICTURE, CALL)
    assert found.relevance.pixels.shape == (1, 3, 30, 30)


def test_channels_and_film_are_those_that_speak_most() -> None:
    cell = explained()
    assert list(cell.evolution.channels) == cell.channels.order[0, :6].tolist()
    assert cell.evolution.steps == 4


def test_reasons_to_look_are_those_of_classify() -> None:
    assert CALL.reasons == ()
    assert replace(CALL, likely=(1,)).reasons == ()
    assert replace(CALL, likely=(1, 2)).reasons == ("ambiguous",)
    assert replace(CALL, likely=(), foreign=True).reasons == ("ambiguous", "foreign")


def test_what_cannot_be_explained_is_refused_at_once() -> None:
    baseline = replace(model(), network=Baseline(BaselineShape("resnet18", 64), 3))
    with pytest.raises(
        ModelError, match=r"looks at the states of an automaton, but this model is a Baseline"
    ):
        Explainer(baseline)
    with pytest.raises(SettingError, match="head='conv'"):
        Explainer(model(Framing(32), head="conv"))
    with pytest.raises(
        SettingError, match="class 'neutrophil' is none of this model's; known: eosinophil, lym"
    ):
        Explainer(model(), explained="neutrophil")
    with pytest.raises(SettingError, match="'monocyte' is held against itself"):
        Explainer(model(), explained="monocyte", against="monocyte")
    with pytest.raises(SettingError, match="seeds=0"):
        Explainer(model(), seeds=0)
    index = index_cells(runs.model(), runs.run().manifest, seeds=1, per_class=1)
    with pytest.raises(ModelError, match="the index of cells: made for another model"):
        Explainer(model(), index=index)
