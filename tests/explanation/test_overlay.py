from __future__ import annotations

import io

import numpy as np
from PIL import Image

from leukonca.explanation import overlay


def test_orange_speaks_for_violet_against_and_nothing_leaves_the_cell_grey() -> None:
    view = np.full((448, 448, 3), (200, 120, 180), dtype=np.uint8)
    relevance = np.zeros((64, 64))
    relevance[10:20, 10:20], relevance[40:50, 40:50] = 1.0, -1.0
    drawn = overlay.relevance_on(view, relevance, 1.0).astype(int)
    red, _, blue = drawn[105, 105]
    assert red > blue + 80
    red, _, blue = drawn[315, 315]
    assert blue > red + 20
    assert len(set(drawn[105, 315])) == 1


def test_a_map_without_relevance_has_no_lines() -> None:
    view = np.full((128, 128, 3), 200, dtype=np.uint8)
    drawn = overlay.relevance_on(view, np.zeros((64, 64)), 1.0)
    assert len(np.unique(drawn)) == 1


def test_the_scale_leaves_the_few_out_and_is_never_empty() -> None:
    values = np.zeros((100, 100))
    values[:10, :10], values[0, 0] = -1.0, 50.0
    assert overlay.limit_of(values) == 1.0
    assert overlay.limit_of(np.zeros((4, 4))) > 0


def test_a_frame_that_lies_partly_outside_is_cut() -> None:
    picture = np.full((50, 60, 3), 90, dtype=np.uint8)
    drawn = overlay.window_on(picture, (-10.0, 20.0, 30.0, 60.0))
    factor = overlay.factor_for(50)
    assert drawn.shape == (50 * factor, 60 * factor, 3)
    assert (drawn[30 * factor, 20 * factor - 3] != 90).any()
    assert (drawn[10 * factor, 10 * factor] == 90).all()


def test_small_files_hold_what_was_drawn() -> None:
    tile = overlay.map_tile(np.array([[-2.0, 0.0], [1.0, 2.0]]), 2.0)
    assert (np.array(Image.open(io.BytesIO(overlay.png(tile)))) == tile).all()
    assert Image.open(io.BytesIO(overlay.webp(tile))).size == (2, 2)


def test_the_outline_of_sites_is_drawn_on_what_the_model_sees() -> None:
    framed, mask = np.full((32, 32, 3), 90, dtype=np.uint8), np.zeros((16, 16), bool)
    mask[4:8, 4:8] = True
    drawn = overlay.mask_on(framed, mask)
    assert drawn.shape == (160, 160, 3)
    assert drawn[40, 60].tolist() == [0, 229, 255]
    assert (drawn[60, 60] == 90).all()
    assert (drawn[100:] == 90).all()
