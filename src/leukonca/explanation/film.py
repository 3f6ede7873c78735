"""The evolution of a cell as a film strip, and as a short animation.

Values of a channel are coloured from violet (below zero) over white (zero) to orange (above zero), which all
kinds of colour vision tell apart. A channel has one scale for all its steps, written beside it: what grows is
seen to grow.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from PIL import Image

from leukonca.assessment.figures import title_of
from leukonca.explanation.evolution import Evolution
from leukonca.vocabulary import CELL_TYPES
from leukonca.writing import write_bytes

__all__ = ["Animation", "animate", "colour_of", "film_strip", "named_classes", "shown_steps"]

_LOG = logging.getLogger(__name__)

_INK, _QUIET, _LINE = "#1f2933", "#5b6773", "#d5dbe1"
_MAPS: Final = "PuOr_r"
# Of a channel's absolute values; the few beyond it are shown as the ends of the scale.
_QUANTILE: Final = 0.995
# Classes whose probability stays below are drawn without a name.
_NAMED: Final = 0.1
_MOST_NAMED: Final = 4
_WHOLE_MS: Final = 4000
_SLOWEST_MS: Final = 250
_HOLD_MS: Final = 1500
_MP4_RATE: Final = 25


def shown_steps(steps: int) -> list[int]:
    """Return the steps of a film strip, as in the paper: 0, 1, 2, 4, 8 … and the last."""
    return sorted({0, *(1 << power for power in range(steps.bit_length()) if 1 << power <= steps), steps})


def _limits(evolution: Evolution) -> npt.NDArray[np.float64]:
    """Half-width of each channel's scale, float64 [n], above 0."""
    sizes = np.abs(evolution.maps.reshape(len(evolution.channels), -1))
    limits: npt.NDArray[np.float64] = np.quantile(sizes, _QUANTILE, axis=1).astype(np.float64)
    return np.maximum(limits, 1e-6)


def colour_of(name: str, number: int) -> str:
    """Return the colour of a class, ``#rrggbb``: the vocabulary's, or one of ten for a user's own name."""
    kind = CELL_TYPES.get(name)
    return kind.colour if kind else to_hex(f"C{number % 10}")


def named_classes(mean: npt.NDArray[np.float64]) -> list[int]:
    """Return the classes whose curves are drawn with a name, from the one that ever was most probable.

    Args:
        mean: float64 [T + 1, K], probabilities after every step.
    """
    return [int(k) for k in np.argsort(-mean.max(axis=0))[:_MOST_NAMED] if mean[:, k].max() >= _NAMED]


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_LINE)


def film_strip(evolution: Evolution) -> Figure:
    """Draw the picture, the class probabilities over the steps, and the channels at some of them."""
    steps = shown_steps(evolution.steps)
    rows, columns = len(evolution.channels), len(steps)
    figure = Figure(figsize=(1.25 * columns + 1.6, 1.3 * rows + 2.8), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.8, 1.3 * rows))
    upper, lower = parts
    picture, curve = upper.subplots(1, 2, width_ratios=(1, 2.6))
    picture.imshow(evolution.picture)
    picture.set_title("what the model sees", fontsize=9, color=_INK)
    _bare(picture)
    _draw_curve(curve, evolution)
    grid = lower.subplots(rows, columns, squeeze=False)
    for row, (channel, limit) in enumerate(zip(evolution.channels, _limits(evolution), strict=True)):
        scale = Normalize(-limit, limit)
        for column, step in enumerate(steps):
            axes = grid[row, column]
            axes.imshow(evolution.maps[row, step], cmap=colormaps[_MAPS], norm=scale)
            _bare(axes)
            if row == 0:
                axes.set_title(f"step {step}", fontsize=9, color=_INK)
        grid[row, 0].set_ylabel(f"channel {channel}", fontsize=8, color=_INK)
        bar = lower.colorbar(
            ScalarMappable(scale, colormaps[_MAPS]), ax=list(grid[row]), pad=0.01, aspect=12, fraction=0.03
        )
        _tick(bar, limit)
    return figure


def _tick(bar: Any, limit: float) -> None:
    bar.set_ticks([-limit, 0, limit], labels=[f"{-limit:.2g}", "0", f"{limit:.2g}"])
    bar.ax.tick_params(labelsize=7, length=2, colors=_QUIET)
    bar.outline.set_visible(False)


