from __future__ import annotations

import pytest

from leukonca import __version__
from leukonca.commands import doctor
from leukonca.nca.engines import fused
from leukonca.nca.engines.fused.levels import LEVELS


def test_it_says_which_engine_runs_and_what_would_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LEUKONCA_ENGINE", raising=False)
    status = fused.Status(LEVELS["avx2"], reason="there is no compiler")
    monkeypatch.setattr(fused, "status", lambda: status)
    assert doctor.run(doctor.parser().parse_args([])) == 0
    out = capsys.readouterr().out
    assert f"leukonca:     {__version__}" in out
    assert "fused engine: does not run: there is no compiler\n" in out
    assert "auto takes:   eager (the fused engine does not run here: there is no compiler)\n" in out
    assert "pip install ninja" in out
