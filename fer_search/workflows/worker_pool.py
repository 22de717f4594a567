"""The workers of a search: processes that are started, watched, replaced and stopped together.

Where they run is up to `local_worker.py` (processes on this machine) and `ray_worker.py` (a
cluster).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from fer_search.errors import InputError, StudyStopped, SurroundingsError
from fer_search.processes import STOPPED, SURROUNDINGS
from fer_search.stops import STOP_SECONDS, heed_stop

DEATHS_IN_A_ROW = 5
"""Number of killed workers, with no trial finished in between, that stops the search."""
POLL_SECONDS = 1.0
_REFUSED = 2
_SILENT = "no reason given, perhaps because its disk is full; finished work is kept"


class Worker(Protocol):
    """A process somewhere that runs the command `worker`."""

    name: str
    """Name for messages."""

    def status(self) -> int | None:
        """Return its exit status, negative if a signal ended it; None while it runs or waits to."""

    def printed(self) -> str:
        """Return what it has printed since it began."""

    def ask_to_stop(self) -> None:
        """Ask it to give back its trial and end."""

    def end(self, seconds: float) -> None:
        """Wait this long for it to end, then kill it."""


class WorkerPool:
    """Keeps workers at a study until they have ended by themselves.

    Args:
        n: Number of workers.
        start: Starts the worker with the given number, from 0 to n - 1.
    """

    def __init__(self, n: int, start: Callable[[int], Worker]) -> None:
        self._start = start
        self._workers: dict[int, Worker] = {}
        try:
            for place in range(n):
                self._workers[place] = start(place)
        except BaseException:
            self.stop()
            raise

    def watch(self, on_poll: Callable[[], int], on_death: Callable[[], None]) -> None:
        """Wait for the workers; replace any that is killed.

        Args:
            on_poll: Called every second; returns the number of finished trials.
            on_death: Called after a worker was killed, before the next one starts.

        Raises:
            InputError: If a worker refuses its input.
            SurroundingsError: If a worker's disk is full, or a store stays away.
            StudyStopped: If a worker met a bug, or if workers keep being killed.
        """
        deaths, finished = 0, on_poll()
        while self._workers:
            time.sleep(POLL_SECONDS)
            heed_stop()
            now = on_poll()
            deaths, finished = (0 if now > finished else deaths), now
            for place, worker in list(self._workers.items()):
                status = worker.status()
                if status is None:
                    continue
                del self._workers[place]
                if status == 0:
                    continue
                if not _was_killed(status):
                    _explain(worker, status)
                deaths += 1
                on_death()
                if deaths == DEATHS_IN_A_ROW:
                    raise StudyStopped(
                        f"{deaths} workers in a row were killed before any trial finished"
                        f"{_last_line(worker.printed())}",
                        hint="often out of memory: try fewer workers, or smaller image_sizes",
                    )
                self._workers[place] = self._start(place)

    def stop(self) -> None:
        """Ask all workers to give back their trials and end; kill those that do not."""
        for worker in self._workers.values():
            worker.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS / 2
        for worker in self._workers.values():
            worker.end(max(0.1, deadline - time.monotonic()))
        self._workers = {}


def _last_line(printed: str) -> str:
    lines = printed.strip().splitlines()
    return f"; the last one said: {lines[-1]}" if lines else ""


def _was_killed(status: int) -> bool:
    """Tell whether a signal ended it, as opposed to the program itself."""
    return status < 0 or status == STOPPED


def _explain(worker: Worker, status: int) -> None:
    """Raise an error that says what ended a worker: its own refusal, or a bug's traceback."""
    text = f"\n{worker.printed()}"
    if status == _REFUSED:
        _, _, said = text.rpartition("Error: ")
        raise InputError(said.strip())
    _, has_said, said = text.rpartition("\nError: ")
    trace = text[max(0, text.rfind("Traceback (most recent call last)")) :].strip()
    if status == SURROUNDINGS:
        raise SurroundingsError(f"{worker.name} stopped: {said.strip() if has_said else _SILENT}")
    if has_said and len(said) < len(trace):  # an error is the last thing printed
        raise StudyStopped(f"{worker.name} stopped: {said.strip()}")
    raise StudyStopped(f"{worker.name} stopped: {trace[-10_000:] or _SILENT}")
