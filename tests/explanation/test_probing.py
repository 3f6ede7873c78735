from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from explanation.scenes import model, smear
from leukonca.cells.framing import Framing, frame
from leukonca.errors import DataError, SettingError
from leukonca.explanation.features import CellVectors, vectors_of
from leukonca.explanation.morphology import log_odds
from leukonca.explanation.probing import (
    fit_morphology,
    read_wbcatt,
    vectors_of_files,
)
from leukonca.explanation.storage import fingerprint

N = 240


def made() -> tuple[CellVectors, dict[str, list[str]], list[str], np.ndarray, np.ndarray]:
    """Vectors in which one attribute shows well, one with noise, and a class that one goes along with."""
    generator = np.random.default_rng(0)
    pooled = generator.normal(size=(N, 32))
    features = np.concatenate((pooled, generator.normal(size=(N, 16))), axis=1)
    shape = np.array(["round", "band", "lobed"])[features[:, :3].argmax(axis=1)]
    grain = np.where(features[:, 40] + generator.normal(0, 0.7, N) > 0.4, "yes", "no")
    labels = np.where(pooled[:, 5] > 0, "one", "other")
    vectors = CellVectors(*(array.astype(np.float32) for array in (features, pooled)))
    training = np.arange(N) < 160
    return vectors, {"shape": shape.tolist(), "grain": grain.tolist()}, labels.tolist(), training, ~training


def test_probes_are_scikit_learns_with_the_strength_that_is_best_on_validation() -> None:
    vectors, attributes, labels, training, validation = made()
    strengths = (3.0, 0.01, 0.3)
    fitted = fit_morphology(model(), vectors, attributes, labels, training, validation, strengths=strengths)
    features = vectors.features.astype(np.float64)
    scaled = (features - features[training].mean(axis=0)) / features[training].std(axis=0)
    for probe, (name, values) in zip(fitted.probes, attributes.items(), strict=True):
        truth = np.array(values)
        assert probe.attribute == name
        assert set(probe.values) == set(values)
        scores = {}
        for strength in sorted(strengths):
            theirs = LogisticRegression(C=strength, max_iter=1000).fit(scaled[training], truth[training])
            said = theirs.predict(scaled[validation])
            scores[strength] = f1_score(truth[validation], said, average="macro")
        best = max(scores, key=lambda strength: (scores[strength], -strength))
        assert fitted.provenance["chosen"][name]["inverse_strength"] == best
        assert fitted.provenance["chosen"][name]["validation_macro_f1"] == pytest.approx(scores[best])
        theirs = LogisticRegression(C=best, max_iter=1000).fit(scaled[training], truth[training])
        ours = probe.scores(fitted.standardised(vectors.features))
        raised = np.exp(ours)
        assert raised / raised.sum(axis=1, keepdims=True) == pytest.approx(
            theirs.predict_proba(scaled), abs=1e-3
        )
    assert fitted.model == fingerprint(model())
    assert (fitted.provenance["training_cells"], fitted.provenance["validation_cells"]) == (160, 80)


def test_patterns_are_the_regressions_of_the_pooled_channels_within_classes() -> None:
    vectors, attributes, labels, training, validation = made()
    fitted = fit_morphology(model(), vectors, attributes, labels, training, validation)
    scaled, groups = fitted.standardised(vectors.features)[training], np.array(labels)[training]
    pooled = vectors.pooled[training].astype(np.float64)
    for probe in fitted.probes:
        scores = probe.scores(scaled)
        for k in range(len(probe.values)):
            odds = log_odds(scores, np.full(len(scores), k))
            centre = np.mean([odds[groups == group].mean() for group in ("one", "other")])
            assert probe.centres[k] == pytest.approx(centre)
            # Least squares with an intercept for each class.
            design = np.stack([odds, groups == "one", groups == "other"], axis=1).astype(np.float64)
            expected = np.linalg.lstsq(design, pooled, rcond=None)[0][0]
            assert probe.patterns[k] == pytest.approx(expected, abs=1e-8)


