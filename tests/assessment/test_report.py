from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from leukonca.assessment.metrics import Metrics
from leukonca.assessment.prediction import Predictions
from leukonca.assessment.promises import Promises
from leukonca.assessment.report import write_report
from leukonca.errors import DataError, PictureError
from leukonca.learning.trust import Trust

FILES = {
    "predictions.csv",
    "confusion.csv",
    "confusion.png",
    "reliability.png",
    "report.html",
    "metrics.json",
}
HOSTILE = '<img src=x onerror="alert(1)">'


def picture(_):
    return np.full((24, 32, 3), 128, np.uint8)


def said(classes, truth, right=0.8, seed=0):
    """Predictions that are right for about a share ``right`` of the cells."""
    generator = np.random.default_rng(seed)
    n, k = len(truth), len(classes)
    winner = np.array([classes.index(label) for label in truth])
    winner = np.where(generator.random(n) < right, winner, generator.integers(0, k, size=n))
    table = generator.dirichlet(np.ones(k), size=n) * 0.4 + 0.6 * np.eye(k)[winner]
    return Predictions(
        tuple(classes), [f"/slides/{i}.png" for i in range(n)], table, np.full(n, 0.02), [""] * n
    )


def write(out, predictions, truth, **options):
    options = {
        "title": "A test",
        "facts": {"Model": "tiny"},
        "load_picture": picture,
        "resamples": 20,
    } | options
    metrics = write_report(out, predictions=predictions, truth=truth, **options)
    return metrics, (out / "report.html").read_text(encoding="utf-8")


