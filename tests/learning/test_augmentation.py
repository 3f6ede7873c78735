from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from leukonca.errors import SettingError
from leukonca.learning.augmentation import PRESETS, Augmentation, augment, draw, preset, views
from leukonca.learning.geometry import centre_crop

OFF = PRESETS["none"]
SIZE = 24
STRENGTHS = {
    "flip": True,
    "rotate": 180.0,
    "scale": 0.3,
    "shift": 0.2,
    "brightness": 0.2,
    "contrast": 0.3,
    "saturation": 0.5,
    "hue": 20.0,
    "stain": 0.4,
    "blur": 1.5,
    "noise": 0.1,
    "gamma": 0.4,
    "crosstalk": 0.1,
    "blue_loss": 1.0,
    "cut": 1.0,
    "grey": 0.7,
}


def only(*names: str) -> Augmentation:
    return dataclasses.replace(OFF, **{name: STRENGTHS[name] for name in names})


def smooth(count: int = 16, side: int = 32) -> torch.Tensor:
    """Smooth coloured pictures in middle tones: interpolation is exact enough, nothing clamps."""
    raw = np.random.default_rng(3).random((count, 3, side, side))
    soft = ndimage.gaussian_filter(raw, (0, 0, 2, 2))
    return torch.from_numpy(0.5 + 1.5 * (soft - soft.mean())).clamp(0.3, 0.7).float()


def disc(side: int = 64, radius: float = 8.0, count: int = 16) -> torch.Tensor:
    """A dark disc with a soft border on a light ground."""
    axis = torch.arange(side) - (side - 1) / 2
    distance = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    return (1 - 0.5 * torch.sigmoid((radius - distance) / 0.7)).expand(count, 3, side, side).contiguous()


SEEDS = torch.arange(1000, 1016)


def run(canvas: torch.Tensor, augmentation: Augmentation, size: int = SIZE) -> torch.Tensor:
    return augment(canvas, augmentation, size, seeds=SEEDS[: len(canvas)])


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Augmentation)])
def test_each_augmentation_acts_on_what_is_returned(name: str) -> None:
    # The paper's released code applied its augmentations to arrays on which they did nothing.
    canvas = smooth()
    before = canvas.clone()
    plain, varied = run(canvas, OFF), run(canvas, only(name))
    changed = (plain - varied).abs().amax((1, 2, 3)) > 1e-4
    # One symmetry of the eight is the identity, and some strengths drawn are next to nothing.
    assert changed.sum() >= 12
    assert torch.equal(canvas, before)


def test_none_is_the_centre_crop_and_a_copy() -> None:
    canvas = smooth()
    result = run(canvas, OFF)
    assert torch.equal(result, canvas[:, :, 4:28, 4:28])
    result.zero_()
    assert canvas.min() > 0


def test_flip_gives_exactly_the_symmetry_drawn_and_all_of_them() -> None:
    canvas = smooth(side=33)
    seen = views(canvas, SIZE)
    result = run(canvas, only("flip"))
    numbers = draw(only("flip"), SEEDS).symmetry
    for place, number in enumerate(numbers.tolist()):
        assert torch.equal(result[place], seen[number, place])
    counts = torch.bincount(draw(only("flip"), torch.arange(8000)).symmetry, minlength=8)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_flip_is_the_same_when_the_picture_is_resampled_too() -> None:
    canvas = smooth()
    barely = dataclasses.replace(only("flip"), shift=1e-9)
    torch.testing.assert_close(run(canvas, barely), run(canvas, only("flip")), atol=1e-5, rtol=0)


def test_rotation_is_by_the_angle_drawn() -> None:
    canvas = smooth()
    result = run(canvas, only("rotate"))
    for place, angle in enumerate(draw(only("rotate"), SEEDS).angle.tolist()):
        turned = ndimage.rotate(canvas[place].numpy(), angle, (2, 1), reshape=False, order=1, mode="reflect")
        np.testing.assert_allclose(result[place].numpy(), turned[:, 4:28, 4:28], atol=1e-4)


