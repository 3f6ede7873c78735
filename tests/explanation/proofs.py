"""Image sets with masks, made up, and a small automaton whose explanations are put to the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from explanation.scenes import model, smear
from learning.micro import save
from leukonca.cells.framing import Framing
from leukonca.explanation.proof.settings import Sizes
from leukonca.learning.trained import TrainedModel

SIZES = Sizes(cells=6, sanity_cells=4, seeds=2, other_seeds=1, points=4, patches=(4, 8), resamples=50)


def small() -> TrainedModel:
    return model(Framing(16), steps=3)


def scene(seed: int, radius: float = 11) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return smear(side=48, cell=(24, 24, radius), red=((6, 6, 8), (44, 40, 8)), seed=seed)


def write_bcisc(folder: Path, count: int = 4) -> str:
    """Write cells of three classes with masks in the layout of BCISC, two a field, and return the SPEC."""
    for number in range(count):
        for kind in ("eosi", "lymp", "mono"):
            picture, mask, _ = scene(number + 100 * len(kind) + ord(kind[0]))
            name = f"{kind}_1-{number // 2}_{number}"
            save(folder / "sub-images" / "images" / f"{name}.jpg", picture)
            save(folder / "sub-images" / "masks" / f"{name}.png", mask * np.uint8(255))
    return f"bcisc:{folder}"


def write_zheng(folder: Path, count: int = 6) -> str:
    """Write cells with masks of cytoplasm and nucleus in the layout of Zheng's first set."""
    codes = []
    for number in range(1, count + 1):
        picture, mask, nucleus = scene(number)
        save(folder / "Dataset 1" / f"{number:03}.bmp", picture)
        save(folder / "Dataset 1" / f"{number:03}.png", mask * np.uint8(128) + nucleus * np.uint8(127))
        codes.append(f"{number},{2 + number % 3}")
    text = "image ID,class label\n" + "\n".join(codes) + "\n"
    (folder / "Class Labels of Dataset 1.csv").write_text(text, encoding="utf-8")
    return f"zheng1:{folder}"


def write_plain(folder: Path, count: int = 4) -> str:
    """Write a folder per class, without masks."""
    for number in range(count):
        for place, kind in enumerate(("eosinophil", "lymphocyte", "monocyte")):
            save(folder / kind / f"{number}.png", scene(1000 + 10 * number + place)[0])
    return f"folder:{folder}"


def opened(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.array(picture)
