"""The target: a search with three workers and an MLflow server, everything in one folder."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).parents[2]
MARK = "FER_CHAOS"
"""Environment variable that marks every process started by an arena."""
STUDY = "chaos"
_SEARCH = {
    "study": STUDY, "data": "synthetic", "limit": 300, "backbones": "tiny", "weights": "none",
    "image_sizes": 48, "epochs": 12, "sampler": "random", "pruner": "hyperband", "workers": 3,
    "retries": 5, "views": 1,
}  # fmt: skip


class Arena:
    """Starts, resumes and finds processes.

    Args:
        folder: Folder for all stores, caches and logs; empty, or left by an earlier arena.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.storage = f"sqlite:///{self.folder}/optuna.db"
        self.store = f"sqlite:///{self.folder}/mlflow.db"
        self._environment = os.environ | {
            MARK: str(self.folder),
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder / "home"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self._port}",
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._search: subprocess.Popen[bytes] | None = None
        self._said = 0

    @property
    def output(self) -> Path:
        """File with the output of all searches, one after another."""
        return self.folder / "search.txt"

    def start_server(self) -> None:
        """Start MLflow's server, always on the same port, and wait until it answers."""
        with (self.folder / "server.txt").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    sys.executable, "-m", "mlflow", "server", f"--port={self._port}",
                    "--workers=1", f"--backend-store-uri={self.store}",
                    f"--default-artifact-root={self.folder}/mlruns",
                ],
                env=self._environment, cwd=self.folder, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while not self._server_answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"MLflow's server does not start: see {log.name}")
            time.sleep(0.5)

    def kill_server(self) -> None:
        """Kill MLflow's server with all its processes."""
        if self._server:
            for each in _below(self._server.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self._server.kill()
            self._server.wait()

    def start_search(self, trials: int) -> None:
        """Start or resume the search, for `trials` trials in total."""
        options = [f"--{name}={value}" for name, value in (_SEARCH | {"trials": trials}).items()]
        with self.output.open("ab") as out:
            self._said = out.tell()
            self._search = subprocess.Popen(
                [sys.executable, "-m", "fer_search", "search", *options],
                env=self._environment, cwd=self.folder, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    @property
    def search(self) -> subprocess.Popen[bytes]:
        """Process of the latest search."""
        if self._search is None:
            raise RuntimeError("no search was started")
        return self._search

    def said(self) -> str:
        """Return the output of the latest search."""
        return self.output.read_bytes()[self._said :].decode(errors="replace")

    def workers(self) -> list[psutil.Process]:
        """List the living worker processes, whoever started them."""
        return [each for each in self.processes() if "worker" in _command(each)]

    def processes(self) -> list[psutil.Process]:
        """List all living processes of this arena, MLflow's server included."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get(MARK) == str(self.folder)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def checkpoints(self) -> list[Path]:
        """List the checkpoints from which trials would resume, newest last."""
        files = (self.folder / "state").rglob("checkpoint-*.npz")
        return sorted(files, key=lambda file: file.stat().st_mtime)

    def close(self) -> None:
        """Kill all remaining processes."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _server_answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self._port}/health", timeout=5).ok
        except requests.RequestException:
            return False


def _below(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
