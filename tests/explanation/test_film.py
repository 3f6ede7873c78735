from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explanation.scenes import model, smear
from leukonca.cells.framing import Framing, frame
from leukonca.errors import DataError
from leukonca.explanation.evolution import Evolution, evolve
from leukonca.explanation.film import Animation, animate, film_strip, shown_steps


@pytest.fixture(scope="module")
def told() -> Evolution:
    return evolve(model(), frame(smear()[0], Framing(32)), 9, top=3, seeds=2)


@pytest.fixture(scope="module")
def film() -> Animation:
    """Plain frames, so that nothing is drawn where drawing is not tested."""
    frames = np.zeros((3, 24, 32, 3), dtype=np.uint8)
    frames[np.arange(3), :, np.arange(3) * 8] = 255
    return Animation(frames, (80, 80, 400))


@pytest.mark.parametrize(
    ("steps", "shown"),
    [(64, [0, 1, 2, 4, 8, 16, 32, 64]), (12, [0, 1, 2, 4, 8, 12]), (1, [0, 1]), (2, [0, 1, 2])],
)
def test_steps_are_shown_as_in_the_paper(steps: int, shown: list[int]) -> None:
    assert shown_steps(steps) == shown


def test_a_strip_shows_picture_curve_scales_and_every_map(told: Evolution) -> None:
    figure = film_strip(told)
    axes = figure.get_axes()
    # Picture, curve, three channels at steps 0, 1, 2, 4, and a scale for each channel.
    assert len(axes) == 2 + 3 * 4 + 3
    titles = [one.get_title() for one in axes]
    assert [title for title in titles if title.startswith("step")] == ["step 0", "step 1", "step 2", "step 4"]
    for row, channel in enumerate(told.channels):
        (first,) = (one for one in axes if one.get_ylabel() == f"channel {channel}")
        start = axes.index(first)
        for place, step in enumerate((0, 1, 2, 4)):
            (image,) = axes[start + place].get_images()
            assert (np.asarray(image.get_array()) == told.maps[row, step]).all()
            # One scale for all steps, zero in its middle.
            low, high = image.get_clim()
            assert low == -high < 0
            assert high == pytest.approx(np.quantile(np.abs(told.maps[row]), 0.995))
    curve = axes[1]
    drawn = [line.get_ydata() for line in curve.get_lines() if len(line.get_xdata()) == told.steps + 1]  # type: ignore[arg-type]
    assert len(drawn) == 3
    for k in range(3):
        assert any(np.allclose(line, told.mean[:, k]) for line in drawn)
    texts = {text.get_text() for text in curve.texts}
    assert texts == {f"decided: {told.decided}", f"settled: {told.settled}"}


def test_an_animation_has_a_frame_for_every_step(told: Evolution) -> None:
    moving = animate(told)
    assert moving.frames.shape[0] == len(moving.milliseconds) == 5
    assert all(side % 2 == 0 for side in moving.frames.shape[1:3])
    assert moving.milliseconds[-1] > 1000 > moving.milliseconds[0]
    for before, after in zip(moving.frames, moving.frames[1:], strict=False):
        assert (before != after).any()
    # The picture itself stands still.
    picture = np.s_[100:300, 20:200]
    assert (moving.frames[0][picture] == moving.frames[-1][picture]).all()


def test_what_never_changes_gives_the_same_frame(told: Evolution) -> None:
    still = replace(
        told,
        maps=np.zeros_like(told.maps),
        probabilities=np.repeat(told.probabilities[:, -1:], told.steps + 1, axis=1),
    )
    frames = animate(still).frames
    # But for the title, which counts.
    below = np.s_[80:]
    assert all((frame_[below] == frames[0][below]).all() for frame_ in frames)


def test_a_webp_repeats_and_keeps_the_times(film: Animation, tmp_path: Path) -> None:
    film.write_webp(tmp_path / "new" / "film.webp")
    with Image.open(tmp_path / "new" / "film.webp") as found:
        assert (found.n_frames, found.size, found.info["loop"]) == (3, (32, 24), 0)  # type: ignore[attr-defined]
        times = []
        for number in range(3):
            found.seek(number)
            found.load()
            times.append(found.info["duration"])
            seen = np.asarray(found.convert("RGB"))
            assert np.abs(seen.astype(int) - film.frames[number]).mean() < 12
        assert tuple(times) == film.milliseconds
    with pytest.raises(DataError, match="cannot be written"):
        film.write_webp(tmp_path / "new" / "film.webp" / "below.webp")


def ffmpeg(folder: Path, body: str) -> None:
    """A program called ffmpeg that is not ffmpeg."""
    program = folder / "ffmpeg"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nwords, film = sys.argv, sys.stdin.buffer.read()\n{body}\n"
    )
    program.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot stand for a program")
def test_ffmpeg_is_given_every_frame_for_its_time(
    film: Animation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert film.write_mp4(tmp_path / "none.mp4") is False
    assert not (tmp_path / "none.mp4").exists()
    ffmpeg(tmp_path, "open(words[-1], 'wb').write(' '.join(words[1:-1]).encode() + b'|' + film)")
    assert film.write_mp4(tmp_path / "film.mp4") is True
    words, _, received = (tmp_path / "film.mp4").read_bytes().partition(b"|")
    assert b"-s 32x24 -r 25 -i -" in words
    assert b"-pix_fmt yuv420p" in words
    # 80 ms are two frames of a film with 25 a second, 400 ms are ten.
    assert received == film.frames.repeat([2, 2, 10], axis=0).tobytes()


@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot stand for a program")
def test_a_failing_ffmpeg_leaves_no_film(
    film: Animation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ffmpeg(tmp_path, "sys.exit('Unknown encoder libx264')")
    assert film.write_mp4(tmp_path / "film.mp4") is False
    assert not (tmp_path / "film.mp4").exists()
    assert "no MP4 is written: ffmpeg failed: Unknown encoder libx264" in caplog.text


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_real_ffmpeg_makes_an_mp4(film: Animation, tmp_path: Path) -> None:
    assert film.write_mp4(tmp_path / "film.mp4") is True
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"
