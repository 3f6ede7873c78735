"""Spoilt pictures pixel by pixel, from the definitions, without a thought for speed."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["bubbles", "defocus", "motion", "saturate"]


def _mirrored(place: int, side: int) -> int:
    while not 0 <= place < side:
        place = -place if place < 0 else 2 * (side - 1) - place
    return place


def defocus(picture: np.ndarray, radius: int) -> np.ndarray:
    """The mean over a disk about each pixel; beyond the border the picture is mirrored."""
    height, width, _ = picture.shape
    result = np.zeros(picture.shape)
    for y in range(height):
        for x in range(width):
            inside = [
                picture[_mirrored(y + dy, height), _mirrored(x + dx, width)].astype(float)
                for dy in range(-radius, radius + 1)
                for dx in range(-radius, radius + 1)
                if math.hypot(dx, dy) <= radius
            ]
            result[y, x] = sum(inside) / len(inside)
    return result


def motion(picture: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Each pixel is smeared along a line of 2 · radius + 1 pixels with the weights of half a Gaussian."""
    height, width, _ = picture.shape
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)]
    result = np.zeros(picture.shape)
    for y in range(height):
        for x in range(width):
            for i, weight in enumerate(weights):
                column = x + math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
                row = y + math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
                pixel = picture[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
                result[y, x] += weight * pixel / sum(weights)
    return result


def saturate(picture: np.ndarray, amount: float) -> np.ndarray:
    """More saturation in HSV."""
    result = np.zeros(picture.shape)
    for y, x in np.ndindex(picture.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(picture[y, x] / 255))
        result[y, x] = np.array(colorsys.hsv_to_rgb(hue, min(saturation + amount, 1), value)) * 255
    return result


def bubbles(picture: np.ndarray, circles: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Circles (row, column, radius) of white, the later over the earlier: 100/255 of it, rims 130/255."""
    result = picture.astype(float)
    for y, x in np.ndindex(picture.shape[:2]):
        white = 0.0
        for row, column, radius in circles:
            distance = math.hypot(y - row, x - column)
            if distance <= radius:
                white = 100 / 255
            elif distance <= radius + 2:
                white = 130 / 255
        result[y, x] += (255 - result[y, x]) * white
    return result
