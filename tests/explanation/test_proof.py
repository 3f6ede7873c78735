from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from explanation.proofs import SIZES, small, write_bcisc, write_plain, write_zheng
from learning.micro import save
from leukonca.cells.framing import Framing
from leukonca.cells.masks import Masks
from leukonca.cells.scan import scan
from leukonca.errors import DataError, LeukoncaError, SettingError
from leukonca.explanation.faithfulness import inside
from leukonca.explanation.proof import methods
from leukonca.explanation.proof.alike import OTHER_SEEDS
from leukonca.explanation.proof.cells import draw_cells, framed_masks
from leukonca.explanation.proof.check import PARTS, Check, check
from leukonca.explanation.proof.inside import localisation
from leukonca.explanation.proof.keeping import Kept
from leukonca.explanation.proof.page import FIGURES, PAGE, write_check
from leukonca.explanation.proof.reading import macro_f1
from leukonca.explanation.proof.settings import Bench, Sizes, mean_of
from leukonca.explanation.relevance import relevance
from leukonca.learning.networks import build
from leukonca.learning.shapes import BaselineShape
from leukonca.learning.trained import TrainedModel
from leukonca.nca.architecture import Architecture
from leukonca.nca.classifier import CellClassifier


def measured(model: TrainedModel, wanted: Check, out: Path) -> dict[str, Any]:
    *_, last = check(model, "small", wanted, out)
    return last


def without_time(result: dict[str, Any]) -> Any:
    text = json.dumps(result["parts"], sort_keys=True)
    return json.loads(re.sub(r'"seconds": [\d.]+|"seconds_per_cell": \{[^}]*\}', '"seconds": 0', text))


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    home = tmp_path_factory.mktemp("sets")
    return [write_plain(home / "plain"), write_bcisc(home / "bcisc"), write_zheng(home / "zheng")]