class Addresses(HTMLParser):
    """Collects whatever a browser would fetch, and checks that tags close in order."""

    void = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.found, self.open, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [value for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Addresses()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A report with everything that can go wrong in the data: a broken file, rare and absent classes."""
    classes = ("basophil", "lymphocyte", HOSTILE, "monocyte")
    truth = ["basophil"] * 40 + ["lymphocyte"] * 40 + [HOSTILE] * 5 + [""]
    predictions = said(classes, [label or "basophil" for label in truth])
    table, errors = predictions.probabilities.copy(), list(predictions.errors)
    table[3] = np.nan
    errors[3] = "is truncated & broken"
    predictions = Predictions(classes, [HOSTILE, *predictions.paths[1:]], table, predictions.spread, errors)
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    metrics, page = write(
        out,
        predictions,
        truth,
        title=HOSTILE,
        facts={"Model": HOSTILE, "Data": "acevedo20"},
        notes=["Compared coarsely.", ""],
        history=pd.DataFrame({"epoch": [0, 1], "train_loss": [2.0, 1.0]}),
        groups=[f"slide {row % 8}" for row in range(len(truth))],
    )
    return out, metrics, page


def test_a_report_is_these_files_and_no_drafts(full):
    assert {file.name for file in full[0].iterdir()} == FILES


def test_the_page_asks_for_nothing_and_runs_nothing(full):
    page = full[2]
    parser = parsed(page)
    assert parser.found
    assert all(address.startswith("data:image/") for address in parser.found)
    assert "script" not in parser.tags
    assert "@import" not in page
    assert "url(" not in page
    assert "http" not in re.sub(r"data:[^\"]*", "", page).replace("http-equiv", "")


def test_what_the_user_names_is_escaped(full):
    assert HOSTILE not in full[2]
    assert html.escape(HOSTILE, quote=False)[:12] in full[2]
    assert "is truncated &amp; broken" in full[2]


def test_the_tables_say_what_the_page_says(full):
    out, metrics, page = full
    assert Metrics.from_dict(json.loads((out / "metrics.json").read_text("utf-8"))).to_dict() == (
        metrics.to_dict()
    )
    confusion = pd.read_csv(out / "confusion.csv", index_col="truth")
    np.testing.assert_array_equal(confusion.to_numpy(), metrics.confusion)
    again = Predictions.read(out / "predictions.csv")
    assert again.truth[:2] == ["basophil", "basophil"]
    assert again.errors[3] == "is truncated & broken"
    assert f"{100 * metrics.accuracy.value:.1f}\N{NO-BREAK SPACE}%" in page
    assert f"{metrics.macro_f1.low:.3f}–{metrics.macro_f1.high:.3f}" in page


def test_the_page_warns_of_what_makes_numbers_weak(full):
    text = re.sub(r"\s+", " ", full[2].replace("\N{NO-BREAK SPACE}", " "))
    assert "Compared coarsely." in text
    assert "1 of 86 files could not be read" in text
    assert "1 file has no true label" in text
    assert "Fewer than 30 cells of:" in text
    assert "No cells of: Monocyte." in text
    assert "from 8 groups (patients or slides) only" in text
    assert "Not a medical device" in text
    assert "acevedo20" in text


def test_a_perfect_model_has_no_mistakes_to_show(tmp_path):
    truth = ["a", "b"] * 20
    _, page = write(tmp_path, said(("a", "b"), truth, right=1.0), truth)
    parsed(page)
    assert "every cell got its right name" in page
    assert "Files that could not be read" not in page
    assert "patient or slide is not known" in page


def test_one_cell_is_enough_for_a_report(tmp_path):
    metrics, page = write(tmp_path, said(("a", "b"), ["a"], right=1.0), ["a"])
    parsed(page)
    assert metrics.n == 1
    assert "There is a single cell" in page
    assert "95 % percentile bootstrap" not in page


def test_no_draws_give_no_intervals(tmp_path):
    truth = ["a", "b", "b"]
    _, page = write(tmp_path, said(("a", "b"), truth, right=1.0), truth, resamples=0)
    assert "Intervals were not computed" in page


def test_many_mistakes_show_the_surest_and_missing_pictures_a_gap(tmp_path):
    def gone(path):
        raise PictureError(path, "is gone")

    truth = ["a"] * 60
    table = np.tile([0.1, 0.9], (60, 1))
    predictions = Predictions(("a", "b"), [f"{i}.png" for i in range(60)], table, np.zeros(60), [""] * 60)
    _, page = write(tmp_path, predictions, truth, load_picture=gone)
    assert page.count("picture not available") == 24
    assert "The 24 of 60\N{NO-BREAK SPACE}mistakes" in page


def test_pictures_are_decoded_from_their_files_by_default(tmp_path):
    from PIL import Image

    file = tmp_path / "Zelle ä.png"
    Image.fromarray(picture("")).save(file)
    predictions = Predictions(("a", "b"), [str(file)], np.array([[0.1, 0.9]]), np.zeros(1), [""])
    _, page = write(tmp_path / "out", predictions, ["a"], load_picture=None)
    assert "picture not available" not in page
    assert "data:image/jpeg" in page
    assert "Zelle ä.png" in page


def test_nothing_to_measure_is_an_error_and_writes_nothing(tmp_path):
    predictions = Predictions(("a", "b"), ["x"], np.full((1, 2), np.nan), np.zeros(1), ["broken"])
    with pytest.raises(DataError, match="1 could not be read"):
        write(tmp_path / "out", predictions, ["a"])
    assert not (tmp_path / "out").exists()


def test_a_repeated_report_is_the_same_to_the_byte(tmp_path):
    truth = ["a", "b"] * 10
    for name in ("one", "two"):
        write(tmp_path / name, said(("a", "b"), truth), truth)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_was_promised_stands_on_the_page_and_in_the_figures(tmp_path):
    classes, truth = ("basophil", "monocyte"), ["basophil", "monocyte"] * 20
    predictions = said(classes, truth)
    trust = Trust(0.7, np.linspace(0, 1, 99, dtype=np.float32), None, {"cells": 99})
    promises = Promises.of(trust, predictions, truth, resamples=20)
    _, page = write(tmp_path / "with", predictions, truth, promises=promises)
    figures = json.loads((tmp_path / "with" / "metrics.json").read_text("utf-8"))
    assert figures["trust"] == promises.to_dict()
    assert figures["review"]["accuracy_of_the_others"][0] == figures["accuracy"]["value"]
    parsed(page)
    assert "temperature 0.700, fitted on 99\N{NO-BREAK SPACE}held-out cells" in page
    for entry in promises.sets:
        assert f"<td>{100 * entry.asked:.1f}\N{NO-BREAK SPACE}%</td>" in page
        assert f"{100 * entry.reached.value:.1f}\N{NO-BREAK SPACE}%" in page
    assert "classify</code> would not name them" not in page  # this model cannot tell
    _, page = write(tmp_path / "without", predictions, truth)
    assert json.loads((tmp_path / "without" / "metrics.json").read_text("utf-8"))["trust"] is None
    assert "Coverage asked" not in page
