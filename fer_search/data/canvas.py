"""What `portraits.py` paints on: images, and where in a face each of their pixels lies.

Shapes are signed distances, negative inside; edges are about a pixel soft, so nothing is jagged.
They are in coordinates of the face, wherever it is in the image and however it is turned: its
middle is the origin, x points to the image's right and y down, the chin lies near y = 1, the eyes
near y = -0.1, and the cheeks end near x = -1 and x = 1.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from fer_search.config import FACE_SIZE

_Number = np.ndarray | np.floating | float


class Canvas:
    """A batch of images, empty at first, each for one person.

    Args:
        people: Numbers by name, see `synthetic.TRAITS`, each of shape (N, 1, 1) and float32.
    """

    light: np.ndarray
    """What has been painted so far, (N, 48, 48) float32; 0 is black and 1 white."""
    across: np.ndarray
    down: np.ndarray
    """Coordinates in the image, in [-1, 1], shapes (1, 1, 48) and (1, 48, 1)."""
    x: np.ndarray
    y: np.ndarray
    """Coordinates on the face, (N, 48, 48)."""
    side: np.ndarray
    """Distance from the face's axis, |x|: features of both halves are painted once."""
    head_x: np.ndarray
    """Like x, but for the head's outline, which stays in place when the face turns aside."""
    head: np.ndarray
    hair: np.ndarray
    """Distances to the outlines of the head and of the hair around it, (N, 48, 48)."""

    def __init__(self, people: SimpleNamespace) -> None:
        p = people
        middle = (np.arange(FACE_SIZE, dtype=np.float32) + 0.5) * (2 / FACE_SIZE) - 1
        self.across, self.down = middle[None, None, :], middle[None, :, None]
        x, y = self.across - p.shift_x, self.down - p.shift_y
        cos, sin = np.cos(p.tilt) / p.size, np.sin(p.tilt) / p.size
        self.head_x = (cos * x + sin * y) / p.head_width
        self.y = cos * y - sin * x
        aside = self.head_x - 0.28 * p.turn
        far = aside * p.turn > 0  # the half that is turned away looks narrower
        self.x = aside / (1 - np.where(far, 0.4, -0.15).astype(np.float32) * np.abs(p.turn))
        self.side = np.abs(self.x)

        below = self.y > 0
        jaw = np.where(below, p.jaw, 2).astype(np.float32)
        height = np.where(below, 0.98 + 0.13 * p.mouth_open, 1.02).astype(np.float32)
        reach = np.abs(self.head_x) ** jaw + np.abs(self.y / height) ** jaw
        self.head = reach ** (1 / jaw) - 1
        width, height = 1.08 + p.hair_volume, 0.98 + p.hair_volume
        crown = ellipse(self.head_x, np.minimum(self.y + 0.2, 0), width, height)
        self.hair = np.maximum(crown, self.y - p.hair_length)

        self.light = np.zeros_like(self.y)
        self._pixel = 2 / FACE_SIZE / p.size

    def fill(
        self, shape: np.ndarray, light: _Number, *, strength: _Number = 1.0, soft: float = 1.2
    ) -> None:
        """Lay `light` over a shape whose edge is `soft` pixels wide; `strength` 1 covers fully."""
        self.light += self._cover(shape, soft) * strength * (light - self.light)

    def shade(self, shape: np.ndarray, factor: _Number, *, soft: float = 1.2) -> None:
        """Multiply the light within a shape by `factor`."""
        self.light *= 1 + self._cover(shape, soft) * (factor - 1)

    def _cover(self, shape: np.ndarray, soft: float) -> np.ndarray:
        """Compute how much of each pixel the shape covers, in [0, 1]."""
        cover: np.ndarray = shape * (-1 / (soft * self._pixel))
        cover += 0.5
        return np.clip(cover, 0, 1, out=cover)


def ellipse(x: np.ndarray, y: np.ndarray, width: _Number, height: _Number) -> np.ndarray:
    """Measure distances to an ellipse at x = y = 0 with these half-axes; exact only near it."""
    x, y = x * (1 / width), y * (1 / height)
    distance: np.ndarray = (np.sqrt(x * x + y * y) - 1) * np.minimum(width, height)
    return distance


def stroke(along: np.ndarray, off: np.ndarray, reach: _Number, thickness: _Number) -> np.ndarray:
    """Measure distances to a round-ended line of half-length `reach` and half-width `thickness`."""
    beyond = np.maximum(np.abs(along) - reach, 0)
    distance: np.ndarray = np.sqrt(beyond * beyond + off * off) - thickness
    return distance
