from __future__ import annotations

from pathlib import Path

import pytest

from leukonca.cells.source import known_sources
from leukonca.commands import sources
from leukonca.errors import DataError


def run(*words: object) -> int:
    return sources.run(sources.parser().parse_args([str(word) for word in words]))


def test_the_list_has_a_line_for_each_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(known_sources())]] == list(known_sources())
    line = next(line for line in lines if line.startswith("acevedo20"))
    assert "17,092" in line
    assert "eight (8), thirteen (10)" in line
    assert "CC BY 4.0" in line


@pytest.mark.parametrize("name", known_sources())
def test_each_set_is_shown_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = known_sources()[name]
    assert run(name) == 0
    out = capsys.readouterr().out
    assert source.doi in out
    for use in source.uses.values():
        assert f"{name}@{use.name}" in out
        for label in use.classes:
            assert label in out


def test_what_is_left_out_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run("MATEK")
    out = capsys.readouterr().out
    assert "MOB -> monocyte" in out
    assert "PMB -> left out: bilobed promyelocyte" in out


def test_a_description_of_ones_own_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'name="lab"\ntitle="Our lab"\ncitation="c"\nlicence="l"\n[uses.a]\ntitle="t"\nclasses=["x"]\n'
        '[[uses.a.rules]]\npath="**"\nlabel="x"\n',
        encoding="utf-8",
    )
    assert run(own) == 0
    assert capsys.readouterr().out.startswith("lab: Our lab\n")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'acevedo20'"):
        run("acevedo2")
