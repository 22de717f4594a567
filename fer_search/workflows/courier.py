"""The courier: delivers finished trials of a worker from a thread, while the next one trains."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from fer_search import spool
from fer_search.spool import Spooled
from fer_search.study.studies import Study
from fer_search.tracking.outage import patiently
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.deliver import deliver

_HURRY = 5.0
"""Seconds that a worker which is told to stop gives a delivery; the next start does the rest."""


class Courier:
    """Delivers the trials of a study, one at a time; a context that ends when all are delivered.

    Args:
        study: Of the trials.
        study_run: Of the study.
        folder: Their spool.
    """

    def __init__(self, study: Study, study_run: StudyRun, folder: Path) -> None:
        self._study, self._study_run, self._folder = study, study_run, folder
        self._thread = threading.Thread()
        self._error: Exception | None = None
        self._hurry = threading.Event()

    def send(self, spooled: Spooled) -> None:
        """Deliver an announced trial as soon as the one before it has arrived.

        Raises:
            Exception: What came of the one before it.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(spooled,), daemon=True, name="courier"
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until everything has arrived.

        Raises:
            Exception: What the store answered, or that it stays away.
        """
        if self._thread.ident:
            self._thread.join()
        if self._error:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.wait()
        elif self._thread.ident:
            self._hurry.set()
            self._thread.join(_HURRY)

    def _run(self, spooled: Spooled) -> None:
        give = functools.partial(deliver, spooled, self._study, self._study_run)
        try:
            with spool.lock_of(self._folder, spooled.number):
                if spooled.folder.exists():  # else a search that tidied up was faster
                    patiently(give, stop=self._hurry)
        except Exception as error:
            self._error = error