def test_shift_moves_the_centroid_by_the_share_drawn() -> None:
    result = run(disc(), only("shift"), 48)
    dark = 1 - result[:, 0]
    axis = torch.arange(48) - 23.5
    x = (dark * axis).sum((1, 2)) / dark.sum((1, 2))
    y = (dark * axis[:, None]).sum((1, 2)) / dark.sum((1, 2))
    moved = draw(only("shift"), SEEDS).shift * 48
    torch.testing.assert_close(torch.stack((x, y), 1), moved.float(), atol=0.02, rtol=0)
    assert moved.abs().max() > 5


def test_scale_multiplies_the_area_by_the_square_of_the_factor() -> None:
    plain, result = run(disc(), OFF, 48), run(disc(), only("scale"), 48)
    ratio = (1 - result).sum((1, 2, 3)) / (1 - plain).sum((1, 2, 3))
    factor = draw(only("scale"), SEEDS).factor
    torch.testing.assert_close(ratio, (factor**2).float(), rtol=0.01, atol=0)
    assert factor.min() < 0.9
    assert factor.max() > 1.1


def test_brightness_multiplies_the_mean() -> None:
    canvas = smooth()
    ratio = run(canvas, only("brightness")).mean((1, 2, 3)) / run(canvas, OFF).mean((1, 2, 3))
    torch.testing.assert_close(ratio, draw(only("brightness"), SEEDS).brightness.float())


def test_contrast_multiplies_the_spread_and_keeps_the_mean() -> None:
    canvas = smooth()
    grey = canvas[:, :1].expand(-1, 3, -1, -1)
    plain, result = run(grey, OFF), run(grey, only("contrast"))
    torch.testing.assert_close(
        result.std((1, 2, 3)) / plain.std((1, 2, 3)), draw(only("contrast"), SEEDS).contrast.float()
    )
    torch.testing.assert_close(result.mean((1, 2, 3)), plain.mean((1, 2, 3)))


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_saturation_and_hue_keep_luma(name: str) -> None:
    canvas = smooth()
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    plain, result = run(canvas, OFF), run(canvas, only(name))
    torch.testing.assert_close((result * weights).sum(1), (plain * weights).sum(1), atol=1e-4, rtol=0)


def test_saturation_multiplies_chroma() -> None:
    canvas = smooth()

    def chroma(batch: torch.Tensor) -> torch.Tensor:
        return (batch[:, 0] - batch[:, 1]).square().mean((1, 2)).sqrt()

    ratio = chroma(run(canvas, only("saturation"))) / chroma(run(canvas, OFF))
    torch.testing.assert_close(ratio, draw(only("saturation"), SEEDS).saturation.float(), rtol=1e-3, atol=0)


def test_stain_changes_absorbance_as_drawn() -> None:
    canvas = smooth()
    drawn = draw(only("stain"), SEEDS)
    result = run(canvas, only("stain")).double()
    dyes = np.array([[0.834750233, 0.513556283, 0.196330403], [0.092789, 0.954111, 0.283111], [0, 0, 0]])
    dyes[:2] /= np.linalg.norm(dyes[:2], axis=1, keepdims=True)
    dyes[2] = np.cross(dyes[0], dyes[1])
    for place in range(16):
        absorbance = -np.log(run(canvas, OFF)[place].double().numpy()).reshape(3, -1)
        amounts = np.linalg.solve(dyes.T, absorbance)
        amounts *= np.array([drawn.blue[place], drawn.eosin[place], 1.0])[:, None]
        expected = drawn.gain[place].numpy()[:, None] * (dyes.T @ amounts)
        expected += drawn.offset[place].numpy()[:, None]
        np.testing.assert_allclose(
            result[place].reshape(3, -1).numpy(), np.exp(-expected).clip(0, 1), atol=1e-5
        )


def test_stain_tints_the_background_by_the_offset_alone() -> None:
    white = torch.ones(16, 3, 8, 8)
    result = run(white, only("stain"), 8)
    expected = torch.exp(-draw(only("stain"), SEEDS).offset).clamp(max=1).float()
    torch.testing.assert_close(result[:, :, 0, 0], expected)


