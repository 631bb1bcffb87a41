# SPDX-License-Identifier: Apache-2.0
"""The client's half of text_detection: picture -> tensor, probability map -> boxes. numpy, and Pillow to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "boxes", "draw_text", "prepare"]

_MULTIPLE = 32  # the network halves the picture five times
_THRESHOLD, _LEAST_SCORE, _LEAST_SIDE = 0.3, 0.5, 3


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, right and bottom excluded; ``score`` is the mean probability in its component."""

    left: int
    top: int
    right: int
    bottom: int
    score: float


def draw_text(lines: Sequence[str], size: tuple[int, int] = (640, 320)) -> NDArray[np.uint8]:
    """A picture [height, width, 3] with ``lines`` in black on white; needs Pillow."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=36)
    for row, line in enumerate(lines):
        pen.text((40, 30 + row * size[1] // max(1, len(lines))), line, fill="black", font=font)
    return np.asarray(picture, np.uint8)


def prepare(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """UINT8 [height, width, 3] RGB -> FP32 [3, height, width], BGR from -1 to 1, padded to multiples of 32."""
    height, width = (-(-side // _MULTIPLE) * _MULTIPLE for side in picture.shape[:2])
    padded = np.full((height, width, 3), 255, np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return np.ascontiguousarray(padded[..., ::-1].transpose(2, 0, 1), np.float32) / 127.5 - 1


def boxes(probabilities: NDArray[np.float32]) -> list[Box]:
    """The connected areas [height, width] that are text, from top to bottom, each with a margin.

    The model is trained on shrunken text areas, so a box is grown by a part of its height.
    """
    areas, count = _components(probabilities > _THRESHOLD)
    found = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(areas == number)
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        score = float(probabilities[rows, columns].mean())
        if score < _LEAST_SCORE or min(bottom - top, right - left) < _LEAST_SIDE:
            continue
        margin = int(0.4 * (bottom - top))
        height, width = probabilities.shape
        x0, y0 = max(0, int(left) - margin), max(0, int(top) - margin)
        found.append(Box(x0, y0, min(width, int(right) + margin), min(height, int(bottom) + margin), score))
    return sorted(found, key=lambda box: (box.top, box.left))


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """Label the 4-connected areas of ``mask`` 1, 2, ...; returns how many there are.

    Each pixel starts with a number of its own and takes the least of its neighbours until nothing changes.
    """
    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        before = numbers
        for axis in (0, 1):
            for step in (1, -1):
                numbers = _spread(numbers, axis, step)
        if np.array_equal(before, numbers):
            break
    values = np.union1d([0], numbers)
    return np.searchsorted(values, numbers), len(values) - 1


def _spread(numbers: NDArray[Any], axis: int, step: int) -> NDArray[Any]:
    """Carry the least number along each run of the mask in one direction, in one pass over the lines."""
    lines = np.moveaxis(numbers, axis, 0)[::step].copy()
    for i in range(1, len(lines)):
        both = (lines[i] > 0) & (lines[i - 1] > 0)
        lines[i][both] = np.minimum(lines[i], lines[i - 1])[both]
    return np.moveaxis(lines[::step], 0, axis)
