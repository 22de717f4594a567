from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_search.config import EMOTIONS
from fer_search.data.sources import Faces, load
from fer_search.data.splits import PARTS, Split, Splits, split, summary
from fer_search.errors import DataError

Row = tuple[int, int, str]
"""Content, label and part of an image."""

OFFICIAL = ("train", "validation", "test")
FROM_TRAIN = ("train", "test")
SEEDED = ("",)


def faces_of(rows: list[Row]) -> Faces:
    contents = np.array([content for content, _, _ in rows])
    images = np.zeros((len(rows), 48, 48), np.uint8)
    images[:, 0, 0], images[:, 47, 47] = contents % 256, contents // 256
    return Faces(
        name="made up",
        source_url="nowhere",
        images=images,
        labels=np.array([label for _, label, _ in rows], np.int64),
        origins=np.array([f"image {i}" for i in range(len(rows))]),
        splits=np.array([part for _, _, part in rows], np.str_),
    )


def unlike(parts: tuple[str, ...], each: int = 4) -> list[Row]:
    """Different images, `each` for every emotion in every part, ten times as many in train."""
    places = [
        (label, part)
        for part in parts
        for label in range(7)
        for _ in range(each * (10 if part in ("train", "") else 1))
    ]
    return [(1000 + i, label, part) for i, (label, part) in enumerate(places)]


def with_repeats(parts: tuple[str, ...]) -> st.SearchStrategy[Faces]:
    """Faces of which some repeat, under the same label or another, in the same part or not."""
    repeat = st.tuples(st.integers(0, 9), st.integers(0, 6), st.sampled_from(parts))
    return st.lists(repeat, max_size=40).flatmap(
        lambda rows: st.permutations(rows + unlike(parts)).map(faces_of)
    )


def contents_of(part: Split) -> list[bytes]:
    return [image.tobytes() for image in part.images]


def all_parts(splits: Splits) -> list[Split]:
    return [splits.train, splits.validation, splits.test]


sources = pytest.mark.parametrize("parts", [OFFICIAL, FROM_TRAIN, SEEDED], ids="-".join)
few = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@sources
@few
@given(data=st.data())
def test_every_image_is_in_one_part_or_left_out_for_one_reason(
    parts: tuple[str, ...], data: st.DataObject
) -> None:
    faces = data.draw(with_repeats(parts))
    splits = split(faces, limit=0, seed=1)
    used = [index for part in all_parts(splits) for index in part.indices.tolist()]
    left = sum(row["count"] for row in splits.report["dropped"].values())
    assert len(used) == len(set(used)) == len(faces) - left


@sources
@few
@given(data=st.data())
def test_no_image_is_in_two_parts_nor_twice_in_train(
    parts: tuple[str, ...], data: st.DataObject
) -> None:
    splits = split(data.draw(with_repeats(parts)), limit=0, seed=1)
    train, validation, test = (set(contents_of(part)) for part in all_parts(splits))
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train) == len(splits.train)


@pytest.mark.parametrize("parts", [OFFICIAL, FROM_TRAIN], ids="-".join)
@few
@given(data=st.data())
def test_a_test_part_that_the_source_tells_is_never_cut(
    parts: tuple[str, ...], data: st.DataObject
) -> None:
    faces = data.draw(with_repeats(parts))
    splits = split(faces, limit=7, seed=1)
    assert splits.test.indices.tolist() == np.flatnonzero(faces.splits == "test").tolist()


@sources
@few
@given(data=st.data(), limit=st.integers(7, 300))
def test_a_limit_is_obeyed_and_keeps_the_proportions_within_one_image(
    parts: tuple[str, ...], data: st.DataObject, limit: int
) -> None:
    faces = data.draw(with_repeats(parts))
    whole, limited = split(faces, limit=0, seed=1), split(faces, limit=limit, seed=1)
    for part in ("train", "validation"):
        before, after = (getattr(splits, part).labels for splits in (whole, limited))
        assert len(after) == min(limit, len(before))
        shares = np.bincount(before) * len(after) / len(before)
        chosen = np.bincount(after)
        assert chosen.min() >= 1
        assert (np.abs(chosen - shares) < 1).all() or shares.min() < 1
    assert np.array_equal(limited.test.indices, whole.test.indices)