def test_blur_lowers_the_gradient_energy_with_sigma() -> None:
    canvas = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def energy(batch: torch.Tensor) -> torch.Tensor:
        return batch.diff(dim=3).square().mean((1, 2, 3)) + batch.diff(dim=2).square().mean((1, 2, 3))

    ratio = energy(run(canvas, only("blur"))) / energy(run(canvas, OFF))
    assert (ratio < 1).all()
    sigma = draw(only("blur"), SEEDS).sigma
    assert stats.spearmanr(sigma.numpy(), ratio.numpy()).statistic < -0.95
    assert ratio.min() < 0.1


def test_noise_has_the_deviation_drawn() -> None:
    canvas = torch.full((16, 3, 32, 32), 0.5)
    noise = run(canvas, only("noise"), 32) - 0.5
    torch.testing.assert_close(
        noise.std((1, 2, 3)), draw(only("noise"), SEEDS).deviation.float(), rtol=0.05, atol=0
    )


def test_draws_cover_their_ranges_uniformly() -> None:
    strengths = Augmentation(**STRENGTHS)
    drawn = draw(strengths, torch.arange(3000))
    log = {"factor": "scale", "brightness": "brightness", "contrast": "contrast", "saturation": "saturation"}
    ranges = {
        name: (-math.log1p(v), 2 * math.log1p(v))
        for name, v in ((name, STRENGTHS[field]) for name, field in log.items())
    }
    ranges |= {name: (-math.log1p(0.4), 2 * math.log1p(0.4)) for name in ("blue", "eosin")}
    ranges |= {"gain": (-math.log1p(0.2), 2 * math.log1p(0.2))}
    ranges |= {"gamma": (-math.log1p(0.4), 2 * math.log1p(0.4))}
    logarithmic = set(ranges)
    ranges |= {"angle": (-180.0, 360.0), "shift": (-0.2, 0.4), "hue": (-20.0, 40.0), "offset": (-0.1, 0.2)}
    ranges |= {"sigma": (0.0, 1.5), "deviation": (0.0, 0.1), "blue_left": (0.0, 0.9)}
    others = {"symmetry", "crosstalk", "edges"}
    assert set(ranges) | others == {field.name for field in dataclasses.fields(drawn)}
    for name, (start, width) in ranges.items():
        values = getattr(drawn, name).reshape(3000, -1)
        values = values.log() if name in logarithmic else values
        for values_of_one in values.T.numpy():
            assert stats.kstest(values_of_one, "uniform", (start, width)).pvalue > 1e-3, name


def test_colour_fades_towards_one_mixture() -> None:
    matrices = draw(only("grey"), torch.arange(4000)).crosstalk
    assert torch.allclose(matrices.sum(2), torch.ones(4000, 3, dtype=torch.float64))  # grey stays as it is
    untouched = (matrices == torch.eye(3)).all(2).all(1)
    assert abs(untouched.double().mean() - 0.3) < 0.03
    # All three channels are the same where colour is gone: in half of what fades.
    gone = (matrices - matrices[:, :1]).abs().amax((1, 2)) < 1e-9
    assert abs(gone.double().mean() - 0.35) < 0.03
    weights = matrices[gone][:, 0]
    assert bool((weights >= 0).all())
    # Uniform on the triangle: mean 1/3, variance 1/18 (Dirichlet distribution with all parameters 1).
    assert torch.allclose(weights.mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.02)
    assert torch.allclose(weights.var(0), torch.full((3,), 1 / 18, dtype=torch.float64), atol=0.008)


def test_a_faded_picture_has_one_channel_three_times() -> None:
    canvas = smooth()
    drawn = draw(only("grey"), SEEDS).crosstalk
    varied = run(canvas, only("grey"))
    gone = (drawn - drawn[:, :1]).abs().amax((1, 2)) < 1e-9
    assert 0 < int(gone.sum()) < len(gone)
    spread = (varied - varied[:, :1]).abs().amax((1, 2, 3))
    assert bool((spread[gone] < 1e-5).all())
    assert bool((spread[~gone] > 1e-3).all())


