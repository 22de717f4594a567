"""A worker as a task of a Ray cluster: Ray finds it a machine, and another if that one is lost.

The task starts the same command as everywhere and waits for it. Ray ships this package; data,
pretrained weights and a folder for checkpoints are each node's own business, and storage and
tracking store must be reachable from every node. https://docs.ray.io/en/latest/ray-core/tasks.html
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from fer_search.config import WorkerConfig
from fer_search.errors import StoreError
from fer_search.processes import stop_on_signals

_STOP_SECONDS = 15.0


class Cluster:
    """A Ray cluster in which workers are started.

    Args:
        address: As `ray.init` takes it: `auto`, `HOST:PORT` or `ray://HOST:PORT`.
        trials_per_gpu: Workers that share a GPU.
        environment: Variables that every worker gets; whoever sees the cluster sees them.

    Raises:
        StoreError: If there is no cluster at this address.
    """

    def __init__(self, address: str, trials_per_gpu: int, environment: Mapping[str, str]) -> None:
        package = str(Path(__file__).parents[1])
        try:
            _insist_on_an_answer(address)
            ray.init(
                address=address,
                runtime_env={"py_modules": [package], "env_vars": dict(environment)},
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"ray_address={address}: {str(error).strip().splitlines()[0]}",
                hint="start a cluster (`ray start --head`), or name the address of a running one",
            ) from error
        stop_on_signals()  # Ray has put its own handlers in their place
        self._gpus = ray.cluster_resources().get("GPU", 0.0)
        self._processors = ray.cluster_resources().get("CPU", 1.0)
        self._trials_per_gpu = trials_per_gpu

    @property
    def room(self) -> int:
        """Workers that `workers=auto` starts: as many as the GPUs hold, else one for each node."""
        nodes = sum(node["Alive"] for node in ray.nodes())
        return int(self._gpus * self._trials_per_gpu) or nodes

    def start(self, config: WorkerConfig, place: int, n: int) -> RayWorker:
        """Start one of `n` workers; it waits until the cluster has room."""
        gpus = 1 / self._trials_per_gpu if self._gpus else 0
        processors = max(1, int(self._processors // n))
        work = ray.remote(max_retries=-1, num_gpus=gpus, num_cpus=processors)(_work)
        return RayWorker(f"worker {place}", work.remote(config.to_options()))


class RayWorker:
    """A worker on a cluster."""

    def __init__(self, name: str, task: Any) -> None:
        self.name, self._task = name, task
        self._printed = ""

    def status(self) -> int | None:
        """See `crew.Worker`."""
        done, _ = ray.wait([self._task], timeout=0)
        if not done:
            return None
        try:
            status, self._printed = ray.get(self._task)
        except ray.exceptions.RayError as error:
            status, self._printed = -1, str(error)
        return int(status)

    def printed(self) -> str:
        """See `crew.Worker`."""
        return self._printed

    def ask_to_stop(self) -> None:
        """See `crew.Worker`."""
        ray.cancel(self._task)

    def end(self, seconds: float) -> None:
        """See `crew.Worker`."""
        done, _ = ray.wait([self._task], timeout=seconds)
        if not done:
            ray.cancel(self._task, force=True)


def _insist_on_an_answer(address: str) -> None:
    """Ask at HOST:PORT: Ray itself asks for minutes, and then ends the process."""
    host, found, port = address.removeprefix("ray://").rpartition(":")
    if found:
        socket.create_connection((host, int(port)), timeout=10).close()


def _work(options: Sequence[str]) -> tuple[int, str]:
    """Run a worker on this node.

    Returns:
        Its exit status, and the end of what it printed.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fer_search", "worker", *options, f"--parent={os.getpid()}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait()
        finally:  # cancelled
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.kill()
        output.seek(0)
        return process.returncode, output.read()[-20_000:].decode(errors="replace")
