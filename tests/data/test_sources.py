from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import kagglehub
import numpy as np
import pytest
import requests
from kagglehub import exceptions

from fer_search import config
from fer_search.data import folders, sources, synthetic
from fer_search.data.sources import SOURCES, load
from fer_search.errors import DataError

Write = Callable[..., Path]


def test_the_sources_are_those_that_the_config_names() -> None:
    assert tuple(SOURCES) == config.SOURCES


def test_a_folder_becomes_faces(tmp_path: Path, write_folder: Write) -> None:
    root = write_folder(tmp_path / "faces", parts=("train", "test"))
    faces = load(str(root), seed=1)
    assert faces.name == str(root)
    assert faces.source_url == str(root.resolve())
    assert (faces.images.shape, faces.images.dtype) == ((42, 48, 48), np.uint8)
    assert faces.labels.dtype == np.int64
    assert faces.origins[0] == "test/angry/0.png"
    assert faces.splits.tolist() == ["test"] * 21 + ["train"] * 21
    assert faces.skipped == ()


def test_the_second_load_decodes_nothing_and_maps_the_same_file(
    tmp_path: Path, write_folder: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "faces")
    (root / "sad" / "broken.png").touch()
    first = load(str(root), seed=1)
    monkeypatch.delattr(folders, "decode")
    second = load(str(root), seed=2)
    assert isinstance(second.images, np.memmap)
    assert second.images.filename == first.images.filename  # type: ignore[attr-defined]
    assert second.skipped == first.skipped == (("sad/broken.png", "is empty"),)


def test_a_changed_image_is_noticed(
    tmp_path: Path, write_folder: Write, write_image: Write
) -> None:
    root = write_folder(tmp_path / "faces")
    before = load(str(root), seed=1)
    write_image(root / "angry" / "0.png", seed=99)
    assert not np.array_equal(load(str(root), seed=1).images[0], before.images[0])


def test_drawn_faces_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_N_SYNTHETIC", 40)
    faces = load("synthetic", seed=1)
    images, labels = synthetic.draw(40, 1)
    assert np.array_equal(faces.images, images)
    assert np.array_equal(faces.labels, labels)
    assert (faces.name, faces.origins[39]) == ("synthetic", "synthetic/000039")
    assert set(faces.splits.tolist()) == {""}
    assert not np.array_equal(load("synthetic", seed=2).images, images)


def test_fer2013_is_opened_from_kagglehubs_cache_without_a_network(
    tmp_path: Path, write_folder: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = tmp_path / "kagglehub" / "datasets" / "msambare" / "fer2013" / "versions"
    write_folder(versions / "1", parts=("train", "test"))
    (versions.parent / "1.complete").touch()
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setattr(requests.Session, "request", None)
    faces = load("fer2013", seed=1)
    assert len(faces) == 42
    assert (faces.name, faces.source_url) == (
        "fer2013",
        "https://www.kaggle.com/datasets/msambare/fer2013",
    )


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("no route to host"),
        requests.Timeout("no route to host"),
        OSError("no route to host"),
        exceptions.KaggleApiHTTPError("no route to host"),
        exceptions.CredentialError("no route to host"),
        exceptions.DataCorruptionError("no route to host"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_unreachable_kaggle_names_the_reason_and_what_else_can_be_done(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(handle: str) -> str:
        assert handle == "msambare/fer2013/versions/1"
        raise error

    monkeypatch.setattr(kagglehub, "dataset_download", unreachable)
    with pytest.raises(DataError, match="no route to host") as refused:
        load("fer2013", seed=1)
    for advice in ("KAGGLE_KEY", "data=synthetic", "data=PATH", "KAGGLEHUB_CACHE"):
        assert advice in refused.value.hint


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param("fer2014", "neither a known source nor a path", id="unknown"),
        pytest.param("{tmp}/faces.txt", "is a file but not a .csv", id="file"),
        pytest.param("{tmp}/empty", "no emotion at all", id="empty_folder"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path: Path, data: str, said: str) -> None:
    (tmp_path / "faces.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        load(data.format(tmp=tmp_path), seed=1)


def test_a_folder_may_be_given_from_home(
    tmp_path: Path, write_folder: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "faces")
    assert len(load("~/faces", seed=1)) == 21


def test_faces_outlive_the_folder_that_they_came_from(tmp_path: Path, write_folder: Write) -> None:
    faces = load(str(write_folder(tmp_path / "faces")), seed=1)
    shutil.rmtree(tmp_path / "faces")
    assert faces.images.sum() > 0