def test_crosstalk_is_normal_about_the_identity() -> None:
    drawn = draw(only("crosstalk"), torch.arange(3000)).crosstalk
    away = ((drawn - torch.eye(3)) / STRENGTHS["crosstalk"]).reshape(3000, 9)
    for values_of_one in away.T.numpy():
        assert stats.kstest(values_of_one, "norm").pvalue > 1e-3


def test_one_or_two_sides_are_cut_each_as_likely() -> None:
    edges = draw(dataclasses.replace(OFF, cut=0.4), torch.arange(8000)).edges
    assert edges.max() < 0.3
    sides = (edges > 0).sum(1)
    # Twice in half of the cases, of which every fourth hits one side twice.
    expected = torch.tensor([0.6, 0.4 * 0.625, 0.4 * 0.375])
    assert torch.allclose(torch.bincount(sides) / 8000, expected, atol=0.02)
    assert torch.allclose((edges > 0).double().mean(0), (edges > 0).double().mean().expand(4), atol=0.02)


def test_the_field_of_a_found_cell_survives_another_camera() -> None:
    canvas = torch.full((8, 3, 32, 32), 240 / 255)
    assert torch.allclose(run(canvas, only("gamma", "crosstalk", "blue_loss", "cut")), canvas[:, :, :24, :24])


def test_a_cut_leaves_empty_field_up_to_a_straight_edge() -> None:
    varied = run(disc(), only("cut"), 64)
    plain = run(disc(), OFF, 64)
    edges = draw(only("cut"), SEEDS).edges
    for picture, before, (left, right, top, bottom) in zip(varied, plain, (64 * edges).tolist(), strict=True):
        kept = np.zeros((64, 64), dtype=bool)
        kept[round(top) : 64 - round(bottom), round(left) : 64 - round(right)] = True
        assert np.array_equal(picture[0].numpy()[kept], before[0].numpy()[kept])
        assert np.allclose(picture[0].numpy()[~kept], 240 / 255)


def test_a_strength_changes_no_other_draw() -> None:
    one, all_on = draw(only("hue"), SEEDS), draw(Augmentation(**STRENGTHS), SEEDS)
    assert torch.equal(one.hue, all_on.hue)


@settings(max_examples=15, deadline=None)
@given(
    st.permutations(range(16)),
    st.integers(1, 16),
    st.sampled_from(["paper", "standard", "strong", "laboratories"]),
)
def test_a_picture_does_not_depend_on_its_batch(order: list[int], count: int, name: str) -> None:
    canvas = smooth()
    places = torch.tensor(order[:count])
    together = run(canvas, PRESETS[name])
    apart = augment(canvas[places], PRESETS[name], SIZE, seeds=SEEDS[places])
    assert torch.equal(apart, together[places])


@settings(max_examples=25, deadline=None)
@given(st.integers(-(1 << 63), (1 << 63) - 1), st.booleans(), st.integers(1, 12))
def test_values_stay_in_range_at_the_greatest_strengths(seed: int, dark: bool, size: int) -> None:
    greatest = Augmentation(True, 180.0, 1.0, 0.5, 1.0, 1.0, 1.0, 180.0, 1.0, 5.0, 0.5, 1.0, 0.5, 1.0, 1.0)
    canvas = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed & 0xFFFF)).round()
    canvas = torch.stack((canvas[0], torch.full_like(canvas[0], 0.0 if dark else 1.0)))
    result = augment(canvas, greatest, size, seeds=torch.tensor([seed, ~seed]))
    assert result.shape == (2, 3, size, size)
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_different_seeds_give_different_pictures() -> None:
    canvas = smooth(1).expand(16, -1, -1, -1)
    assert len({picture.numpy().tobytes() for picture in run(canvas, Augmentation())}) == 16


def test_an_empty_batch_stays_empty() -> None:
    assert run(torch.zeros(0, 3, 32, 32), Augmentation()).shape == (0, 3, SIZE, SIZE)


