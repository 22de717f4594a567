"""Second opinions on FER2013: which pictures show no face, as the taggers of FER+ saw it.

Ten people labelled every picture anew (https://arxiv.org/abs/1608.01041), and `NF` was one of their
choices. `preparation.py` drops from training what most of them called so, if `faces=cleaned`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from fer_search.errors import DataError

_NO_FACE = "nf"


def not_faces(file: Path, origins: np.ndarray) -> np.ndarray:
    """Find the pictures that more than half of the taggers called no face.

    Args:
        file: A CSV with the column `path`, as the origins tell it (`train/happy/Training_3.jpg`),
            and a column of votes for each choice, among them `NF`.
        origins: Paths of the pictures within their source, (N,) strings.

    Returns:
        Rising positions in `origins`.

    Raises:
        DataError: If it is no such file, or has votes on none of the pictures.
    """
    named = _named(file)
    if not np.isin(origins, list(named)).any():
        example = origins[0] if len(origins) else "none"
        raise DataError(
            f"votes={file}: no path in it is one of the data, e.g. {example}",
            hint="expected are paths within the folder of the data, with forward slashes",
        )
    return np.flatnonzero(
        np.isin(origins, [path for path, is_face in named.items() if not is_face])
    )


def _named(file: Path) -> dict[str, bool]:
    """Path to whether it is a face."""
    faces: dict[str, bool] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened)
            header = [name.strip().lower() for name in next(reader, [])]
            if not {"path", _NO_FACE} <= set(header):
                raise DataError(
                    f"votes={file}: the header is {', '.join(header)[:200] or 'missing'}; "
                    "expected are the columns path, NF, and one for every other choice",
                    hint="FER+ has the votes; its rows must be given by path",
                )
            for row in reader:
                cells = dict(zip(header, row, strict=True))
                path = cells.pop("path")
                votes = {choice: int(count) for choice, count in cells.items()}
                faces[path] = 2 * votes[_NO_FACE] <= sum(votes.values())
    except ValueError as error:
        raise DataError(
            f"votes={file}, line {reader.line_num}: {error}",
            hint="expected is a path and a whole number of votes for each choice",
        ) from error
    except OSError as error:
        raise DataError(
            f"votes={file} can not be opened: {error.strerror}", hint="check the path"
        ) from error
    return faces
