from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from explanation.scenes import dice, model, smear
from leukonca.cells.framing import Framing
from leukonca.errors import ModelError, SettingError
from leukonca.explanation import segmentation
from leukonca.explanation.segmentation import canvas, otsu, segment
from leukonca.learning.networks import build
from leukonca.learning.shapes import BaselineShape
from reference.thresholds import best_cut, variance_between

FRAMINGS = [
    Framing(32),
    Framing(32, crop=0.6),
    Framing(32, fit="stretch"),
    Framing(32, fit="cell", colour="nucleus"),
]


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
@pytest.mark.parametrize("radius", [14, 22, 34])
def test_a_cell_is_found_whatever_its_size_in_the_picture(framing: Framing, radius: float) -> None:
    picture, cell, nucleus = smear(cell=(48, 48, radius))
    (found,) = segment(model(framing), [picture], seeds=2)
    assert found.cell.shape == found.nucleus.shape == (96, 96)
    assert dice(found.cell, cell) > 0.88
    assert dice(found.nucleus, nucleus) > 0.88
    assert not (found.nucleus & ~found.cell).any()


def test_red_cells_that_touch_are_left_out_where_a_component_takes_them_along() -> None:
    """The reason for another method than the published one."""
    touching = ((48, 12, 17), (48, 84, 17), (13, 48, 16))
    picture, cell, _ = smear(cell=(48, 48, 21), red=touching)
    ours, published = (
        segment(model(), [picture], method=method)[0] for method in ("discriminant", "component")
    )
    assert dice(ours.cell, cell) > 0.9
    assert dice(published.cell, cell) < dice(ours.cell, cell)


def test_the_published_method_finds_a_lonely_cell_with_the_right_sign() -> None:
    picture, cell, _ = smear(red=())
    for seed in range(3):  # of the weights: other channels, other signs
        (found,) = segment(model(seed=seed), [picture], method="component")
        assert dice(found.cell, cell) > 0.75


def test_a_cell_beside_the_middle_is_found_by_the_framing_that_looks_for_it() -> None:
    picture, cell, _ = smear(cell=(34, 62, 17), red=((80, 20, 15),))
    (found,) = segment(model(FRAMINGS[-1]), [picture])
    assert dice(found.cell, cell) > 0.85


def test_masks_come_back_to_pictures_of_any_shape() -> None:
    picture, cell, _ = smear()
    wide = np.pad(picture, ((0, 0), (30, 10), (0, 0)), mode="edge")
    (found,) = segment(model(Framing(32, fit="cell")), [wide])
    assert found.cell.shape == (96, 136)
    assert dice(found.cell[:, 30:-10], cell) > 0.88


def test_a_mask_depends_on_its_own_picture_only() -> None:
    scenes = [smear(seed=seed, cell=(48, 48, 14 + 5 * seed))[0] for seed in range(3)]
    together = segment(model(), scenes, seeds=2)
    for picture, one in zip(scenes, together, strict=True):
        (alone,) = segment(model(), [picture], seeds=2)
        assert (alone.labelled == one.labelled).all()


def test_a_cell_that_an_edge_cuts_is_told() -> None:
    whole, beyond = smear(cell=(48, 48, 22))[0], smear(cell=(40, 84, 22), red=())[0]
    assert not segment(model(), [whole])[0].at_edge
    (found,) = segment(model(), [beyond])
    assert found.at_edge
    assert found.cell[:, -1].any()
    # A picture much wider than high: the canvas is its central square.
    wide = np.pad(beyond, ((0, 0), (60, 60), (0, 0)), mode="edge")
    (found,) = segment(model(), [wide])
    assert found.at_edge
    assert not found.cell[:, :60].any()


def test_an_even_field_holds_no_cell() -> None:
    for fill in (0, 128, 255):
        for framing in FRAMINGS:
            (found,) = segment(model(framing), [np.full((40, 50, 3), fill, dtype=np.uint8)])
            assert not found.cell.any()
            assert np.isnan(found.nucleus_share)


def test_without_a_step_the_picture_itself_is_segmented() -> None:
    picture, cell, _ = smear()
    one, other = (segment(model(seed=seed), [picture], step=0)[0] for seed in (1, 2))
    assert (one.cell == other.cell).all()
    assert dice(one.cell, cell) > 0.9


def test_labels_are_nucleus_cytoplasm_and_rest() -> None:
    (found,) = segment(model(), [smear()[0]])
    assert set(np.unique(found.labelled)) == {0, 128, 255}
    assert ((found.labelled == 255) == found.nucleus).all()
    assert ((found.labelled > 0) == found.cell).all()
    assert found.nucleus_share == found.nucleus.sum() / found.cell.sum()


@pytest.mark.parametrize("patch", [1, 2, 3, 4])
@pytest.mark.parametrize("framing", [Framing(48, crop=crop) for crop in (1.0, 0.75, 0.61)] + FRAMINGS[-1:])
def test_the_canvas_keeps_the_scale_and_has_whole_sites(framing: Framing, patch: int) -> None:
    wide = canvas(framing, patch)
    assert (wide.size - framing.size) % (2 * patch) == 0
    assert wide.size >= framing.size
    if framing.fit == "cell":
        assert wide.reach / wide.size == pytest.approx(framing.reach / framing.size)
        assert wide.reach == pytest.approx(3, abs=2 * framing.reach * patch / framing.size)
    else:
        assert wide.crop / wide.size == pytest.approx(framing.crop / framing.size)
        assert 1 - 2 * patch * framing.crop / framing.size <= wide.crop <= 1


def test_the_discriminant_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    sites = generator.normal(size=(300, 6)) @ generator.normal(size=(6, 6))
    inside, around = (
        np.arange(300) < 120,
        np.arange(300) >= 180,
    )  # as many of each: their covariances count alike
    sites[inside] += generator.normal(size=6)
    ours = segmentation._fisher(sites, inside, around)
    ridge = segmentation._RIDGE
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=ridge / (1 + ridge), priors=[0.5, 0.5])
    known = inside | around
    # It shrinks each class's covariance after scaling: alike where the channels have one scale.
    theirs.fit(sites[known], inside[known])
    scores = theirs.decision_function(sites)
    assert np.corrcoef(ours, scores)[0, 1] > 0.995
    assert (np.sign(ours) == np.sign(scores)).mean() > 0.98


@given(st.lists(st.integers(0, 20), min_size=2, max_size=60))
@settings(max_examples=60, deadline=None)
def test_otsu_parts_as_well_as_the_best_of_all_cuts(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.float64)
    threshold = otsu(values)
    if len(set(numbers)) == 1:
        assert threshold == numbers[0]
    else:
        assert variance_between(values, threshold) == pytest.approx(best_cut(values))


def test_wrong_use_is_refused() -> None:
    picture = smear()[0]
    with pytest.raises(SettingError, match="seeds=0 must be at least 1"):
        segment(model(), [picture], seeds=0)
    with pytest.raises(SettingError, match="method 'kmeans' is unknown; known: discriminant, component"):
        segment(model(), [picture], method="kmeans")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="step=5: this model has 4 steps; give 0 to 4"):
        segment(model(), [picture], step=5)
    assert segment(model(), []) == []


def test_a_network_without_states_is_refused() -> None:
    pytest.importorskip("monai")
    resnet = build(BaselineShape("resnet18"), 3)
    with pytest.raises(ModelError, match="segmentation looks at the states of an automaton"):
        segment(replace(model(), network=resnet), [smear()[0]])