def test_cells_outside_both_parts_change_nothing() -> None:
    vectors, attributes, labels, training, validation = made()
    left = training & (np.arange(N) % 2 == 0)
    one = fit_morphology(model(), vectors, attributes, labels, left, validation)
    spoilt = vectors.features.copy()
    spoilt[~left & ~validation] = np.nan
    other = fit_morphology(model(), CellVectors(spoilt, vectors.pooled), attributes, labels, left, validation)
    for first, second in zip(one.probes, other.probes, strict=True):
        assert (first.weight == second.weight).all()


def test_wrong_use_is_refused() -> None:
    vectors, attributes, labels, training, validation = made()
    none = np.zeros(N, dtype=bool)
    with pytest.raises(SettingError, match="on 0 training and 80 validation cells with 7 strengths"):
        fit_morphology(model(), vectors, attributes, labels, none, validation)
    with pytest.raises(SettingError, match="0 strengths"):
        fit_morphology(model(), vectors, attributes, labels, training, validation, strengths=[])
    with pytest.raises(DataError, match="attribute 'vacuole' has the value 'no' in all training cells"):
        fit_morphology(model(), vectors, {"vacuole": ["no"] * N}, labels, training, validation)


def test_files_give_the_vectors_of_their_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained, paths, framed = model(), [], []
    for seed in range(3):
        picture = smear(seed=seed)[0]
        paths.append(str(tmp_path / f"{seed}.png"))
        Image.fromarray(picture).save(paths[-1])
        framed.append(frame(picture, Framing(32)))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        found = vectors_of_files(trained, [paths[0], str(broken), *paths[1:]], seeds=2)
    assert found.ok.tolist() == [True, False, True, True]
    assert "left out" in caplog.text
    expected = vectors_of(trained, np.stack(framed), found.images[found.ok], seeds=2)
    for name in ("features", "pooled"):
        values = getattr(found.vectors, name)
        assert np.isnan(values[1]).all()
        assert values[found.ok] == pytest.approx(getattr(expected, name), abs=1e-6)
    with pytest.raises(DataError, match="none of the 1 pictures can be read"):
        vectors_of_files(trained, [str(broken)])


def test_wbcatt_is_read_as_published(tmp_path: Path) -> None:
    pictures = tmp_path / "cells"
    (pictures / "eosinophil").mkdir(parents=True)
    for number, part in enumerate(("train", "val", "test")):
        name = f"EO_{number}.jpg"
        (pictures / "eosinophil" / name).write_bytes(b"")
        row = {"img_name": name, "label": "Eosinophil", "granule_colour": "red", "granularity": "yes"}
        pd.DataFrame([{**row, "path": f"PBC_dataset_normal_DIB/eosinophil/{name}"}]).to_csv(
            tmp_path / f"pbc_attr_v1_{part}.csv", index=False
        )
    found = read_wbcatt(tmp_path, pictures)
    assert found.paths == [str(pictures / "eosinophil" / f"EO_{number}.jpg") for number in range(3)]
    assert found.attributes == {"granule_colour": ["red"] * 3, "granularity": ["yes"] * 3}
    assert found.labels == ["Eosinophil"] * 3
    assert found.part("val").tolist() == [False, True, False]
    (pictures / "eosinophil" / "EO_1.jpg").unlink()
    with pytest.raises(DataError, match=r"EO_1\.jpg: does not exist \(nor do 0 others of 3\)"):
        read_wbcatt(tmp_path, pictures)
    pd.DataFrame({"path": ["a/b"]}).to_csv(tmp_path / "pbc_attr_v1_val.csv", index=False)
    with pytest.raises(DataError, match=r"pbc_attr_v1_val\.csv: has no column 'label'"):
        read_wbcatt(tmp_path, pictures)


def test_the_real_tables_join_the_real_pictures(shared_data: Path) -> None:
    found = read_wbcatt(shared_data / "wbcatt", shared_data / "acevedo20")
    assert len(found.paths) == len(set(found.paths)) == 10_298
    assert [int(found.part(part).sum()) for part in ("train", "val", "test")] == [6169, 1030, 3099]
    assert len(found.attributes) == 11
    assert set(found.attributes["granule_colour"]) == {"pink", "purple", "red", "nil"}
