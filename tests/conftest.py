"""Shared fixtures: every test has its own home, stores and caches; nothing is downloaded."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` ignores it, and children inherit that
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take minutes, so that no process ends up running them alone."""
    items.sort(key=lambda item: "resume" not in item.nodeid and "end_to_end" not in item.nodeid)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep a test's caches, spool and stores in its own folder."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def own_precision() -> Iterator[None]:
    """Undo the dtype policy that a test set, by itself or by `runtime.configure`."""
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real FER2013 and real weights: FER_SHARED, otherwise ../shared."""
    folder = Path(os.environ.get("FER_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "fer2013.zip").exists():
        pytest.skip(f"no real FER2013: neither FER_SHARED nor {folder} has data/fer2013.zip")
    return folder
