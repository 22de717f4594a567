"""The crew: worker processes of a search on this machine, started, watched and stopped together."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fer_search.config import WorkerConfig
from fer_search.errors import InputError, StudyStopped
from fer_search.processes import STOP_SECONDS, STOPPED, environment_with_package
from fer_search.runtime import nvidia_gpus

DEATHS_IN_A_ROW = 5
"""So many killed workers, no trial finished between them, stop the search."""
POLL_SECONDS = 1.0
_REFUSED = 2


@dataclasses.dataclass
class _Worker:
    index: int
    process: subprocess.Popen[bytes]
    log_from: int
    """Where in its log this process began."""


class Crew:
    """Keeps `n` workers at a study until they have ended by themselves.

    Args:
        n: Worker processes.
        study: Name of the study.
        storage: Optuna storage URL.
        logs: Folder for what the workers print, `worker-0.log` and on.
    """

    def __init__(self, n: int, *, study: str, storage: str, logs: Path) -> None:
        self._config = WorkerConfig(study=study, storage=storage, parent=os.getpid())
        self._n, self._logs = n, logs
        self._workers = [self._start(index) for index in range(n)]

    def watch(self, on_poll: Callable[[], int], on_death: Callable[[], None]) -> None:
        """Wait for the workers; start a killed one anew.

        Args:
            on_poll: Called every second; gives the number of finished trials.
            on_death: Called after a worker was killed, before the next one starts.

        Raises:
            InputError: If a worker refuses its input.
            StudyStopped: If a worker met a bug, or if workers keep being killed.
        """
        deaths, finished = 0, on_poll()
        while self._workers:
            time.sleep(POLL_SECONDS)
            now = on_poll()
            deaths, finished = (0 if now > finished else deaths), now
            for worker in [each for each in self._workers if each.process.poll() is not None]:
                self._workers.remove(worker)
                if worker.process.returncode == 0:
                    continue
                if not _was_killed(worker.process.returncode):
                    self._explain(worker)
                deaths += 1
                on_death()
                if deaths == DEATHS_IN_A_ROW:
                    raise StudyStopped(
                        f"{deaths} workers in a row were killed before any trial finished",
                        hint="often too little memory: try fewer workers, or smaller image_sizes",
                    )
                self._workers.append(self._start(worker.index))

    def stop(self) -> None:
        """Ask all workers to give back their trials and end; kill those that do not."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS / 2
        for worker in self._workers:
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers = []

    def _start(self, index: int) -> _Worker:
        """Start a worker in a session of its own: Ctrl-C reaches it only through `stop`."""
        options = [f"--{key}={value}" for key, value in self._config.model_dump().items()]
        with self._log(index).open("ab") as log:
            log_from = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "fer_search", "worker", *options],
                env=self._environment(index),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _Worker(index, process, log_from)

    def _environment(self, index: int) -> dict[str, str]:
        """Share the machine: a GPU for each worker in turn, or a part of the threads."""
        environment = environment_with_package()
        gpus = nvidia_gpus()
        if self._n > 1 and gpus:
            environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of the driver's indices
            environment["CUDA_VISIBLE_DEVICES"] = str(gpus[index % len(gpus)].index)
        elif self._n > 1:
            threads = str(max(1, (os.cpu_count() or 1) // self._n))
            environment |= {"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}
        return environment

    def _log(self, index: int) -> Path:
        return self._logs / f"worker-{index}.log"

    def _explain(self, worker: _Worker) -> None:
        """Raise what ended a worker: its own refusal, or the traceback of a bug."""
        text = self._log(worker.index).read_bytes()[worker.log_from :].decode(errors="replace")
        if worker.process.returncode == _REFUSED:
            _, _, said = text.rpartition("Error: ")
            raise InputError(said.strip())
        if "\nError: " in text and worker.process.returncode == 1:
            _, _, said = text.rpartition("\nError: ")
            raise StudyStopped(f"worker {worker.index} stopped: {said.strip()}")
        _, found, trace = text.rpartition("Traceback (most recent call last)")
        raise StudyStopped(
            f"worker {worker.index} stopped:\n{found}{trace}".rstrip() if found else text[-2000:],
            hint=f"all that it printed is in {self._log(worker.index)}",
        )


def _was_killed(status: int) -> bool:
    """Tell an end by signal from one that the program chose."""
    return status < 0 or status == STOPPED
