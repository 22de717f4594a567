"""Where faces come from: FER2013 via kagglehub, drawn ones, a folder of images, or a table.

The first step of every workflow that needs data: `load` returns `Faces`, which `splits.py` divides
into training, validation and test. A new source takes one function and one line in `SOURCES`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fer_search.config import EMOTIONS
from fer_search.data import folders, synthetic, tables
from fer_search.data.packing import pack
from fer_search.errors import DataError

_log = logging.getLogger(__name__)

_KAGGLE_HANDLE = "msambare/fer2013/versions/1"
"""With its version: without one, kagglehub calls Kaggle even if the files are in the cache."""
_KAGGLE_URL = "https://www.kaggle.com/datasets/msambare/fer2013"
_N_SYNTHETIC = 6_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Faces:
    """All images of a source, before anything is dropped or split."""

    name: str
    """`fer2013`, `synthetic`, or a path."""
    source_url: str
    """Where a person finds the images: a web page or a path."""
    images: np.ndarray
    """(N, 48, 48) uint8, a read-only map of the packed file."""
    labels: np.ndarray
    """(N,) int64, index into `EMOTIONS`."""
    origins: np.ndarray
    """(N,) strings: path within the source, `synthetic/000123`, or `fer2013.csv:2`."""
    splits: np.ndarray
    """(N,) strings: `train`, `validation`, `test` as the source says, or empty if it does not."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Origin and reason of images that could not be read."""

    def __len__(self) -> int:
        return len(self.labels)


def load(data: str, *, seed: int) -> Faces:
    """Open a source by name or path; its images are decoded once per machine, then mapped.

    Args:
        data: A name in `SOURCES`, or the path of a folder as described in `folders.py` or of a CSV
            as described in `tables.py`.
        seed: Seed of the synthetic faces; other sources do not depend on it.

    Raises:
        DataError: If the source is unknown, cannot be fetched or read, or lacks an emotion.
    """
    if data in SOURCES:
        return SOURCES[data](seed)
    path = Path(os.path.expanduser(data))
    if os.path.isdir(path):  # unlike Path.is_dir, never raises
        return _from_folder(path, name=str(path), url=str(path.resolve()))
    if os.path.isfile(path) and path.suffix.lower() == ".csv":
        return _from_table(path)
    found = "a file but not a .csv" if os.path.exists(path) else "neither a known source nor a path"
    raise DataError(
        f"data={data} is {found}",
        hint=f"use {' or '.join(SOURCES)}, the path of a folder with one subfolder of images per "
        f"emotion ({', '.join(EMOTIONS)}), or a .csv with the columns emotion, pixels and Usage",
    )


def _from_fer2013(_: int) -> Faces:
    return _from_folder(_fetch(), name="fer2013", url=_KAGGLE_URL)


def _from_synthetic(seed: int) -> Faces:
    key = hashlib.blake2b(f"{synthetic.VERSION} {_N_SYNTHETIC} {seed}".encode(), digest_size=16)
    packed = pack(key.hexdigest(), lambda: _drawn(seed))
    return Faces(
        name="synthetic",
        source_url=f"fer_search.data.synthetic, version {synthetic.VERSION}, seed {seed}",
        origins=np.array([f"synthetic/{i:06}" for i in range(_N_SYNTHETIC)]),
        splits=np.full(_N_SYNTHETIC, ""),
        images=packed["images"],
        labels=packed["labels"],
    )


def _drawn(seed: int) -> dict[str, np.ndarray]:
    _log.info("Drawing %d synthetic faces", _N_SYNTHETIC)
    images, labels = synthetic.draw(_N_SYNTHETIC, seed)
    return {"images": images, "labels": labels}


SOURCES: Mapping[str, Callable[[int], Faces]] = {
    "fer2013": _from_fer2013,
    "synthetic": _from_synthetic,
}
"""Sources by name; each takes the seed."""


def _from_folder(folder: Path, *, name: str, url: str) -> Faces:
    files = folders.scan(folder)
    packed = pack(folders.content_key(files), lambda: folders.read(files))
    return Faces(
        name=name,
        source_url=url,
        images=packed["images"],
        labels=packed["labels"],
        origins=packed["origins"],
        splits=packed["splits"],
        skipped=tuple((str(origin), str(reason)) for origin, reason in packed["skipped"]),
    )


def _from_table(file: Path) -> Faces:
    packed = pack(tables.content_key(file), lambda: tables.read(file))
    return Faces(
        name=str(file),
        source_url=str(file.resolve()),
        images=packed["images"],
        labels=packed["labels"],
        origins=np.array([f"{file.name}:{line}" for line in packed["lines"].tolist()]),
        splits=packed["splits"],
    )


def _fetch() -> Path:
    """Return the folder of FER2013 in kagglehub's cache; download it if it is not there."""
    import kagglehub
    from kagglehub import exceptions

    try:
        return Path(kagglehub.dataset_download(_KAGGLE_HANDLE))
    except (
        OSError,  # network errors too: the exceptions of requests derive from it
        zipfile.BadZipFile,
        exceptions.BackendError,
        exceptions.CredentialError,
        exceptions.DataCorruptionError,
        exceptions.KaggleEnvironmentError,
        exceptions.NotFoundError,
        exceptions.UnauthenticatedError,
    ) as error:
        raise DataError(
            f"FER2013 could not be downloaded from {_KAGGLE_URL}: {error}",
            hint="without a network, put the files into kagglehub's cache (KAGGLEHUB_CACHE) or "
            "pass their folder with data=PATH; if Kaggle asks for credentials, set KAGGLE_USERNAME "
            "and KAGGLE_KEY; data=synthetic needs no download",
        ) from error