def test_a_preset_is_changed_by_kind() -> None:
    changed = preset("laboratories, scale=0 ,stain = 0.8,flip=False")
    assert changed == dataclasses.replace(PRESETS["laboratories"], scale=0.0, stain=0.8, flip=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("laboratories,size=0", "'size=0' is no change; write KIND=VALUE with one of flip, rotate"),
        ("laboratories,scale", "'scale' must give a number"),
        ("laboratories,", "'' is no change"),
        ("laboratories,scale=much", "'scale=much' must give a number"),
        ("laboratories,flip=1", "'flip=1' must give true or false"),
        ("laboratories,scale=2", "augmentation.scale = 2.0: must be a number from 0"),
        ("laboratories,scale=nan", "augmentation.scale = nan"),
        ("scale=0", "no such preset; known: none, paper"),
    ],
)
def test_a_change_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        preset(text)


def test_paper_preset_is_rotation_and_mirror_only() -> None:
    assert PRESETS["paper"] == dataclasses.replace(OFF, flip=True, rotate=180.0)
    assert PRESETS["standard"] == Augmentation()
    assert not any(dataclasses.asdict(OFF).values())
    assert preset("strong") == PRESETS["strong"]
    with pytest.raises(SettingError, match=r"'heavy'.*none, paper, light, standard, strong"):
        preset("heavy")


@pytest.mark.parametrize(
    ("name", "value", "largest"),
    [
        ("rotate", 181.0, "180"),
        ("scale", -0.1, "1"),
        ("shift", 0.6, "0.5"),
        ("hue", math.nan, "180"),
        ("stain", math.inf, "1"),
        ("blur", "much", "5"),
        ("noise", True, "0.5"),
    ],
)
def test_bad_values_are_refused_with_field_value_and_range(name: str, value: object, largest: str) -> None:
    with pytest.raises(SettingError) as error:
        Augmentation(**{name: value})
    assert f"augmentation.{name} = {value!r}" in str(error.value)
    assert f"from 0 (off) to {largest}" in str(error.value)


def test_flip_must_be_a_truth_value() -> None:
    with pytest.raises(SettingError, match=r"augmentation\.flip = 1"):
        Augmentation(flip=1)  # type: ignore[arg-type]


def test_wrong_tensors_are_refused() -> None:
    canvas = smooth()
    with pytest.raises(ValueError, match="float32"):
        augment(canvas.double(), Augmentation(), SIZE, seeds=SEEDS)
    with pytest.raises(ValueError, match=r"int64 \[16\]"):
        augment(canvas, Augmentation(), SIZE, seeds=SEEDS[:3])
    with pytest.raises(ValueError, match="int64"):
        augment(canvas, Augmentation(), SIZE, seeds=SEEDS.int())
    with pytest.raises(SettingError, match="size = 40"):
        augment(canvas, Augmentation(), 40, seeds=SEEDS)


def test_a_real_cell_stays_a_picture_of_a_cell(shared_data: Path) -> None:
    from PIL import Image

    file = min((shared_data / "acevedo20" / "eosinophil").glob("*.jpg"))
    with Image.open(file) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((64, 64)))
    canvas = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255).expand(16, -1, -1, -1)
    result = run(canvas, PRESETS["strong"], 48)
    crop = centre_crop(canvas, 48)
    # Dark nucleus on a light ground, whatever the stain: the spread of light survives.
    assert (result.std((1, 2, 3)) > 0.3 * crop.std((1, 2, 3))).all()
    assert ((result == 0) | (result == 1)).float().mean() < 0.5


def test_the_appearance_leaves_the_cell_where_it_is() -> None:
    part = PRESETS["laboratories"].appearance()
    assert (part.flip, part.rotate, part.scale, part.shift, part.cut) == (False, 0, 0, 0, 0)
    whole = PRESETS["laboratories"]
    for name in ("stain", "blur", "noise", "gamma", "crosstalk", "blue_loss", "brightness"):
        assert getattr(part, name) == getattr(whole, name)
    assert PRESETS["paper"].appearance() == PRESETS["none"]