@pytest.mark.parametrize(("parts", "shares"), [(SEEDED, (0.8, 0.1, 0.1)), (FROM_TRAIN, (0.9, 0.1))])
def test_parts_that_are_not_told_are_stratified_tenths(
    parts: tuple[str, ...], shares: tuple[float, ...]
) -> None:
    splits = split(faces_of(unlike(parts, each=10)), limit=0, seed=1)
    for part, share in zip(all_parts(splits), shares, strict=False):
        assert np.bincount(part.labels).tolist() == [round(100 * share)] * 7


def test_the_official_split_is_taken_as_it_is() -> None:
    faces = faces_of(unlike(OFFICIAL))
    splits = split(faces, limit=0, seed=1)
    for name, part in zip(PARTS, all_parts(splits), strict=True):
        assert np.array_equal(part.indices, np.flatnonzero(faces.splits == name))
        assert np.array_equal(part.images, faces.images[part.indices])
        assert np.array_equal(part.labels, faces.labels[part.indices])
        assert np.array_equal(part.origins, faces.origins[part.indices])
    assert splits.report["official"]


@sources
def test_the_same_seed_splits_alike(parts: tuple[str, ...]) -> None:
    faces = faces_of(unlike(parts))
    first, again, other = (split(faces, limit=50, seed=seed) for seed in (1, 1, 2))
    assert first.report == again.report
    assert first.train_digest != other.train_digest
    assert (first.test_digest != other.test_digest) == (parts == SEEDED)


@given(
    position=st.integers(0, len(unlike(OFFICIAL)) - 1),
    row=st.integers(0, 47),
    column=st.integers(1, 46),
    change=st.integers(1, 255),
)
@few
def test_a_digest_tells_any_changed_pixel(
    position: int, row: int, column: int, change: int
) -> None:
    faces = faces_of(unlike(OFFICIAL))
    before = split(faces, limit=0, seed=1)
    faces.images[position, row, column] ^= change
    after = split(faces, limit=0, seed=1)
    is_test = faces.splits[position] == "test"
    assert (before.train_digest == after.train_digest) == is_test
    assert (before.test_digest != after.test_digest) == is_test


@given(position=st.integers(0, len(unlike(OFFICIAL)) - 1), change=st.integers(1, 6))
@few
def test_a_digest_tells_any_changed_label(position: int, change: int) -> None:
    faces = faces_of(unlike(OFFICIAL))
    before = split(faces, limit=0, seed=1)
    faces.labels[position] = (faces.labels[position] + change) % 7
    after = split(faces, limit=0, seed=1)
    is_test = faces.splits[position] == "test"
    assert (before.train_digest == after.train_digest) == is_test
    assert (before.test_digest != after.test_digest) == is_test


def test_a_digest_tells_where_training_ends() -> None:
    rows = unlike(OFFICIAL)
    first = next(i for i, row in enumerate(rows) if row[2] == "validation")
    moved = [*rows[:first], (*rows[first][:2], "train"), *rows[first + 1 :]]
    before, after = (split(faces_of(some), limit=0, seed=1) for some in (rows, moved))
    assert len(after.train) == len(before.train) + 1
    assert before.train_digest != after.train_digest
    assert before.test_digest == after.test_digest


def test_digests_do_not_change_between_releases() -> None:
    splits = split(faces_of(unlike(OFFICIAL)), limit=0, seed=1)
    assert splits.train_digest == "c59461fd51e0ff584d06cc137fd55b7c"
    assert splits.test_digest == "615fd5729450b34bf35f2d5a3533bad3"


def test_images_are_copied_once_and_only_when_asked_for() -> None:
    part = split(faces_of(unlike(SEEDED)), limit=0, seed=1).test
    assert part.images is part.images
    assert not np.shares_memory(part.images, part.packed)


