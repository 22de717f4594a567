"""A worker as a process of this machine, with a GPU or a part of the processors of its own."""

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
    """A worker on this machine, in a session of its own: Ctrl-C reaches it only as a request.

    Args:
        config: What it works on.
        place: Its number among the workers of the search.
        n: How many they are.
        log: File to which it prints, after what is there.
        standby: Has the process that becomes the worker, if one with its share is there.
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
        return f"{text}\n(all that it printed is in {self._log})" if "Traceback" in text else text

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
    """The shares of the workers that a request will probably start on this machine.

    Args:
        search: What was asked for. A study that goes on may have other workers, and Keras may not
            see the GPUs that the driver does.

    Returns:
        None with Ray; else at least one, and no more than there are processors beside one for the
        search.
    """
    if search.launcher == RAY:
        return []
    n = n_workers(search, len(nvidia_gpus()) * search.trials_per_gpu)
    return [share(place, n) for place in range(min(n, max(1, (os.cpu_count() or 1) - 1)))]


def n_workers(search: SearchConfig, room: int) -> int:
    """`workers` of a search, or for `auto` the room there is, at least one."""
    return max(1, room) if search.workers == AUTO else int(search.workers)


def share(place: int, n: int) -> Share:
    """The environment of one of `n` workers that share this machine.

    A GPU for each in turn, so that several share one if they are more; without GPUs, a part of the
    threads.
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
