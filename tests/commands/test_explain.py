from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

import runs
from explanation.scenes import smear
from learning.micro import save
from leukonca import api
from leukonca.commands import main
from leukonca.explanation.explained_files import ExplainedCell
from leukonca.explanation.similar import index_cells

FAST = ("--seeds", 1, "--no-animation")


def explain(*words: object) -> int:
    return main(["explain", str(runs.run().folder), *map(str, words)])


def scenes(folder: Path, count: int) -> list[str]:
    return [
        str(save(folder / f"cell {seed}%.png", smear(side=48, cell=(24, 24, 11), seed=seed)[0]))
        for seed in range(count)
    ]


class Links(HTMLParser):
    """Every address that a page names, and whether its elements are well nested."""

    VOID = frozenset({"meta", "img", "br", "line", "rect", "polyline", "polygon"})

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(page.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert tag != "script"
        assert not any(name.startswith("on") for name in found)
        self.sources += [found["src"] or ""] if "src" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        if tag == "img":
            self.images.append(found)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_folder_of_pages_that_need_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = scenes(tmp_path / "cells", 2), tmp_path / "new" / "out"
    assert explain(tmp_path / "cells", "--out", out, *FAST) == 0
    assert capsys.readouterr().out == f"2 files, 0 unreadable: {out / 'index.html'}\n"
    table = pd.read_csv(out / "cells.csv")
    assert table["path"].tolist() == paths
    assert table["error"].isna().all()
    overview = Links(out / "index.html")
    assert [unquote(link) for link in overview.links] == ["cells.csv", *table["page"]]
    for page, arrays in zip(table["page"], table["arrays"], strict=True):
        found = Links(out / page)
        assert [((out / page).parent / unquote(link)).resolve() for link in found.links] == [
            (out / "index.html").resolve(),
            (out / arrays).resolve(),
        ]
        assert all(source.startswith("data:image/") for source in found.sources)
        assert all(one.get("alt") for one in found.images)
        text = (out / page).read_text(encoding="utf-8")
        assert "default-src 'none'" in text
        assert "http://" not in text
        assert "https://" not in text


def test_the_arrays_sum_to_the_logit(tmp_path: Path) -> None:
    scenes(tmp_path / "cells", 1)
    assert explain(tmp_path / "cells", "--out", tmp_path / "out", *FAST) == 0
    row = pd.read_csv(tmp_path / "out" / "cells.csv").iloc[0]
    with np.load(tmp_path / "out" / row["arrays"], allow_pickle=False) as arrays:
        for name in ("relevance", "contrast"):
            parts = ("pixels", "background", "bias", "stabiliser", "remainder")
            total = sum(arrays[f"{name}_{part}"].sum() for part in parts)
            assert total == pytest.approx(float(arrays[f"{name}_value"]), abs=1e-4)
        assert row["logit"] == pytest.approx(float(arrays["relevance_value"]), abs=1e-4)
        inside = sum(row[f"in_{part}"] for part in ("nucleus", "cytoplasm", "surroundings"))
        assert inside == pytest.approx(float(arrays["relevance_pixels"].sum()), abs=1e-4)
        assert row["explained"] == str(arrays["classes"][arrays["explained"]])
        assert row["probability"] == pytest.approx(arrays["probabilities"].max(), rel=1e-5)


def test_broken_files_are_rows_and_the_exit_code_says_so(tmp_path: Path) -> None:
    (path,), out = scenes(tmp_path, 1), tmp_path / "out"
    broken = tmp_path / "<b>.png"
    broken.write_bytes(b"nothing")
    assert explain(broken, path, tmp_path / "none.png", "--out", out, *FAST) == 1
    table = pd.read_csv(out / "cells.csv")
    assert table["path"].tolist() == [str(broken), path, str(tmp_path / "none.png")]
    assert table["error"].notna().tolist() == [True, False, True]
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;.png" in text
    assert table["error"][2] in text


def test_a_type_can_be_explained_and_held_against_another(tmp_path: Path) -> None:
    (path,) = scenes(tmp_path, 1)
    words = ("--class", "monocyte", "--against", "lymphocyte")
    assert explain(path, "--out", tmp_path / "out", *words, *FAST) == 0
    row = pd.read_csv(tmp_path / "out" / "cells.csv").iloc[0]
    assert (row["explained"], row["against"]) == ("monocyte", "lymphocyte")


def test_wrong_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = scenes(tmp_path, 1)
    (tmp_path / "file").write_text("", encoding="utf-8")
    for words, said in (
        ((path,), "arguments are required: out"),
        ((path, "--out", tmp_path / "file"), "--out"),
        ((path, "--out", tmp_path / "o", "--seeds", 0), "seeds=0 must be at least 1"),
        (
            (path, "--out", tmp_path / "o", "--class", "monocytes"),
            "class 'monocytes' is none of this model's",
        ),
        ((path, "--out", tmp_path / "o", "--against", "x"), "known: lymphocyte, monocyte, eosinophil"),
        ((path, "--out", tmp_path / "o", "--class", "monocyte", "--against", "monocyte"), "against itself"),
        ((path, "--out", tmp_path / "o", "--probes", tmp_path / "none"), "no such file"),
        ((path, "--out", tmp_path / "o", "--similar", path), "not an index of cells"),
        ((tmp_path / "o", "--out", tmp_path / "o"), "holds no pictures"),
    ):
        assert explain(*words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert said in err


def test_similar_cells_are_shown_where_there_is_an_index(tmp_path: Path) -> None:
    index = index_cells(runs.model(), runs.run().manifest, per_class=2, seeds=1)
    index.save(tmp_path / "cells.safetensors")
    (path,) = scenes(tmp_path, 1)
    assert explain(path, "--out", tmp_path / "o", "--similar", tmp_path / "cells.safetensors", *FAST) == 0
    row = pd.read_csv(tmp_path / "o" / "cells.csv").iloc[0]
    assert len(row["similar"].split("|")) == 5
    assert "Similar cells of the training" in (tmp_path / "o" / row["page"]).read_text(encoding="utf-8")


def test_an_interruption_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = api.explain_files

    def some(*args: Any, **options: Any) -> Iterator[ExplainedCell]:
        for number, cell in enumerate(whole(*args, **options)):
            if number == 1:
                raise KeyboardInterrupt
            yield cell

    monkeypatch.setattr(api, "explain_files", some)
    paths, out = scenes(tmp_path / "cells", 3), tmp_path / "out"
    assert explain(*paths, "--out", out, *FAST) == 130
    assert f"interrupted; 1 of 3 files are done and in {out / 'index.html'}" in capsys.readouterr().err
    assert pd.read_csv(out / "cells.csv")["path"].tolist() == paths[:1]
    assert "2\N{NO-BREAK SPACE}files not looked at" in (out / "index.html").read_text(encoding="utf-8")


def test_an_interruption_before_the_first_file_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: Any, **__: Any) -> Iterator[ExplainedCell]:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "explain_files", none)
    assert explain(*scenes(tmp_path / "cells", 1), "--out", tmp_path / "out") == 130
    assert "no file was done, nothing is written" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
