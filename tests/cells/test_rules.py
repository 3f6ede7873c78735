from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leukonca.cells.fields import Fields
from leukonca.cells.rules import Pattern, Verdict, plain_key, read_pattern, read_rule
from leukonca.errors import DataError
from reference import globs


def pattern(glob: str) -> Pattern:
    return read_pattern(Fields("a.toml", "x", {"path": glob}, ("path", "regex")))


GLOB_NAME = st.text("ab.*?", min_size=1, max_size=4).filter(lambda name: "**" not in name)
GLOBS = st.builds(
    lambda parts, last: "/".join([*parts, last]),
    st.lists(st.one_of(st.just("**"), GLOB_NAME), max_size=3),
    st.one_of(st.just("**"), GLOB_NAME),
)
PATHS = st.lists(st.text("abAB.", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@given(GLOBS, PATHS)
def test_globs_match_what_the_slow_reference_matches(glob: str, path: str) -> None:
    assert bool(pattern(glob).match(path)) == globs.matches(glob, path)


@pytest.mark.parametrize(
    ("glob", "path", "caught"),
    [
        ("**/{code}_*", "deep/er/NEUTROPHIL_1_2.jpg", "NEUTROPHIL"),
        ("**/{code}_*", "BA_1.jpg", "BA"),
        ("**/{code}/*", "x/BAS/BAS_1.tiff", "BAS"),
        ("**/{code}/*", "x.jpg", None),
        ("Main {code}/*.bmp", "main A.B/1.BMP", "A.B"),
    ],
)
def test_a_part_of_a_name_is_caught(glob: str, path: str, caught: str | None) -> None:
    found = pattern(glob).match(path)
    assert (found["code"] if found else None) == caught


def test_characters_of_regular_expressions_are_plain_in_a_glob() -> None:
    assert pattern("a+(b).jpg").match("a+(b).jpg")
    assert not pattern("a.jpg").match("axjpg")


def test_a_rule_speaks_only_of_codes_that_it_knows() -> None:
    rule = read_rule("a.toml", "r", {"path": "{code}/*", "labels": {"A": "one"}, "left_out": {"B": "why"}})
    assert rule.judge("a/1.jpg") == Verdict(label="one")
    assert rule.judge("B/1.jpg") == Verdict(left_out="why")
    assert rule.judge("C/1.jpg") is None
    assert rule.judge("1.jpg") is None


def test_a_rule_looks_codes_up() -> None:
    table = {"file": "l.csv", "key": "id", "value": "class"}
    rule = read_rule("a.toml", "r", {"path": "{key}.bmp", "labels": {"1": "one"}, "table": table})
    codes = {"7": "1", "8": "2"}
    assert rule.judge("007.bmp", codes) == Verdict(label="one")
    assert rule.judge("008.bmp", codes) is None
    assert rule.judge("009.bmp", codes) is None


@pytest.mark.parametrize(("key", "plain"), [("007", "7"), ("0", "0"), ("000", "0"), (" A1 ", "a1"), ("", "")])
def test_keys_are_compared_without_leading_zeros(key: str, plain: str) -> None:
    assert plain_key(key) == plain


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "*", "labl": "x"}, "unknown key 'labl'; did you mean 'label'?"),
        ({"label": "x"}, "either path"),
        ({"path": "*", "regex": ".*", "label": "x"}, "either path"),
        ({"regex": "(", "label": "x"}, "not a regular expression"),
        ({"path": "{colour}/*", "label": "x"}, "{colour} is not one of"),
        ({"path": "*"}, "one of label"),
        ({"path": "*", "label": "x", "left_out": "y"}, "one of label"),
        ({"path": "*", "label": "x", "left_out": {"a": "y"}}, "for all pictures"),
        ({"path": "*", "labels": {"A": "x"}}, "has to catch {code}"),
        ({"path": "{code}", "labels": {"A": "x", "a": "y"}}, "differ in case only"),
        ({"path": "{code}", "labels": {"A": "x"}, "left_out": {"A": "y"}}, "both labelled and left out"),
        ({"path": "{code}", "labels": {"A": 3}}, "labels.A must be a string"),
        ({"path": "{code}", "labels": {"A": "x"}, "table": {"file": "f"}}, "key is missing"),
        ({"path": 3, "label": "x"}, "path must be a string, not 3"),
        ([], "must be a table"),
    ],
)
def test_a_wrong_rule_is_refused_by_file_and_place(values: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rule("my.toml", "uses.five.rules.2", values)
    assert str(caught.value).startswith("my.toml: [uses.five.rules.2")
    assert message in str(caught.value)
