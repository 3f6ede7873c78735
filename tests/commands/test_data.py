from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from leukonca.cells.manifest import Manifest
from leukonca.commands import data
from leukonca.errors import DataError, SettingError


def cells(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


def run(*words: object) -> int:
    return data.run(data.parser().parse_args([str(word) for word in words]))


def test_check_reports_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    folder = cells(tmp_path / "cells", "mono/1.png", "baso/2.png")
    code = run("check", folder, "--out", tmp_path / "out" / "r.json", "--manifest", tmp_path / "m.parquet")
    out, err = capsys.readouterr()
    assert code == 0
    assert "2 pictures, 2 classes" in out
    assert "cell/s" in err
    assert json.loads((tmp_path / "out" / "r.json").read_text(encoding="utf-8"))["pictures"] == 2
    assert (Manifest.read(tmp_path / "m.parquet").frame["hash"].str.len() == 32).all()


def test_check_exits_1_where_a_result_would_be_corrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cells(tmp_path, "mono/1.png", "baso/2.png")
    (folder / "mono" / "broken.png").write_bytes(b"\x89PNG")
    assert run("check", "--quiet", f"folder:{folder}") == 1
    out, err = capsys.readouterr()
    assert "broken.png" in out
    assert err == ""


def test_check_takes_several_specs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells(tmp_path, "a/mono/1.png", "b/mono/2.png")
    assert run("check", "--quiet", tmp_path / "a", tmp_path / "b") == 0
    assert "folder:a, folder:b" in capsys.readouterr().out


def test_mistakes_are_errors_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        run("check", "--quiet", tmp_path / "none")
    with pytest.raises(SettingError, match=r"must end in \.csv or \.parquet"):
        run("check", "--quiet", tmp_path / "none", "--manifest", "m.xlsx")


def test_an_old_terminal_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cells(tmp_path, "zellen-ü/1.png")
    with (tmp_path / "out.txt").open("w", encoding="ascii") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run("check", "--quiet", folder) == 0
    assert "zellen-\\xfc" in (tmp_path / "out.txt").read_text(encoding="ascii")


def test_it_can_be_a_subcommand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = ArgumentParser()
    main.add_subcommands(required=True, dest="command").add_subcommand("data", data.parser())
    args = main.parse_args(["data", "check", "--quiet", str(cells(tmp_path, "mono/1.png"))])
    assert data.run(args["data"]) == 0
    assert "1 picture, 1 class" in capsys.readouterr().out


def test_the_command_loads_no_torch() -> None:
    code = "import sys, leukonca.commands.data, leukonca.commands.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
