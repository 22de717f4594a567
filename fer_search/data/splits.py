"""Training, validation and test from the faces of a source, without an image in two of them.

The official split is used where the source tells one. Exact repeats and label conflicts are removed
from training, and what test shares from validation, because the search selects on validation. Test
is the benchmark that others report on, so it is never cut. What was removed, and why, is in the
report that every study keeps as `data.json`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fer_search.config import EMOTIONS
from fer_search.data import duplicates
from fer_search.data.duplicates import PARTS
from fer_search.data.packing import Mapped
from fer_search.data.sources import Faces
from fer_search.data.stratified import choose
from fer_search.errors import DataError

_TRAIN, _VALIDATION, _TEST = range(len(PARTS))
_LEFT = -1
"""Marks an image that is in no part."""
_HELD_OUT = 0.1
"""Share of images for validation, and for test, where the source does not tell them."""
_N_EXAMPLES = 20
"""Most images that the report names for each reason."""

_OFFICIAL, _FROM_TRAIN, _SEEDED = "official", "a tenth of train for validation", "seeded 80/10/10"
_KINDS = {
    frozenset(PARTS): _OFFICIAL,
    frozenset({"train", "test"}): _FROM_TRAIN,
    frozenset({"train"}): _SEEDED,
    frozenset({""}): _SEEDED,
}
"""How to split, by the parts that the source tells."""
_HELD_OUT_PARTS: Mapping[str, tuple[int, ...]] = {
    _OFFICIAL: (),
    _FROM_TRAIN: (_VALIDATION,),
    _SEEDED: (_VALIDATION, _TEST),
}
"""Kind of split -> parts to hold out of the training images."""
_DIGESTED_AT_ONCE = 1024
"""Images that are copied at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The images of training, validation or test."""

    packed: np.ndarray = dataclasses.field(repr=False)
    """All images of the source, (M, 48, 48) uint8, a map of the packed file."""
    indices: np.ndarray = dataclasses.field(repr=False)
    """Which of them are in this split, (N,) int64, ascending."""
    labels: np.ndarray = dataclasses.field(repr=False)
    """(N,) int64, index into `EMOTIONS`."""
    origins: np.ndarray = dataclasses.field(repr=False)
    """(N,) strings, see `Faces.origins`."""

    def __len__(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def images(self) -> np.ndarray:
        """(N, 48, 48) uint8, copied out of the packed images on first use."""
        return self.mapped[np.arange(len(self))]

    @property
    def mapped(self) -> Mapped:
        """The same without a copy in this process; training reads its batches from here."""
        return Mapped(np.asarray(self.packed), self.indices)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """What a study trains on, selects on and is tested on."""

    train: Split
    validation: Split
    test: Split
    train_digest: str
    """32 hexadecimal digits over every image and label, in order, of training and validation."""
    test_digest: str
    """The same over test."""
    report: Mapping[str, Any]
    """Source, counts, what was left out and why, digests; JSON-ready, see `summary`."""


def split(
    faces: Faces, *, limit: int, seed: int, unwanted: Mapping[str, np.ndarray] | None = None
) -> Splits:
    """Split the faces of a source; the same faces, limit and seed give the same splits.

    Args:
        faces: All faces of the source, from `sources.load`.
        limit: Most images for training, and most for validation, in the proportions of the
            emotions, each of which keeps at least one; 0 for all. Test stays whole.
        seed: Seed of random choices; the official split without a limit does not need it.
        unwanted: Positions of images that must not be trained on, by reason; where the source
            tells validation and test, these keep theirs.

    Raises:
        DataError: If the source tells parts that do not make a split, or if an emotion has no
            images in one of the parts.
    """
    kind = _kind(faces)
    parts = np.array([PARTS.index(part or "train") for part in faces.splits.tolist()])
    dropped = duplicates.find(faces.images, faces.labels, parts)
    for positions in dropped.values():
        parts[positions] = _LEFT
    for reason, positions in (unwanted or {}).items():  # last, or a copy would take its place
        dropped[reason] = positions[parts[positions] == _TRAIN]
        parts[dropped[reason]] = _LEFT
    n_held_out = round(_HELD_OUT * np.count_nonzero(parts == _TRAIN))
    for part in _HELD_OUT_PARTS[kind]:
        pool = np.flatnonzero(parts == _TRAIN)
        parts[pool[choose(faces.labels[pool], n_held_out, seed=(seed, part))]] = part
    for part in (_TRAIN, _VALIDATION) if limit else ():
        whole = np.flatnonzero(parts == part)
        parts[whole] = _LEFT
        parts[whole[choose(faces.labels[whole], limit, seed=(seed, part))]] = part

    taken = {name: _take(faces, parts == part) for part, name in enumerate(PARTS)}
    _check_complete(taken, faces, limit=limit)
    train_digest = _digest(taken["train"], taken["validation"])
    test_digest = _digest(taken["test"])
    report = {
        "source": faces.name,
        "url": faces.source_url,
        "images": len(faces),
        "split": kind,
        "official": kind == _OFFICIAL,
        "limit": limit,
        "seed": seed,
        "counts": {name: _counts(part) for name, part in taken.items()},
        "dropped": {
            reason: {
                "count": len(positions),
                "examples": faces.origins[positions[:_N_EXAMPLES]].tolist(),
            }
            for reason, positions in dropped.items()
        },
        "skipped": {
            "count": len(faces.skipped),
            "examples": [
                {"origin": origin, "reason": reason}
                for origin, reason in faces.skipped[:_N_EXAMPLES]
            ],
        },
        "train_digest": train_digest,
        "test_digest": test_digest,
    }
    return Splits(
        train=taken["train"],
        validation=taken["validation"],
        test=taken["test"],
        train_digest=train_digest,
        test_digest=test_digest,
        report=report,
    )


def summary(report: Mapping[str, Any]) -> str:
    """Summarise a report in one line for the log: counts, and what was left out and why."""
    used = [f"{part} {sum(counts.values()):,}" for part, counts in report["counts"].items()]
    left = [f"{row['count']:,} {reason}" for reason, row in report["dropped"].items()]
    if report["skipped"]["count"]:
        left.append(f"{report['skipped']['count']:,} unreadable")
    limit = f", limit {report['limit']:,}" if report["limit"] else ""
    return (
        f"{report['source']}, split {report['split']}{limit}: {', '.join(used)}; "
        f"left out: {', '.join(left) or 'nothing'}"
    )


def _kind(faces: Faces) -> str:
    told = frozenset(np.unique(faces.splits).tolist())
    if told not in _KINDS:
        names = " and ".join(part for part in PARTS if part in told)
        some = "only some of its images are" if "" in told else "its images are"
        raise DataError(
            f"{faces.source_url}: {some} assigned to parts ({names}); "
            "expected train, validation and test, or train and test, or none",
            hint="if test is missing, rename validation to test (validation is then taken from "
            "train); move images without a part into the folder of one",
        )
    return _KINDS[told]


def _take(faces: Faces, those: np.ndarray) -> Split:
    return Split(
        packed=faces.images,
        indices=np.flatnonzero(those),
        labels=np.asarray(faces.labels)[those],
        origins=np.asarray(faces.origins)[those],
    )


def _check_complete(taken: Mapping[str, Split], faces: Faces, *, limit: int) -> None:
    for name, part in taken.items():
        missing = [emotion for emotion, count in _counts(part).items() if count == 0]
        if missing:
            limited = f" with limit={limit}" if limit else ""
            raise DataError(
                f"{faces.source_url}: no images of {', '.join(missing)} for {name}{limited}",
                hint="every emotion needs images in training, validation and test, not counting "
                f"duplicates; a limit must be at least {len(EMOTIONS)}",
            )


def _digest(*parts: Split) -> str:
    """Digest what trained or tested; stores hold it, so a change here disowns their studies."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d pictures" % len(part))  # so that none can move across the boundary
        for start in range(0, len(part), _DIGESTED_AT_ONCE):
            some = np.arange(start, min(start + _DIGESTED_AT_ONCE, len(part)))
            digest.update(part.mapped[some].data)
        digest.update(part.labels.astype("<i8").data)
    return digest.hexdigest()


def _counts(part: Split) -> dict[str, int]:
    """Count the images per emotion."""
    counts = np.bincount(part.labels, minlength=len(EMOTIONS)).tolist()
    return dict(zip(EMOTIONS, counts, strict=True))