@pytest.fixture(scope="module")
def whole(specs: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("whole")
    result = measured(small(), Check(specs, sizes=SIZES), out)
    write_check(out, result)
    return result, out


def test_every_part_is_measured_or_says_why_not(whole: tuple[dict[str, Any], Path]) -> None:
    result, _ = whole
    assert tuple(result["parts"]) == PARTS
    assert result["finished"] is True
    assert result["parts"]["morphology"] == {
        "skipped": "it needs the tables of WBCAtt; name their folder with --wbcatt"
    }
    assert all("seconds" in found for name, found in result["parts"].items() if name != "morphology")


def test_relevance_is_complete(whole: tuple[dict[str, Any], Path]) -> None:
    found = whole[0]["parts"]["completeness"]
    assert len(found["float32"]["by_cell"]) == found["cells"] == 6
    assert found["float32"]["max"] == max(found["float32"]["by_cell"]) < 1e-4
    assert found["float64"]["max"] < 1e-12
    assert found["share_at_input_median"] == pytest.approx(1, abs=1e-4)


def test_flipping_holds_every_method_against_the_first(whole: tuple[dict[str, Any], Path]) -> None:
    found = whole[0]["parts"]["faithfulness"]
    assert found["first"] == "relevance"
    # 16 and 4 patches, four of them a point.
    assert set(found["by_patch"]) == {"4", "8"}
    for patch, points in (("4", 4), ("8", 1)):
        for way, ends in (("deletion", (0, -1)), ("insertion", (-1, 0))):
            curves = found["by_patch"][patch][way]["probability"]
            assert len(found["by_patch"][patch][way]["shares"]) == points + 1
            assert {"relevance", "epsilon", "gradient_times_input", "darkness", "random"} < set(curves)
            assert {name for name in curves if name.startswith("occlusion")} == {
                "occlusion_16",
                "occlusion_8",
            }
            # All begin with the same pictures and end with the same.
            for end in ends:
                values = [entry["curve"][end] for entry in curves.values()]
                assert values == pytest.approx([values[0]] * len(values), abs=1e-4)
            for entry in list(curves.values())[1:]:
                expected = curves["relevance"]["area"]["value"] - entry["area"]["value"]
                assert entry["first_minus_this"]["value"] == pytest.approx(expected)


def test_relevance_within_masks_is_that_of_the_maps(
    whole: tuple[dict[str, Any], Path], specs: list[str]
) -> None:
    sets = whole[0]["parts"]["localisation"]["sets"]
    assert list(sets) == ["bcisc", "zheng1"]
    assert "nucleus" not in sets["bcisc"]
    model = small()
    model.network.eval()
    cells = draw_cells(model, scan(specs[1:2]), SIZES.cells, right=True)
    mask = framed_masks(cells, Masks("../masks/{stem}.png", {"cell": 127}), model)["cell"]
    found = relevance(model.network, *cells.asked(model), seeds=SIZES.seeds)  # type: ignore[arg-type]
    assert sets["bcisc"]["cells"] == len(cells)
    assert sets["bcisc"]["cell"]["relevance"]["value"] == pytest.approx(
        float(inside(found.map, mask).double().mean()), abs=1e-5
    )
    assert sets["bcisc"]["cell"]["area"]["value"] == pytest.approx(float(mask.double().mean()))
    share = (found.map * mask).sum() / found.map.sum()
    assert sets["bcisc"]["cell"]["net_relevance"]["value"] == pytest.approx(float(share), abs=1e-3)
    assert sets["zheng1"]["nucleus"]["area"]["value"] < sets["zheng1"]["cell"]["area"]["value"]


def test_a_mask_of_all_takes_all_by_relevance_and_by_clearing(tmp_path: Path) -> None:
    model = small()
    model.network.eval().requires_grad_(False)
    cells = draw_cells(model, scan([write_bcisc(tmp_path)]), 4)
    for path in cells.paths:
        file = Path(path).parent.parent / "masks" / f"{Path(path).stem}.png"
        save(file, np.full((48, 48), 200, dtype=np.uint8))
    bench = Bench(model, Kept(tmp_path / "kept", {}), SIZES, lambda _: None)
    found = localisation(bench, cells, Masks("../masks/{stem}.png", {"cell": 100, "nucleus": 220}))
    for name in ("relevance", "darkness", "area", "net_relevance", "net_clearing"):
        assert found["cell"][name]["value"] == pytest.approx(1, abs=1e-5), name
        assert found["nucleus"][name]["value"] == pytest.approx(0, abs=1e-5), name


def test_sanity_names_the_parts_and_the_seeds(whole: tuple[dict[str, Any], Path]) -> None:
    found = whole[0]["parts"]["sanity"]
    assert (found["cells"], found["variants"]) == (4, ["head", "rule", OTHER_SEEDS])
    assert list(found["methods"]) == [
        "relevance",
        "integrated_gradients",
        "gradient_times_input",
        "occlusion_16",
    ]
    for entry in found["methods"].values():
        assert all(entry[variant]["cells"] <= 4 for variant in found["variants"])
    # Occlusion of the whole picture at once is one number for all pixels: nothing can be ranked.
    assert found["methods"]["occlusion_16"]["head"] == {"value": None, "low": None, "high": None, "cells": 0}


def test_outlines_are_held_against_masks(whole: tuple[dict[str, Any], Path]) -> None:
    sets = whole[0]["parts"]["segmentation"]["sets"]
    assert sets["bcisc"]["cells"] == 12
    for name, parts in (("bcisc", {"cell"}), ("zheng1", {"cell", "nucleus"})):
        measures = sets[name]["discriminant of the picture alone (no step)"]
        assert {measure.split("_")[0] for measure in measures} == parts
        assert measures["cell_dice"]["value"] > 0.7
        dice, iou = measures["cell_dice"], measures["cell_iou"]
        assert iou["value"] < dice["value"]


def test_the_page_needs_nothing_else_and_says_what_was_left_out(whole: tuple[dict[str, Any], Path]) -> None:
    result, out = whole
    assert json.loads((out / FIGURES).read_text(encoding="utf-8")) == result
    page = (out / PAGE).read_text(encoding="utf-8")
    assert "it needs the tables of WBCAtt" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert not re.search(r"\bnan\b", re.sub(r'"data:[^"]*"', "", page))
    for title in ("Completeness", "Faithfulness", "Relevance on the cell", "Sanity", "Outlines"):
        assert f"<h2>{title}" in page


def test_an_interrupted_measurement_goes_on_and_ends_the_same(
    whole: tuple[dict[str, Any], Path], specs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "CHUNK", 2)
    calls = []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(options.get("rule", "reference"))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return relevance(*args, **options)

    monkeypatch.setattr(methods, "relevance", counted)
    wanted = Check(specs[:1], ["completeness", "faithfulness"], sizes=SIZES)
    with pytest.raises(KeyboardInterrupt):
        list(check(small(), "small", wanted, tmp_path))
    results = list(check(small(), "small", wanted, tmp_path))
    # Three chunks: the first was kept, the second had been interrupted.
    assert calls.count("reference") == 1 + 1 + 2
    assert [result["finished"] for result in results] == [True, True]  # one object, as it is in the end
    parts = without_time(results[-1])
    for name in ("completeness", "faithfulness"):
        expected, found = without_time(whole[0])[name], parts[name]
        assert found["cells"] == expected["cells"]
    calls.clear()
    again = measured(small(), wanted, tmp_path)
    assert calls == []
    assert without_time(again) == parts


def test_another_model_is_measured_anew(specs: list[str], tmp_path: Path) -> None:
    wanted = Check(specs[:1], ["completeness"], sizes=SIZES)
    first = measured(small(), wanted, tmp_path)
    other = small()
    with torch.no_grad():
        other.network.rule.update_weight.mul_(1.5)  # type: ignore[union-attr]
    assert without_time(measured(other, wanted, tmp_path)) != without_time(first)


def test_a_set_without_a_rightly_named_cell_is_left_out(specs: list[str], tmp_path: Path) -> None:
    # A model that has no class in common with the sets.
    model = replace(small(), classes=("blast", "platelet", "erythroblast"))
    with pytest.raises(DataError, match=r"localisation cannot be measured: .*can express none"):
        measured(model, Check(specs[1:], ["localisation"], sizes=SIZES), tmp_path)
    zheng, labels = write_zheng(tmp_path / "zheng"), tmp_path / "zheng" / "Class Labels of Dataset 1.csv"
    # The small model calls every cell a lymphocyte, and there is none.
    labels.write_text(labels.read_text(encoding="utf-8").replace(",2", ",3"), encoding="utf-8")
    result = measured(small(), Check([specs[1], zheng], ["localisation"], sizes=SIZES), tmp_path)
    write_check(tmp_path, result)
    sets = result["parts"]["localisation"]["sets"]
    assert sets["bcisc"]["of_class"] == {"lymphocyte": 4}
    assert sets["zheng1"]["skipped"].startswith("none of the 6 cells of zheng1 was named rightly")
    assert "localisation on zheng1: none of the 6 cells" in (tmp_path / PAGE).read_text(encoding="utf-8")


def test_the_network_of_the_caller_stays_as_it_is(specs: list[str], tmp_path: Path) -> None:
    model = small()
    model.network.train()
    measured(model, Check(specs[:1], ["completeness"], sizes=SIZES), tmp_path)
    assert model.network.training
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_what_a_named_part_lacks_is_said_before_the_work(specs: list[str], tmp_path: Path) -> None:
    shape = Architecture(size=32, patch=2, channels=16, hidden=12, steps=2, head="conv")
    conv = replace(small(), framing=Framing(32), network=CellClassifier(shape, 3))
    for model, data, part, words in (
        (small(), specs[:1], "localisation", "none of the data has masks; name a set that has"),
        (small(), specs[:1], "segmentation", "none of the data has masks"),
        (small(), specs, "morphology", "needs the tables of WBCAtt"),
        (conv, specs, "completeness", "does not go through the head 'conv'"),
    ):
        with pytest.raises(SettingError, match=f"the part {part} cannot be measured: .*{words}"):
            list(check(model, "small", Check(data, [part], sizes=SIZES), tmp_path / "out"))
    with pytest.raises(SettingError, match="WBCAtt describes cells of Acevedo-20"):
        list(check(small(), "small", Check(specs, ["morphology"], str(tmp_path), SIZES), tmp_path / "out"))
    with pytest.raises(SettingError, match="part 'speed' is unknown; known: completeness"):
        Check(specs, ["speed"])
    assert not (tmp_path / "out" / "kept").exists()


def test_a_convolutional_network_has_its_own_methods(specs: list[str], tmp_path: Path) -> None:
    pytest.importorskip("monai")
    network: Any = build(BaselineShape("resnet18"), 3)
    # What matters is what it is, and a smaller body is faster.
    network.body = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3)
    )
    model = replace(small(), framing=Framing(64), network=network)
    sizes = replace(SIZES, cells=2, sanity_cells=1, points=2, patches=(8,))
    with pytest.raises(
        SettingError, match="completeness cannot be measured: it needs an automaton, and this"
    ):
        list(check(model, "resnet", Check(specs, ["completeness"], sizes=sizes), tmp_path))
    result = measured(model, Check(specs[:1], sizes=sizes), tmp_path)
    write_check(tmp_path, result)
    assert result["parts"]["faithfulness"]["first"] == "grad_cam"
    assert OTHER_SEEDS not in result["parts"]["sanity"]["variants"]
    skipped = {name for name, found in result["parts"].items() if "skipped" in found}
    assert skipped == set(PARTS) - {"faithfulness", "sanity"}