def _draw_curve(axes: Axes, evolution: Evolution) -> None:
    every, mean = np.arange(evolution.steps + 1), evolution.mean
    named = named_classes(mean)
    for number, name in enumerate(evolution.classes):
        if number not in named:
            axes.plot(every, mean[:, number], color=_LINE, linewidth=1)
            continue
        colour = colour_of(name, number)
        runs = evolution.probabilities[:, :, number]
        axes.fill_between(every, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        # Lines differ in dash as well as in colour.
        dash = ("-", "--", ":", "-.")[named.index(number)]
        axes.plot(every, mean[:, number], color=colour, linewidth=2, linestyle=dash, label=title_of(name))
    for step, text in ((evolution.decided, "decided"), (evolution.settled, "settled")):
        axes.axvline(step, color=_QUIET, linewidth=1, linestyle=(0, (2, 2)))
        level = 1.02 if text == "decided" or evolution.decided != evolution.settled else 1.09
        axes.annotate(
            f"{text}: {step}",
            (step, level),
            xycoords=("data", "axes fraction"),
            ha="right" if text == "decided" and step > evolution.steps / 8 else "left",
            fontsize=8,
            color=_QUIET,
        )
    axes.set(xlim=(0, max(1, evolution.steps)), ylim=(0, 1))
    axes.set_xlabel("step", fontsize=9, color=_QUIET)
    axes.set_ylabel("probability", fontsize=9, color=_QUIET)
    axes.tick_params(labelsize=8, colors=_QUIET)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    for name in ("top", "right"):
        axes.spines[name].set_visible(False)


@dataclass(frozen=True, eq=False)
class Animation:
    """Frames and how long each is shown.

    Attributes:
        frames: uint8 [n, rows, columns, 3]; rows and columns are even.
        milliseconds: The n durations.
    """

    frames: npt.NDArray[np.uint8]
    milliseconds: tuple[int, ...]

    def to_webp(self) -> bytes:
        """Return an animated WebP that repeats."""
        first, *others = (Image.fromarray(frame) for frame in self.frames)
        buffer = io.BytesIO()
        first.save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=list(self.milliseconds),
            loop=0,
            quality=80,
            method=2,
        )
        return buffer.getvalue()

    def write_webp(self, file: str | os.PathLike[str]) -> None:
        """Write :meth:`to_webp` into a file.

        Raises:
            DataError: It cannot be written.
        """
        write_bytes(file, self.to_webp())

    def write_mp4(self, file: str | os.PathLike[str]) -> bool:
        """Write an MP4 (H.264) with ffmpeg, where that is installed.

        Returns:
            Whether it was written. Without ffmpeg, or where that fails, it is not; the log then says why.

        Raises:
            DataError: It was made but cannot be written to that place.
        """
        program = shutil.which("ffmpeg")
        if program is None:
            _LOG.info("no MP4 is written: ffmpeg is not installed")
            return False
        rows, columns = self.frames.shape[1:3]
        repeats = np.maximum(1, np.rint(np.array(self.milliseconds) * _MP4_RATE / 1000)).astype(int)
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / "film.mp4"
            words = [program, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
            words += ["-s", f"{columns}x{rows}", "-r", str(_MP4_RATE), "-i", "-"]
            words += ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(draft)]
            film = self.frames.repeat(repeats, axis=0).tobytes()
            done = subprocess.run(words, input=film, capture_output=True, check=False)
            if done.returncode:
                reason = done.stderr.decode("utf-8", "replace").split("\n")[0]
                _LOG.warning("no MP4 is written: ffmpeg failed: %s", reason or done.returncode)
                return False
            write_bytes(file, draft.read_bytes())
        return True


def animate(evolution: Evolution) -> Animation:
    """Draw a frame for every step: the picture, the channels, and the class probabilities as bars."""
    figure = Figure(figsize=(10.4, 3.8), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(1, 3, width_ratios=(1.0, 1.7, 1.2))
    left, middle, right = parts
    picture = left.subplots()
    picture.imshow(evolution.picture)
    _bare(picture)
    title = picture.set_title(_step_title(evolution, 0), fontsize=11, color=_INK)
    across = 1 if len(evolution.channels) == 1 else 2 if len(evolution.channels) <= 4 else 3
    down = -(-len(evolution.channels) // across)
    grid = middle.subplots(down, across, squeeze=False)
    images = []
    for axes in grid.flat[len(evolution.channels) :]:
        axes.set_visible(False)
    for row, (channel, limit) in enumerate(zip(evolution.channels, _limits(evolution), strict=True)):
        axes = grid.flat[row]
        scale = Normalize(-limit, limit)
        images.append(axes.imshow(evolution.maps[row, 0], cmap=colormaps[_MAPS], norm=scale))
        axes.set_title(f"channel {channel}", fontsize=8, color=_INK)
        _bare(axes)
        bar = middle.colorbar(images[-1], ax=axes, location="bottom", pad=0.02, aspect=14, fraction=0.06)
        _tick(bar, limit)
    bars_axes = right.subplots()
    names, mean = [title_of(name) for name in evolution.classes], evolution.mean
    colours = [colour_of(name, number) for number, name in enumerate(evolution.classes)]
    bars = bars_axes.barh(range(len(names)), mean[0], color=colours)
    numbers = [
        bars_axes.text(1.02, row, "", va="center", fontsize=8, color=_INK) for row in range(len(names))
    ]
    bars_axes.set_yticks(range(len(names)), names, fontsize=8, color=_INK, parse_math=False)
    bars_axes.invert_yaxis()
    bars_axes.set(xlim=(0, 1.18))
    bars_axes.set_xticks([0, 0.5, 1])
    bars_axes.set_xlabel("probability", fontsize=8, color=_QUIET)
    bars_axes.tick_params(labelsize=8, length=0)
    for name in ("top", "right", "left"):
        bars_axes.spines[name].set_visible(False)
    # What does not change is drawn once: a frame then takes a twentieth of the time.
    changing = [title, *images, *bars, *numbers]
    for artist in changing:
        artist.set_animated(True)
    canvas.draw()
    still, frames = canvas.copy_from_bbox(figure.bbox), []
    for step in range(evolution.steps + 1):
        title.set_text(_step_title(evolution, step))
        for row, image in enumerate(images):
            image.set_data(evolution.maps[row, step])
        for row, one in enumerate(bars):
            one.set_width(mean[step, row])
            numbers[row].set_text(f"{mean[step, row]:.0%}")
        canvas.restore_region(still)
        for artist in changing:
            artist.axes.draw_artist(artist)
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    each = min(_SLOWEST_MS, max(40, _WHOLE_MS // (evolution.steps + 1)))
    return Animation(np.stack(frames), (*(each for _ in frames[1:]), each + _HOLD_MS))


def _step_title(evolution: Evolution, step: int) -> str:
    said = " (settled)" if step >= evolution.settled else " (decided)" if step >= evolution.decided else ""
    return f"step {step} of {evolution.steps}{said}"
