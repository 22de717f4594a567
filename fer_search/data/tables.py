"""Faces in a table of pixels: the CSV of the ICML challenge, as published and as Kaggle has it.

A row is an image: `emotion` (0 to 6 in the order of the challenge), `pixels` (48 x 48 numbers
separated by spaces) and, if the file has it, `Usage`. `sources.py` passes files here; names in the
header may have spaces around them and come in any order, as in Kaggle's `icml_face_data.csv`.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fer_search.config import EMOTIONS, FACE_SIZE
from fer_search.data.folders import OFFICIAL_PARTS
from fer_search.errors import DataError

CHALLENGE = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Emotions in the order of the numbers in the table; not that of `EMOTIONS`."""

_log = logging.getLogger(__name__)

_SHOWN = 5
_KEY_VERSION = b"table 1"
"""Must change whenever the same file is read differently."""


def content_key(file: Path) -> str:
    """Digest the bytes of a table into 32 hexadecimal digits.

    Raises:
        DataError: If it cannot be opened.
    """
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, _digest).hexdigest()
    except OSError as error:
        raise DataError(
            f"{file} cannot be opened: {error.strerror}", hint="check the path and its permissions"
        ) from error


def read(file: Path) -> dict[str, np.ndarray]:
    """Read all rows of a table.

    Returns:
        `images` (N, 48, 48) uint8; `labels` (N,) int64, in the order of `EMOTIONS`; `lines` (N,)
        int64, from 1; and `splits`, (N,) strings.

    Raises:
        DataError: If the file is not such a table, a row is malformed, or an emotion has no
            images.
    """
    _log.info("Reading %s", file)
    images, labels, lines, splits, faults = [], [], [], [], []
    with file.open(encoding="utf-8-sig", newline="") as opened:
        for line, header, row in _rows(file, opened):
            try:
                image, label, split = _parsed(header, row)
            except ValueError as error:
                faults.append(f"line {line}: {error}")
                continue
            images.append(image)
            labels.append(label)
            lines.append(line)
            splits.append(split)
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise DataError(
            f"{file}: malformed rows: {'; '.join(faults[:_SHOWN])}{more}",
            hint="repair or remove these rows; was the download complete?",
        )
    missing = [name for i, name in enumerate(EMOTIONS) if i not in labels]
    if missing:
        raise DataError(
            f"{file}: no images of {', '.join(missing)}",
            hint="expected rows of all seven emotions",
        )
    return {
        "images": np.stack(images),
        "labels": np.array(labels, np.int64),
        "lines": np.array(lines, np.int64),
        "splits": np.array(splits),
    }


def _digest() -> Any:
    return hashlib.blake2b(_KEY_VERSION, digest_size=16)


def _rows(file: Path, opened: Iterable[str]) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield each row with its line number and the header in lower case."""
    reader = csv.reader(opened)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if not {"emotion", "pixels"} <= set(header):
            raise DataError(
                f"{file}: the header is {', '.join(header)[:200] or 'missing'}; "
                "expected the columns emotion, pixels and, if known, Usage",
                hint="use, for example, the challenge's fer2013.csv or Kaggle's icml_face_data.csv",
            )
        for row in reader:
            if row:
                yield reader.line_num, header, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}, after line {reader.line_num}: not a text table: {error}",
            hint="expected a CSV file in UTF-8; unpack a zip first",
        ) from error


def _parsed(header: list[str], row: list[str]) -> tuple[np.ndarray, int, str]:
    """Read one row.

    Raises:
        ValueError: If the row is malformed; the message says what was expected.
    """
    if len(row) != len(header):
        raise ValueError(f"{len(row)} cells, expected {len(header)}")
    cells = dict(zip(header, row, strict=True))
    emotion = cells["emotion"].strip()
    if emotion not in map(str, range(len(CHALLENGE))):
        raise ValueError(f"emotion {emotion[:20]!r}, expected 0 to {len(CHALLENGE) - 1}")
    part = ""
    if "usage" in cells:
        usage = cells["usage"].strip()
        if usage.lower() not in OFFICIAL_PARTS:
            raise ValueError(f"Usage {usage[:20]!r}, expected Training, PublicTest or PrivateTest")
        part = OFFICIAL_PARTS[usage.lower()]
    texts = cells["pixels"].split()
    if len(texts) != FACE_SIZE**2:
        raise ValueError(f"{len(texts)} pixels, expected {FACE_SIZE**2}")
    try:
        pixels = np.array(texts, np.int64)
    except (ValueError, OverflowError):
        raise ValueError("a pixel is not a number") from None
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"pixels from {pixels.min()} to {pixels.max()}, expected 0 to 255")
    image = pixels.astype(np.uint8).reshape(FACE_SIZE, FACE_SIZE)
    return image, EMOTIONS.index(CHALLENGE[int(emotion)]), part