def test_the_report_is_json_and_its_summary_one_line() -> None:
    rows = [*unlike(OFFICIAL), (1, 0, "train"), (1, 0, "train"), (2, 3, "train"), (2, 3, "test")]
    faces = dataclasses.replace(faces_of(rows), skipped=(("sad/x.jpg", "is empty"),))
    splits = split(faces, limit=100, seed=1)
    report = json.loads(json.dumps(splits.report))
    assert report == splits.report
    assert report["counts"]["test"] == dict.fromkeys(EMOTIONS, 4) | {"happy": 5}
    assert report["dropped"]["repeated in train"] == {"count": 1, "examples": ["image 337"]}
    assert report["skipped"]["examples"] == [{"origin": "sad/x.jpg", "reason": "is empty"}]
    assert summary(report) == (
        "made up, split official, limit 100: train 100, validation 28, test 29; "
        "left out: 1 in train and also held out, 1 repeated in train, 1 unreadable"
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param(unlike(("train", "validation")), "train and validation", id="no_test"),
        pytest.param(unlike(("validation", "test")), "validation and test", id="no_train"),
        pytest.param(unlike(("test",)), r"assigned to parts \(test\)", id="only_test"),
        pytest.param(unlike(("train", "test", "")), "only some", id="some_tell_none"),
        pytest.param(
            [row for row in unlike(OFFICIAL) if row[1:] != (1, "validation")],
            "no images of disgust for validation",
            id="emotion_missing",
        ),
        pytest.param(
            [(5, *row[1:]) if row[1:] == (5, "train") else row for row in unlike(OFFICIAL)]
            + [(5, 0, "train")],
            "no images of sad for train",
            id="emotion_all_conflicting",
        ),
        pytest.param(unlike(SEEDED)[39:], "no images of angry for train", id="one_image"),
    ],
)
def test_a_source_that_makes_no_split_is_refused(rows: list[Row], said: str) -> None:
    with pytest.raises(DataError, match=said):
        split(faces_of(rows), limit=0, seed=1)


def test_a_limit_below_the_number_of_emotions_is_refused() -> None:
    with pytest.raises(DataError, match=r"with limit=6(.|\n)*at least 7"):
        split(faces_of(unlike(OFFICIAL)), limit=6, seed=1)


def test_a_source_that_only_has_train_is_split_like_one_that_tells_nothing() -> None:
    train, nothing = (split(faces_of(unlike((part,))), limit=0, seed=1) for part in ("train", ""))
    assert train.train_digest == nothing.train_digest
    assert train.report["split"] == "seeded 80/10/10"


@pytest.mark.slow
def test_fer2013_has_the_counts_and_the_faults_that_were_measured(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack = [sys.executable, str(shared / "data" / "unpack.py"), "--to", str(tmp_path / "hub")]
    subprocess.run(unpack, check=True, timeout=300)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "hub"))
    faces = load("fer2013", seed=1)
    report = split(faces, limit=0, seed=1).report

    told = {part: np.bincount(faces.labels[faces.splits == part]).tolist() for part in PARTS}
    assert told == {
        "train": [3995, 436, 4097, 7215, 4965, 4830, 3171],
        "validation": [467, 56, 496, 895, 607, 653, 415],
        "test": [491, 55, 528, 879, 626, 594, 416],
    }
    assert len(np.unique(faces.images.reshape(len(faces), -1), axis=0)) == 34034
    assert report["official"]
    assert {reason: row["count"] for reason, row in report["dropped"].items()} == {
        "with conflicting labels in train": 107,
        "in train and also held out": 669,
        "repeated in train": 1021,
        "in validation and also in test": 46,
    }
    assert {part: sum(counts.values()) for part, counts in report["counts"].items()} == {
        "train": 26912,
        "validation": 3543,
        "test": 3589,
    }
    assert report["skipped"]["count"] == 0
