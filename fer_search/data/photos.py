"""The images that a path stands for: one file, a folder of them, or a CSV that lists them."""

from __future__ import annotations

import csv
from pathlib import Path

from fer_search.data.folders import SUFFIXES, is_image
from fer_search.errors import DataError

_COLUMN = "path"


def listed(source: Path) -> list[Path]:
    """List the images of a source, in the order of a CSV or of their names.

    Args:
        source: An image, a folder with images at any depth, or a CSV with a column `path`, whose
            relative paths start from the folder of the CSV.

    Returns:
        At least one path; whether an image is there is not checked.

    Raises:
        DataError: If there is no such file or folder, or it names no image.
    """
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if is_image(path))
        if not found:
            raise DataError(f"{source} contains no images ({', '.join(sorted(SUFFIXES))})")
        return found
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    return _column(source) if source.suffix.lower() == ".csv" else [source]


def _column(table: Path) -> list[Path]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as a CSV: {error}") from error
    if _COLUMN not in names:
        raise DataError(f"{table} has no column {_COLUMN!r}; found {', '.join(names) or 'nothing'}")
    if not rows:
        raise DataError(f"{table} has no rows")
    return [table.parent / (row[_COLUMN] or "") for row in rows]
