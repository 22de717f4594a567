from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fer_search.config import EMOTIONS
from fer_search.data.folders import EMOTION_NAMES, PART_NAMES, content_key, read, scan
from fer_search.errors import DataError

Write = Callable[..., Path]


def test_images_have_the_label_of_their_folder_in_the_order_of_their_paths(
    tmp_path: Path, write_folder: Write
) -> None:
    images = scan(write_folder(tmp_path))
    assert [image.origin for image in images] == [
        f"{emotion}/{i}.png" for emotion in EMOTIONS for i in range(3)
    ]
    assert [image.label for image in images] == [i for i in range(7) for _ in range(3)]
    assert {image.part for image in images} == {""}


def test_folder_names_may_be_written_in_any_case(tmp_path: Path, write_folder: Write) -> None:
    write_folder(tmp_path, parts=("Train", "VAL"))
    (tmp_path / "Train" / "happy").rename(tmp_path / "Train" / "HAPPY")
    images = scan(tmp_path)
    assert {image.part for image in images} == {"train", "validation"}
    assert sum(image.label == EMOTIONS.index("happy") for image in images) == 6


def test_kaggles_file_names_tell_the_parts_that_its_folders_hide(
    tmp_path: Path, write_folder: Write, write_image: Write
) -> None:
    write_folder(tmp_path, parts=("train", "test"))
    for name in ("Training_1.jpg", "PublicTest_2.jpg", "PrivateTest_3.jpg", "Training_hard.jpg"):
        write_image(tmp_path / "test" / "sad" / name)
    parts = {image.path.name: image.part for image in scan(tmp_path)}
    assert parts["Training_1.jpg"] == "train"
    assert parts["PublicTest_2.jpg"] == "validation"
    assert parts["PrivateTest_3.jpg"] == "test"
    assert parts["Training_hard.jpg"] == "test"


@pytest.mark.parametrize(
    "name",
    [
        "happy/Thumbs.db",
        "happy/notes.txt",
        "happy/.hidden.png",
        "README.md",
        ".git/x",
        "__MACOSX/x",
    ],
)
def test_what_is_no_image_is_passed_over(tmp_path: Path, write_folder: Write, name: str) -> None:
    write_folder(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"?")
    assert len(scan(tmp_path)) == 21


def test_images_in_deeper_folders_belong_to_their_emotion(
    tmp_path: Path, write_folder: Write, write_image: Write
) -> None:
    write_image(write_folder(tmp_path) / "fear" / "2013" / "a.PNG")
    assert "fear/2013/a.PNG" in [image.origin for image in scan(tmp_path)]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda root: root.rename(root.with_name("gone")), "No such file", id="gone"),
        pytest.param(lambda root: (root / "contempt").mkdir(), "contempt.*expected", id="unknown"),
        pytest.param(
            lambda root: (root / "train/bored").mkdir(parents=True), "train/bored", id="bored"
        ),
        pytest.param(
            lambda root: (root / "sad").rename(root / ".sad"), "no images of sad", id="hidden"
        ),
        pytest.param(
            lambda root: [(root / "sad" / f"{i}.png").unlink() for i in range(3)],
            "no images of sad; found angry, disgust, fear, happy, neutral, surprise",
            id="empty",
        ),
        pytest.param(
            lambda root: [(root / name).rename(root / f".{name}") for name in EMOTIONS],
            "no emotion at all",
            id="nothing",
        ),
        pytest.param(
            lambda root: [(root / name).rename(root / f".{name}") for name in EMOTIONS[1:]],
            "found angry",
            id="one_emotion",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, write_folder: Write, spoil: Callable[[Path], object], said: str
) -> None:
    root = write_folder(tmp_path / "faces")
    spoil(root)
    with pytest.raises(DataError, match=said):
        scan(root)


def test_images_that_cannot_be_read_are_named_and_left_out(
    tmp_path: Path, write_folder: Write, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path)
    (root / "happy" / "1.png").write_bytes((root / "happy" / "1.png").read_bytes()[:500])
    (root / "sad" / "x.jpg").write_text("not an image")
    (root / "sad" / "y.jpg").symlink_to(root / "nowhere.jpg")
    with caplog.at_level(logging.WARNING):
        arrays = read(scan(root))
    assert arrays["images"].shape == (20, 48, 48)
    assert len(arrays["labels"]) == len(arrays["origins"]) == len(arrays["splits"]) == 20
    reasons = dict(arrays["skipped"].tolist())
    assert list(reasons) == ["happy/1.png", "sad/x.jpg", "sad/y.jpg"]
    assert "damaged" in reasons["happy/1.png"]
    assert reasons["sad/x.jpg"] == "is not an image"
    assert reasons["sad/y.jpg"] == "cannot be opened (No such file or directory)"
    assert "Skipped 3 of 23 images: happy/1.png is damaged" in caplog.text


def test_too_many_unreadable_images_are_an_error(tmp_path: Path, write_folder: Write) -> None:
    root = write_folder(tmp_path)
    for i in range(6):
        (root / "angry" / f"broken{i}.jpg").touch()
    with pytest.raises(DataError, match="6 of 27 images cannot be read: angry/broken0"):
        read(scan(root))


def test_the_key_changes_with_every_byte_and_every_name_but_not_with_the_place(
    tmp_path: Path, write_folder: Write
) -> None:
    root = write_folder(tmp_path / "a")
    key = content_key(scan(root))
    assert content_key(scan(write_folder(tmp_path / "b"))) == key

    file = root / "happy" / "1.png"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = content_key(scan(root))
    file.write_bytes(content)
    assert content_key(scan(root)) == key
    file.rename(root / "happy" / "1a.png")
    assert len({key, changed, content_key(scan(root))}) == 3


def test_pixels_arrive_as_they_were_stored(tmp_path: Path, write_folder: Write) -> None:
    arrays = read(scan(write_folder(tmp_path)))
    stored = np.random.default_rng(4).integers(0, 256, (48, 48), np.uint8)  # see write_folder
    assert arrays["origins"][4] == "disgust/1.png"
    assert np.array_equal(arrays["images"][4], stored)


def test_names_of_other_collections_are_understood(tmp_path: Path, write_image: Write) -> None:
    names = ["Anger", "disgusted", "Fearful", "happiness", "neutral", "sadness", "surprised"]
    for part in ("Training", "Valid", "testing"):
        for seed, name in enumerate(names):
            write_image(tmp_path / part / name / "a.png", seed=seed)
    images = scan(tmp_path)
    assert {image.part for image in images} == {"train", "validation", "test"}
    found = {(image.path.parent.name, EMOTIONS[image.label]) for image in images}
    assert found == set(zip(names, EMOTIONS, strict=True))


def test_every_name_of_a_folder_means_an_emotion_and_is_lower_case() -> None:
    assert set(EMOTION_NAMES.values()) == set(EMOTIONS)
    assert all(name == name.lower() for name in (*EMOTION_NAMES, *PART_NAMES))