def test_morphology_is_read_where_wbcatt_is_named(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    kinds = {"eosinophil": "EO", "lymphocyte": "LY", "monocyte": "MO"}
    rows: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
    for number in range(24):
        kind = list(kinds)[number % 3]
        pixels = generator.integers(60, 200, (24, 24, 3)).astype(np.uint8)
        pixels[..., number % 3] //= 2
        name = f"{kinds[kind]}_{number}.png"
        save(tmp_path / "acevedo" / kind / name, pixels)
        part = ("train", "train", "val", "test")[number // 6]
        shape = "round" if number % 3 == 1 else "lobed"
        path = f"PBC/{kind}/{name}"
        rows[part].append({"path": path, "label": kind, "img_name": name, "nucleus_shape": shape})
    for part, entries in rows.items():
        save_table(tmp_path / "wbcatt" / f"pbc_attr_v1_{part}.csv", entries)
    # The published files are JPEG; any picture whose name begins so will do.
    spec = f"acevedo20:{tmp_path / 'acevedo'}"
    try:
        scan([spec])
    except LeukoncaError:
        pytest.skip("the description of the set takes JPEG files only")
    wanted = Check([spec], ["morphology"], str(tmp_path / "wbcatt"), SIZES)
    result = measured(small(), wanted, tmp_path / "out")
    write_check(tmp_path / "out", result)
    found = result["parts"]["morphology"]
    assert found["cells"] == {"training": 12, "validation": 6, "unseen": 6, "all": 6}
    assert set(found["unseen"]) == {"majority", "automaton", "colour_seen", "colour_whole"}
    # Of two values the frequent one is called always: 4 of 6 are lobed.
    assert found["all"]["majority"]["nucleus_shape"]["value"] == pytest.approx((2 * 4 / (4 + 6) + 0) / 2)
    assert found["all"]["colour_seen"]["nucleus_shape"]["value"] == pytest.approx(1)
    again = measured(small(), wanted, tmp_path / "out")
    assert without_time(again) == without_time(result)


def save_table(file: Path, entries: list[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(entries).to_csv(file, index=False)


def test_weighted_macro_f1_is_that_of_repeated_cells() -> None:
    generator = np.random.default_rng(1)
    truth, said = (generator.choice(["a", "b", "c"], 40) for _ in range(2))
    counts = generator.integers(0, 4, (40, 3))
    expected = [
        f1_score(np.repeat(truth, column), np.repeat(said, column), average="macro") for column in counts.T
    ]
    np.testing.assert_allclose(macro_f1(truth, said, counts.astype(np.float64)), expected)


def test_means_leave_out_what_is_not_known() -> None:
    found = mean_of(np.array([1.0, np.nan, 3.0]), ["a", "b", "c"], 100)
    assert (found["value"], found["cells"]) == (2.0, 2)
    assert mean_of(np.array([np.nan]), None, 100) == {"value": None, "low": None, "high": None, "cells": 0}


@pytest.mark.parametrize("name", ["cells", "sanity_cells", "seeds", "other_seeds", "points", "resamples"])
def test_sizes_are_at_least_one(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name}=0 must be at least 1"):
        Sizes(**{name: 0})
