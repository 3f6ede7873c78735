from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import runs
from learning.micro import picture
from leukonca.assessment.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from leukonca.assessment.intervals import Estimate
from leukonca.assessment.metrics import measure
from leukonca.assessment.predict import predict
from leukonca.assessment.robustness import ALEXNET, CLEAN, Row, robustness, spoil, summary
from leukonca.cells.framing import Framing, frame
from leukonca.errors import DataError, SettingError


def rows(errors: dict[str, float]) -> list[Row]:
    none = Estimate(math.nan)
    return [
        Row(name, severity, 9, none, none, Estimate(error + 0.01 * severity))
        for name, error in errors.items()
        for severity in ((0,) if name == CLEAN else SEVERITIES)
    ]


@pytest.mark.parametrize("framing", [Framing(16, crop=0.5), Framing(16, fit="cell", colour="nucleus")])
def test_a_picture_is_spoilt_at_the_scale_of_the_benchmark(framing: Framing) -> None:
    whole = picture(3, side=90)[:, :81]
    # 224 px are 200/360 of the shorter side, so 81 px become 403.2 and 90 become 448.
    canvas = np.array(Image.fromarray(whole).resize((403, 448), Image.Resampling.BILINEAR))
    expected = frame(corrupt(canvas, "bubble", 4, identity=8, seed=2), framing)
    found = spoil(whole, framing, "bubble", 4, identity=8, seed=2)
    np.testing.assert_array_equal(found, expected)
    assert found.shape == (16, 16, 3)


def test_a_clean_picture_is_all_but_what_the_model_sees_otherwise() -> None:
    whole = np.kron(picture(3, side=20), np.ones((5, 5, 1), np.uint8))
    framing = Framing(20, crop=0.8, fit="stretch")
    found = spoil(whole[:, :80], framing, CLEAN, 0, identity=8)
    assert np.abs(found.astype(float) - frame(whole[:, :80], framing)).mean() < 3


@pytest.mark.parametrize("share", [0.0, 1.5, math.nan])
def test_a_share_is_one(share: float) -> None:
    with pytest.raises(SettingError, match=r"share=\S+ must be in \(0, 1\]"):
        spoil(picture(1), Framing(16), CLEAN, 0, identity=0, share=share)


def test_rows_are_the_measures_of_the_spoilt_pictures() -> None:
    run = runs.run()
    manifest = run.manifest.subset((run.manifest.frame["split"] == "test").to_numpy())
    found = list(robustness(runs.model(), manifest, corruptions=["pixelate"], seeds=2, resamples=50))
    assert [(row.corruption, row.severity) for row in found] == [
        (CLEAN, 0),
        *(("pixelate", severity) for severity in SEVERITIES),
    ]

    def view(whole: np.ndarray, _: str, framing: Framing) -> np.ndarray:
        return spoil(whole, framing, "pixelate", 5, identity=0)

    predictions = predict(runs.model(), manifest.frame["path"].tolist(), seeds=2, view=view)
    metrics = measure(
        manifest.frame["label"].tolist(), predictions.probabilities, predictions.classes, resamples=50
    )
    last = found[-1]
    assert last.cells == len(manifest)
    assert (last.accuracy, last.balanced_accuracy) == (metrics.accuracy, metrics.balanced_accuracy)
    assert last.balanced_error.value == 1 - metrics.balanced_accuracy.value
    assert last.balanced_error.low <= last.balanced_error.value <= last.balanced_error.high
    assert last.to_dict()["balanced_error"] == last.balanced_error.to_dict()


def test_known_rows_are_not_measured_again() -> None:
    manifest = runs.run().manifest
    done = [(CLEAN, 0), *(("bubble", severity) for severity in SEVERITIES if severity != 3)]
    found = list(robustness(runs.model(), manifest, corruptions=["bubble"], done=done, seeds=1, resamples=0))
    assert [(row.corruption, row.severity) for row in found] == [("bubble", 3)]


def test_what_cannot_be_measured_is_refused() -> None:
    manifest = runs.run().manifest
    with pytest.raises(SettingError, match="corruption='fog' is unknown"):
        next(robustness(runs.model(), manifest, corruptions=["fog"]))
    unlabelled = manifest.with_column("label", [""] * len(manifest))
    with pytest.raises(DataError, match="no cell is left to measure"):
        next(robustness(runs.model(), unlabelled, seeds=1))


def test_the_baseline_has_the_errors_of_the_baseline() -> None:
    found = summary(rows({CLEAN: ALEXNET[CLEAN]} | {name: ALEXNET[name] - 0.03 for name in CORRUPTIONS}))
    assert list(found) == [*CORRUPTIONS, "mean"]
    for balance in found.values():
        assert balance.be == pytest.approx(1)
        assert balance.rbe == pytest.approx(1)


def test_figures_are_as_the_benchmark_defines_them() -> None:
    measured = rows({CLEAN: 0.1, "bubble": 0.2, "saturate": 0.07})
    found = summary(measured)
    assert found["bubble"].error == pytest.approx(0.23)
    assert found["bubble"].lost == pytest.approx(0.13)
    assert found["bubble"].be == pytest.approx(0.23 / 0.128988)
    assert found["bubble"].rbe == pytest.approx(0.13 / (0.128988 - 0.018369))
    assert found["saturate"].lost == pytest.approx(0)
    assert found["mean"].be == pytest.approx((found["bubble"].be + found["saturate"].be) / 2)
    # A corruption without one of its severities has no mean yet, and without the clean row nothing is lost.
    assert "bubble" not in summary(
        [row for row in measured if (row.corruption, row.severity) != ("bubble", 2)]
    )
    assert summary(measured[1:]) == {}
    assert summary([replace(row, severity=0) for row in measured[:1]]) == {}
