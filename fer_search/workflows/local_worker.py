"""A worker as a process on this machine, with its share of the GPUs or processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_search.config import AUTO, RAY, SearchConfig, WorkerConfig
from fer_search.processes import environment_with_package
from fer_search.runtime import nvidia_gpus
from fer_search.workflows.standby import Share, Standby


class LocalWorker:
    """A worker on this machine, in its own session: Ctrl-C reaches it only as a request.

    Args:
        config: The worker's parameters.
        place: Number of the worker among those of the search.
        n: Number of workers of the search.
        log: File to which the output is appended.
        standby: Holds the process that becomes the worker, if there is one with its share.
    """

    def __init__(
        self, config: WorkerConfig, place: int, n: int, log: Path, standby: Standby
    ) -> None:
        self.name = f"worker {place}"
        self._log = log
        with log.open("ab") as file:
            self._log_from = file.tell()
        mine = (config.to_options(), share(place, n), log)
        self._process = standby.begin(*mine) or _start(*mine)

    def status(self) -> int | None:
        """See `worker_pool.Worker`."""
        return self._process.poll()

    def printed(self) -> str:
        """See `worker_pool.Worker`."""
        text = self._log.read_bytes()[self._log_from :].decode(errors="replace")
        return f"{text}\n(full output: {self._log})" if "Traceback" in text else text

    def ask_to_stop(self) -> None:
        """See `worker_pool.Worker`."""
        self._process.terminate()

    def end(self, seconds: float) -> None:
        """See `worker_pool.Worker`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(options: Sequence[str], share: Share, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "fer_search", "worker", *options],
            env=environment_with_package() | share,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def shares_to_expect(search: SearchConfig) -> list[Share]:
    """Predict the shares of the workers that a request will start on this machine.

    Args:
        search: The request. A resumed study may have other workers, and Keras may not see the GPUs
            that the driver sees.

    Returns:
        Empty with Ray; otherwise at least one, and at most one for each processor but one, which
        is left to the search.
    """
    if search.launcher == RAY:
        return []
    n = n_workers(search, len(nvidia_gpus()) * search.trials_per_gpu)
    return [share(place, n) for place in range(min(n, max(1, (os.cpu_count() or 1) - 1)))]


def n_workers(search: SearchConfig, room: int) -> int:
    """Resolve `workers` of a search; `auto` fills the room there is, with at least one."""
    return max(1, room) if search.workers == AUTO else int(search.workers)


def share(place: int, n: int) -> Share:
    """Make the environment of one of `n` workers that share this machine.

    Workers take the GPUs in turn, so several share one if there are more workers than GPUs. Without
    GPUs, each gets a part of the threads.
    """
    gpus = nvidia_gpus()
    if n > 1 and gpus:
        return {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of the driver's indices
            "CUDA_VISIBLE_DEVICES": str(gpus[place % len(gpus)].index),
        }
    if n > 1:
        threads = str(max(1, (os.cpu_count() or 1) // n))
        return {"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}
    return {}
