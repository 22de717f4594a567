"""A worker as a task of a Ray cluster: Ray finds it a machine, and another if that one is lost.

The task starts the same command as elsewhere and waits for it. Ray ships this package; data,
pretrained weights and a folder for checkpoints are up to each node, and storage and tracking store
must be reachable from every node. https://docs.ray.io/en/latest/ray-core/tasks.html
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from fer_search.config import WorkerConfig
from fer_search.errors import StoreError
from fer_search.stops import stop_on_signals

_STOP_SECONDS = 8.0
_NODES_LOST = 3
"""How often Ray itself restarts a worker on another node; then the pool does, and counts."""
_KILLED = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.TaskCancelledError,
)


class Cluster:
    """A Ray cluster on which workers are started.

    Args:
        address: Address as `ray.init` takes it: `auto`, `HOST:PORT` or `ray://HOST:PORT`.
        trials_per_gpu: Number of workers that share a GPU.
        environment: Variables for every worker; visible to anyone who can see the cluster.

    Raises:
        StoreError: If there is no cluster at this address.
    """

    def __init__(self, address: str, trials_per_gpu: int, environment: Mapping[str, str]) -> None:
        package = str(Path(__file__).parents[1])
        try:
            _check_reachable(address)
            ray.init(
                address=address,
                runtime_env={"py_modules": [package], "env_vars": dict(environment)},
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"ray_address={address}: {_first_sentence(error)}",
                hint="start a cluster (`ray start --head`), or give the address of a running one",
            ) from error
        stop_on_signals()  # Ray has installed its own handlers instead
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._gpus = sum(node.get("GPU", 0.0) for node in self._nodes)
        self._trials_per_gpu = trials_per_gpu

    @property
    def room(self) -> int:
        """Number of workers for `workers=auto`: as many as the GPUs hold, else one per node."""
        return int(self._gpus * self._trials_per_gpu) or len(self._nodes)

    def start(self, config: WorkerConfig, place: int, n: int) -> RayWorker:
        """Start one of `n` workers; it waits until the cluster has room."""
        needs: dict[str, float] = {"num_gpus": 1 / self._trials_per_gpu, "num_cpus": 1}
        if not self._gpus:
            processors = [int(node.get("CPU", 0)) for node in self._nodes]
            fair = min(sum(processors) // n, min(filter(None, processors), default=1))
            needs = {"num_cpus": max(1, fair)}  # no more than the smallest node has
        work = ray.remote(max_retries=_NODES_LOST, **needs)(_work)
        return RayWorker(f"worker {place}", work.remote(config.to_options()))


class RayWorker:
    """A worker on a cluster."""

    def __init__(self, name: str, task: Any) -> None:
        self.name, self._task = name, task
        self._printed = ""

    def status(self) -> int | None:
        """See `worker_pool.Worker`."""
        done, _ = ray.wait([self._task], timeout=0)
        if not done:
            return None
        try:
            status, self._printed = ray.get(self._task)
        except _KILLED as error:
            status, self._printed = -1, str(error)
        except ray.exceptions.RayError as error:  # such as a node without our requirements
            status, self._printed = 1, f"Error: {error}"
        return int(status)

    def printed(self) -> str:
        """See `worker_pool.Worker`."""
        return self._printed

    def ask_to_stop(self) -> None:
        """See `worker_pool.Worker`."""
        ray.cancel(self._task)

    def end(self, seconds: float) -> None:
        """See `worker_pool.Worker`."""
        done, _ = ray.wait([self._task], timeout=max(seconds, 2 * _STOP_SECONDS))
        if not done:
            ray.cancel(self._task, force=True)
            ray.wait([self._task], timeout=_STOP_SECONDS)


def _check_reachable(address: str) -> None:
    """Try HOST:PORT once: Ray itself would try for minutes, and then end the process."""
    host, found, port = address.removeprefix("ray://").rpartition(":")
    if found:
        socket.create_connection((host, int(port)), timeout=10).close()


def _first_sentence(error: Exception) -> str:
    """Keep the first sentence; the others are about Ray's own options."""
    return str(error).strip().splitlines()[0].partition(". ")[0]


def _work(options: Sequence[str]) -> tuple[int, str]:
    """Run a worker on this node.

    Returns:
        Its exit status, and the end of its output.
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
            while process.poll() is None:  # `wait` would not notice that the task is cancelled
                time.sleep(0.2)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.kill()
        output.seek(0)
        return process.returncode, output.read()[-20_000:].decode(errors="replace")
