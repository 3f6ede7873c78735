from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import runs
from learning.micro import CLASSES, picture, save
from leukonca.commands import main
from leukonca.explanation.morphology import Morphology


def described(folder: Path, count: int = 6) -> tuple[Path, Path]:
    """Tables as those of WBCAtt, and the pictures that they describe."""
    for part in ("train", "val", "test"):
        rows = []
        for kind, name in enumerate(CLASSES):
            for number in range(count):
                file = f"{part}_{number}.png"
                save(folder / "cells" / name / file, picture(100 * kind + number + len(part), kind))
                attributes = {
                    "granularity": "yes" if kind == 0 else "no",
                    "cell_size": "big" if number % 2 else "small",
                }
                rows.append(
                    {"img_name": file, "path": f"x/{name}/{file}", "label": name.title(), **attributes}
                )
        pd.DataFrame(rows).to_csv(folder / f"pbc_attr_v1_{part}.csv", index=False)
    return folder, folder / "cells"


def test_probes_lie_beside_the_model_where_explain_finds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, pictures = described(tmp_path)
    model = tmp_path / "mine.safetensors"
    model.write_bytes((runs.run().folder / "best.safetensors").read_bytes())
    words = ["--wbcatt", str(tables), "--acevedo20", str(pictures), "--seeds", "1"]
    assert main(["probe", str(model), *words]) == 0
    said = capsys.readouterr().out
    assert said.startswith("macro-F1 on validation cells:\n  1.000  granularity\n")
    assert said.endswith(f"probes: {tmp_path / 'mine.probes.safetensors'}\n")
    found = Morphology.load(tmp_path / "mine.probes.safetensors")
    assert (found.provenance["training_cells"], found.provenance["validation_cells"]) == (18, 18)
    assert found.described == ("eosinophil", "lymphocyte", "monocyte")
    cell = str(pictures / CLASSES[0] / "test_0.png")
    out = tmp_path / "out"
    assert main(["explain", str(model), cell, "--out", str(out), "--seeds", "1", "--no-animation"]) == 0
    row = pd.read_csv(out / "cells.csv").iloc[0]
    assert "granules: " in row["words"]
    assert "Read well?" in (out / row["page"]).read_text(encoding="utf-8")
    # The run that the model was copied from has no probes.
    assert (
        main(["explain", str(runs.run().folder), cell, "--out", str(out), "--seeds", "1", "--no-animation"])
        == 0
    )
    assert pd.read_csv(out / "cells.csv")["words"].isna().all()


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(runs.run().folder)
    for words, said in (
        (("--wbcatt", tmp_path), "arguments are required: acevedo20"),
        (("--wbcatt", tmp_path, "--acevedo20", tmp_path, "--out", tmp_path), "is a folder; name a file"),
        (("--wbcatt", tmp_path, "--acevedo20", tmp_path, "--out", tmp_path / "p"), "pbc_attr_v1_train.csv"),
    ):
        assert main(["probe", model, *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err
