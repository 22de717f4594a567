"""Second opinions on FER2013: which images show no face according to the taggers of FER+.

Ten people labelled every image again (https://arxiv.org/abs/1608.01041), and `NF` was one of
their choices. If `faces=cleaned`, `preparation.py` drops from training what most of them called so.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fer_search.config import EMOTIONS
from fer_search.data.folders import EMOTION_NAMES
from fer_search.errors import DataError

_log = logging.getLogger(__name__)

_NO_FACE = "nf"
CHOICES = {*EMOTION_NAMES, "contempt", "unknown", _NO_FACE}
"""Columns that count votes."""
LEAST_AGREEMENT = 0.5
"""Least share of images on which votes and labels should agree; by chance they do on a sixth."""

_Votes = Mapping[str, int]
"""Choice, in lower case -> its number of votes."""


def not_faces(votes: Mapping[str, _Votes], origins: np.ndarray) -> np.ndarray:
    """Find the images that more than half of the taggers called no face.

    Args:
        votes: Votes by path, from `read`.
        origins: Paths of the images within their source, (N,) strings.

    Returns:
        Ascending positions in `origins`.
    """
    unwanted = [path for path, cast in votes.items() if 2 * cast[_NO_FACE] > sum(cast.values())]
    return np.flatnonzero(np.isin(origins, unwanted))


def agreement(votes: Mapping[str, _Votes], origins: np.ndarray, labels: np.ndarray) -> float:
    """Compute the share of images with votes whose label is the emotion with most votes.

    Warns if it is so low that the votes seem to be on other images.

    Args:
        votes: Votes by path, from `read`.
        origins: Paths of the images within their source, (N,) strings.
        labels: Shape (N,), index into `EMOTIONS`.
    """
    label_of = dict(zip(origins.tolist(), labels.tolist(), strict=True))
    known = [path for path in votes if path in label_of]
    agreed = [EMOTION_NAMES.get(_winner(votes[p])) == EMOTIONS[label_of[p]] for p in known]
    share = float(np.mean(agreed))
    if share < LEAST_AGREEMENT:
        _log.warning(
            "the votes agree with the labels of only %.0f %% of the images; FER+ and FER2013 "
            "agree on far more. Are these votes on other images?",
            100 * share,
        )
    return share


def read(file: Path, origins: np.ndarray) -> dict[str, _Votes]:
    """Read the votes on the images of a source.

    Args:
        file: A CSV with the column `path`, as in `origins` (`train/happy/Training_3.jpg`), and a
            column of votes for each choice, among them `NF`.
        origins: Paths of the images within their source, (N,) strings.

    Returns:
        Votes for each choice, by path.

    Raises:
        DataError: If it is not such a file, or has votes on none of the images.
    """
    votes = _read(file)
    if not np.isin(origins, list(votes)).any():
        example = origins[0] if len(origins) else "none"
        raise DataError(
            f"votes={file}: no path in it is a path of the data, such as {example}",
            hint="expected paths relative to the data folder, with forward slashes",
        )
    return votes


def _winner(cast: _Votes) -> str:
    return max(cast, key=lambda choice: cast[choice])


def _read(file: Path) -> dict[str, _Votes]:
    votes: dict[str, _Votes] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened)
            header = [name.strip().lower() for name in next(reader, [])]
            if not {"path", _NO_FACE} <= set(header):
                raise DataError(
                    f"votes={file}: the header is {', '.join(header)[:200] or 'missing'}; "
                    "expected the columns path, NF, and one for every other choice",
                    hint="use the votes of FER+, with a path in each row",
                )
            for row in filter(None, reader):
                if len(row) != len(header):
                    raise ValueError(f"{len(row)} cells, expected {len(header)}")
                cells = dict(zip(header, row, strict=True))
                counts = {name: int(text) for name, text in cells.items() if name in CHOICES}
                votes[cells["path"]] = counts  # in the order of the file: the first wins a tie
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"votes={file}, line {reader.line_num}: {error}",
            hint="expected a path and a whole number of votes for each choice",
        ) from error
    except OSError as error:
        raise DataError(
            f"votes={file} cannot be opened: {error.strerror}", hint="check the path"
        ) from error
    return votes
