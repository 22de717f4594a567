"""Images that lie in folders named after emotions, as FER2013 and most collections of faces do.

This is the layer between a source (`sources.py`), which knows where a folder is, and `images.py`,
which decodes one file. Two layouts are read: `<emotion>/...` and `<part>/<emotion>/...`; case does
not matter, and the names of other collections (`anger`, `happiness`, `val`) are understood.
Kaggle's copy of FER2013 has only train and test, but its file names still tell the three parts of
the challenge, and what a file name tells takes precedence.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from fer_search.config import EMOTIONS, FACE_SIZE
from fer_search.data.images import decode
from fer_search.errors import DataError

_log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
)
"""Files with other extensions (Thumbs.db, notes) are not images and are ignored."""

MOST_SKIPPED, FEW = 0.01, 5
"""A folder is refused if more than this share of its images cannot be read, unless they are only
a few."""

EMOTION_NAMES = {name: name for name in EMOTIONS} | {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Name of a folder -> emotion, in common spellings."""
PART_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "publictest": "validation",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}
"""Name of a folder -> part."""

OFFICIAL_PARTS = {"training": "train", "publictest": "validation", "privatetest": "test"}
"""The challenge's name of a part -> part."""
_OFFICIAL_NAME = re.compile(r"(training|publictest|privatetest)_\d+", re.IGNORECASE)
_KEY_VERSION = b"folder 1"
"""Must change whenever the same files are read differently."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """A file and what its location says about it."""

    path: Path
    origin: str
    """Path relative to the folder that was read, with forward slashes."""
    label: int
    """Index into `EMOTIONS`."""
    part: str
    """`train`, `validation` or `test`, or empty if neither name nor folder tells."""


def is_image(file: Path) -> bool:
    """Tell from its name whether a file counts as an image; hidden files do not."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def scan(folder: Path) -> list[ImageFile]:
    """List the images of a folder in a stable order, by relative path.

    Raises:
        DataError: If the folder is missing, cannot be listed or holds no images, if a folder in
            it is neither an emotion nor a part, or if an emotion has no images.
    """
    files: list[ImageFile] = []
    unknown: list[str] = []
    for outer in _subfolders(folder):
        part = PART_NAMES.get(outer.name.lower(), "")
        for inner in _subfolders(outer) if part else [outer]:
            if emotion := EMOTION_NAMES.get(inner.name.lower()):
                label = EMOTIONS.index(emotion)
                files += _image_files(folder, inner, label=label, part=part)
            else:
                unknown.append(inner.relative_to(folder).as_posix())
    if unknown:
        raise DataError(
            f"{folder}: unknown folders {', '.join(unknown[:10])}; "
            f"expected the emotions {', '.join(EMOTION_NAMES)} or the parts "
            f"{', '.join(PART_NAMES)}",
            hint="rename or move these folders",
        )
    missing = sorted(set(range(len(EMOTIONS))) - {file.label for file in files})
    if missing:
        found = [name for i, name in enumerate(EMOTIONS) if i not in missing]
        raise DataError(
            f"{folder}: no images of {', '.join(EMOTIONS[i] for i in missing)}; "
            f"found {', '.join(found) or 'no emotion at all'}",
            hint="expected image folders named after the seven emotions, "
            "or such folders in train, validation and test",
        )
    return sorted(files, key=lambda file: file.origin)


def content_key(files: Iterable[ImageFile]) -> str:
    """Digest the relative path and every byte of each image into 32 hexadecimal digits."""
    digest = hashlib.blake2b(_KEY_VERSION, digest_size=16)
    for file in files:
        try:
            data = file.path.read_bytes()
        except OSError as error:
            data = repr(error.errno).encode()
        name = os.fsencode(file.origin)
        digest.update(b"%d %d " % (len(name), len(data)) + name + data)
    return digest.hexdigest()


def read(files: list[ImageFile]) -> dict[str, np.ndarray]:
    """Decode all images; those that cannot be read are reported and left out.

    Returns:
        `images` (N, 48, 48) uint8; `labels` (N,) int64; `origins` and `splits`, (N,) strings; and
        `skipped`, (K, 2) strings: origin and reason of the images that were left out.

    Raises:
        DataError: If too many images (`MOST_SKIPPED`) cannot be read.
    """
    images = np.empty((len(files), FACE_SIZE, FACE_SIZE), np.uint8)
    decoded: list[ImageFile] = []
    skipped: list[tuple[str, str]] = []
    for file in _with_progress(files):
        try:
            images[len(decoded)] = decode(file.path.read_bytes())
            decoded.append(file)
        except OSError as error:
            skipped.append((file.origin, f"cannot be opened ({error.strerror})"))
        except DataError as error:
            skipped.append((file.origin, error.message))
    if skipped:
        _report(skipped, len(files))
    return {
        "images": images[: len(decoded)],
        "labels": np.array([file.label for file in decoded], np.int64),
        "origins": np.array([file.origin for file in decoded], np.str_),
        "splits": np.array([file.part for file in decoded], np.str_),
        "skipped": np.array(skipped, np.str_).reshape(-1, 2),
    }


def _subfolders(folder: Path) -> list[Path]:
    """List subfolders by name, without hidden ones and those that unzipping on a Mac leaves."""
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read as a folder: {error.strerror}",
            hint="expected a folder with one subfolder of images per emotion",
        ) from error
    return [path for path in inside if not path.name.startswith((".", "__MACOSX"))]


def _image_files(root: Path, folder: Path, *, label: int, part: str) -> Iterator[ImageFile]:
    for place, _, names in os.walk(folder):
        for name in names:
            if is_image(Path(name)):
                path = Path(place, name)
                official = _OFFICIAL_NAME.match(name)
                yield ImageFile(
                    path=path,
                    origin=path.relative_to(root).as_posix(),
                    label=label,
                    part=OFFICIAL_PARTS[official[1].lower()] if official else part,
                )


def _with_progress(files: list[ImageFile]) -> Iterable[ImageFile]:
    """Show a progress bar on a terminal, else log once what is being done."""
    if not sys.stderr.isatty():
        _log.info("Decoding %d images", len(files))
        return files
    from rich.console import Console
    from rich.progress import track

    return track(files, "Decoding images", console=Console(stderr=True), transient=True)


def _report(skipped: list[tuple[str, str]], n_images: int) -> None:
    named = "; ".join(f"{origin} {reason}" for origin, reason in skipped[:FEW])
    if len(skipped) > max(FEW, MOST_SKIPPED * n_images):
        raise DataError(
            f"{len(skipped)} of {n_images} images cannot be read: {named}",
            hint="remove or repair these files; was the download complete?",
        )
    _log.warning("Skipped %d of %d images: %s", len(skipped), n_images, named)
