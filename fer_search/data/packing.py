"""Arrays that are made once and mapped by every process.

Decoding 35,887 images takes far longer than reading the 83 MB they come to, and each worker of a
search needs them. So a source (`sources.py`) passes the function that makes its arrays to this
module, which keeps them as `.npy` files in the user's cache folder, under a key that names their
content. The workers of a machine map the same files and so share one copy of the images; a
process copies for itself only batches and the images on which it validates.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import numpy as np
import platformdirs

from fer_search.errors import DataError

_log = logging.getLogger(__name__)

_TABLE = "meta.json"


class Mapped:
    """Some of the images of a packed array, copied on each access and not kept.

    Args:
        packed: All images (M, 48, 48), uint8.
        indices: Which of them, (N,).
    """

    def __init__(self, packed: np.ndarray, indices: np.ndarray) -> None:
        self._packed, self._indices = packed, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        """Copy the images with these numbers (B,), each in [0, N): (B, 48, 48) uint8."""
        images: np.ndarray = self._packed[self._indices[chosen]]
        return images


def pack(key: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays kept under `key`; make and keep them if they are missing or damaged.

    Several processes may ask at once: one makes the arrays, the others wait for it. What a killed
    process left, or what does not match the checksums stored beside it, is made again.

    Args:
        key: Name of the content, usable as a file name: equal keys must mean equal arrays.
        make: Makes the arrays by name, none of a pickled (object) type; called at most once.

    Returns:
        The arrays by name, as read-only maps of the files.

    Raises:
        DataError: If the cache folder cannot be written. Whatever `make` raises passes through.
    """
    root = platformdirs.user_cache_path("fer_search") / "packed"
    folder, unfinished = root / key, root / f"{key}.part"
    if (arrays := _intact(folder)) is not None:
        return arrays
    with contextlib.ExitStack() as held:
        with _explained(root):
            root.mkdir(parents=True, exist_ok=True)
            held.enter_context(filelock.FileLock(root / f"{key}.lock"))
        if (arrays := _intact(folder)) is not None:  # another process made them meanwhile
            return arrays
        made = make()
        with _explained(root):
            for remains in (folder, unfinished):
                if remains.exists():
                    _log.warning("Packing the images again: %s is damaged", remains)
                    shutil.rmtree(remains)
            _write(unfinished, made)
            unfinished.rename(folder)
    arrays = _intact(folder)
    if arrays is None:
        raise DataError(
            f"{folder} does not contain what was just written to it",
            hint="check the disk, or set XDG_CACHE_HOME to a folder on another disk",
        )
    return arrays


def _write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    checksums = {f"{name}.npy": _checksum(folder / f"{name}.npy") for name in arrays}
    (folder / _TABLE).write_text(json.dumps(checksums, indent=2), encoding="utf-8")


def _intact(folder: Path) -> dict[str, np.ndarray] | None:
    """Load the arrays in `folder`; None if one is missing or is not what was written."""
    try:
        checksums = json.loads((folder / _TABLE).read_text(encoding="utf-8"))
        if any(_checksum(folder / file) != checksum for file, checksum in checksums.items()):
            return None
        return {
            Path(file).stem: np.load(folder / file, mmap_mode="r", allow_pickle=False)
            for file in checksums
        }
    except (OSError, ValueError, AttributeError):  # ValueError: not JSON, or not an array
        return None


def _checksum(file: Path) -> str:
    """Digest a file into 32 hexadecimal digits; 83 MB take about a tenth of a second."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into a `DataError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the packed images cannot be stored in {root}: {error}",
            hint="free some space there (FER2013 takes 90 MB), "
            "or set XDG_CACHE_HOME to a writable folder",
        ) from error
