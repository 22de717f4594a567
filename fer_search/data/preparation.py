"""From the settings of a search to its images: the only way in which data are opened.

The search and each of its workers call `prepare`; equal settings and equal files give equal splits,
as the digests in the study prove.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fer_search.config import CLEANED, SearchConfig
from fer_search.data import sources, votes
from fer_search.data.splits import Splits, split


def prepare(search: SearchConfig) -> Splits:
    """Load, clean and split the data of a search.

    Raises:
        DataError: If the data or the votes cannot be obtained or do not make a split.
    """
    faces = sources.load(search.data, seed=search.seed)
    unwanted, report = {}, {}
    if search.faces == CLEANED:
        cast = votes.read(Path(search.votes), faces.origins)
        unwanted = {"in train without a face": votes.not_faces(cast, faces.origins)}
        share = votes.agreement(cast, faces.origins, faces.labels)
        report = {"votes": {"file": search.votes, "agreement_with_labels": round(share, 4)}}
    splits = split(faces, limit=search.limit, seed=search.seed, unwanted=unwanted)
    return dataclasses.replace(splits, report={**splits.report, **report})
