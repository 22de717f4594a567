"""Conversion between image files and the faces that networks are fed, 48 x 48 grey pixels.

Used by `folders.py` and by reports. Files come from anywhere, so nothing about them is taken for
granted: an image whose header claims an enormous size is refused before its pixels are decoded.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

from fer_search.config import FACE_SIZE
from fer_search.errors import DataError

MOST_PIXELS = 40_000_000
"""Width times height beyond which an image is refused; a large camera's photo has 24 million."""

_BROKEN = (OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError, OverflowError,
           MemoryError, struct.error, zlib.error)  # fmt: skip
"""What Pillow's decoders are known to raise on damaged files."""


def decode(data: bytes) -> np.ndarray:
    """Decode an image file of any size and colour to a face.

    The image is converted to grey and, if it has another size, cropped to its central square and
    scaled with antialiasing.

    Args:
        data: Content of a JPEG, PNG, or other file that Pillow reads.

    Returns:
        Shape (48, 48), uint8.

    Raises:
        DataError: As `upright` does.
    """
    from PIL import Image, ImageOps

    grey = upright(data).convert("L")
    if grey.size != (FACE_SIZE, FACE_SIZE):
        grey = ImageOps.fit(grey, (FACE_SIZE, FACE_SIZE), Image.Resampling.LANCZOS)
    return np.array(grey, dtype=np.uint8)


def upright(data: bytes) -> Image.Image:
    """Decode an image file, turned upright by its EXIF data; of an animation, the first frame.

    Args:
        data: Content of a JPEG, PNG, or other file that Pillow reads.

    Returns:
        The image in 8 bits, of mode L or RGB.

    Raises:
        DataError: If `data` is not an image, is damaged or truncated, or claims more than
            `MOST_PIXELS` pixels. The message is a short reason, without the file's name.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on odd metadata and sizes, checked here
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise DataError(f"has {width} x {height} pixels, too many to be a face")
                turned = ImageOps.exif_transpose(image)
            if turned.mode.startswith("I"):  # 16 bits, which convert() would clip instead of scale
                turned = Image.fromarray((np.asarray(turned) >> 8).clip(0, 255).astype(np.uint8))
            return turned if turned.mode in ("L", "RGB") else turned.convert(_eight_bit(turned))
        except Image.DecompressionBombError as error:
            raise DataError("has far too many pixels to be a face") from error
        except UnidentifiedImageError as error:
            raise DataError("is not an image" if data else "is empty") from error
        except _BROKEN as error:
            raise DataError(f"is damaged ({error})") from error


def _eight_bit(image: Image.Image) -> str:
    """Choose the 8-bit mode to which an image of another mode is converted."""
    return "L" if image.mode in ("1", "LA", "La", "F") else "RGB"


def encode(image: np.ndarray) -> bytes:
    """Encode a grey image, shape (H, W), uint8, as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def scaled(images: np.ndarray, size: int) -> np.ndarray:
    """Scale faces as stored models do; those that already have the size are returned unchanged.

    Args:
        images: Shape (N, S, S), uint8.
        size: Side in pixels, at least 1.

    Returns:
        Shape (N, size, size), uint8.
    """
    from PIL import Image

    if images.shape[1:] == (size, size):
        return images
    faces = np.empty((len(images), size, size), np.uint8)
    for face, image in zip(faces, images, strict=True):
        face[:] = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))
    return faces
