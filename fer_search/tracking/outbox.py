"""What a trial writes to MLflow, queued and written in order by a thread.

Training does not wait for the store. While the store is away, writes wait here; epochs carry the
time at which they ended, so that a delay does not show later.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from fer_search.results import EpochMetrics
from fer_search.tracking.outage import PATIENCE_SECONDS, patiently
from fer_search.tracking.runs import TrialRun

Write = Callable[[], object]
"""Writes something to the store; may be called again after an outage halfway."""


_HURRY = 5.0
"""Seconds that a process gives the store to take the last epochs when it is told to stop."""


class Outbox:
    """Writes to the run of a trial; a context that ends when all is written, or in a hurry.

    Args:
        run: Run of the trial.
        patience: Seconds that the store may be away.
    """

    def __init__(self, run: TrialRun, patience: float = PATIENCE_SECONDS) -> None:
        self._run, self._patience = run, patience
        self._waiting: queue.SimpleQueue[EpochMetrics | Write | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True, name="outbox")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:  # a stop may also come while this waits
            self.close(seconds=_HURRY)

    def put(self, what: EpochMetrics | Write) -> None:
        """Queue an epoch, or a call that writes something else.

        Raises:
            Exception: What the store answered to an earlier write, or that it stays away.
        """
        if self._error:
            raise self._error
        self._waiting.put(what)

    def close(self, seconds: float | None = None) -> None:
        """Wait until everything is written.

        Args:
            seconds: Longest wait, for a caller in a hurry. What is not written by then is written
                when the trial resumes: parameters again, epochs from the checkpoint.

        Raises:
            Exception: What the store answered, or that it stays away; never if `seconds` is given.
        """
        self._waiting.put(None)
        if seconds is None:
            self._thread.join()
            if self._error:
                raise self._error
        else:
            self._hurry.set()
            self._thread.join(seconds)

    def _write(self) -> None:
        is_open = True
        while is_open:
            waiting = [self._waiting.get()]
            while not self._waiting.empty():
                waiting.append(self._waiting.get())
            is_open = waiting[-1] is not None
            try:
                for call in self._calls(waiting):
                    patiently(call, patience=self._patience, stop=self._hurry)
            except Exception as error:
                self._error = error
                return

    def _calls(self, waiting: Iterable[EpochMetrics | Write | None]) -> Iterator[Write]:
        """Yield the calls to make, in order; epochs that wait together go in one call."""
        epochs: list[EpochMetrics] = []
        for what in (*waiting, None):
            if isinstance(what, EpochMetrics):
                epochs.append(what)
                continue
            if epochs:
                yield functools.partial(self._run.log_epochs, epochs)
                epochs = []
            if what:
                yield what
