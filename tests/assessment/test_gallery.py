from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from leukonca.assessment.gallery import file_name, thumbnail, worst_mistakes
from leukonca.assessment.prediction import Predictions
from leukonca.errors import PictureError


def test_the_surest_mistakes_come_first():
    table = np.array([[0.6, 0.4], [0.1, 0.9], [np.nan, np.nan], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9]])
    predictions = Predictions(("a", "b"), list("uvwxyz"), table, np.zeros(6), ["", "", "broken", "", "", ""])
    truth = ["b", "a", "a", "b", "", "a"]
    found = worst_mistakes(predictions, truth)
    assert [mistake.path for mistake in found] == ["v", "z", "u"]  # x is right, w unread, y unknown
    assert (found[2].truth, found[2].predicted) == ("b", "a")
    assert (found[2].probability, found[2].own) == pytest.approx((0.6, 0.4))
    assert [mistake.path for mistake in worst_mistakes(predictions, truth, limit=1)] == ["v"]


@pytest.mark.parametrize(
    ("shape", "size"), [((400, 300), (144, 192)), ((20, 30), (30, 20)), ((1, 500), (192, 1))]
)
def test_a_thumbnail_is_small_and_keeps_its_proportions(shape, size):
    uri = thumbnail("x", lambda _: np.full((*shape, 3), (200, 30, 60), np.uint8))
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == size
    np.testing.assert_allclose(image.getpixel((0, 0)), (200, 30, 60), atol=6)


@pytest.mark.parametrize("error", [PictureError("x", "is gone"), OSError("no disk")])
def test_a_picture_that_is_gone_leaves_a_gap(error):
    def load(_):
        raise error

    assert thumbnail("x", load) is None


def test_a_file_is_named_with_its_member():
    assert file_name("/a/b/c.png") == "c.png"
    assert file_name("/a/blood.npz::test_images/17") == "blood.npz::test_images/17"
