"""The thread of a worker that delivers its finished trials while the next one trains."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from fer_search import spool
from fer_search.spool import Spooled
from fer_search.study.study import Study
from fer_search.tracking.outage import is_full, is_outage, patiently
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.deliver import deliver

_HURRY = 5.0
"""Seconds that a worker gives a delivery when told to stop; the next start does the rest."""


class DeliveryThread:
    """Delivers the trials of a study, one at a time; a context that ends when all are delivered.

    Args:
        study: Study of the trials.
        study_run: Run of the study.
        folder: Spool of the trials.
    """

    def __init__(self, study: Study, study_run: StudyRun, folder: Path) -> None:
        self._study, self._study_run, self._folder = study, study_run, folder
        self._thread: threading.Thread | None = None
        self._failed: tuple[Spooled, Exception] | None = None
        self._hurry = threading.Event()

    def send(self, spooled: Spooled) -> None:
        """Deliver an announced trial as soon as the one before it is delivered.

        Raises:
            Exception: As in `wait`.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._try, args=(spooled,), daemon=True, name="delivery"
        )
        self._thread.start()

    def heed(self) -> None:
        """Raise or retry a failed delivery, without waiting for one under way.

        Raises:
            Exception: As in `wait`.
        """
        if self._failed is None:
            return
        (spooled, error), self._failed = self._failed, None
        if not (is_outage(error) or is_full(error)):
            raise error
        self._deliver(spooled)  # the store was away or full, but may no longer be

    def wait(self) -> None:
        """Wait until everything is delivered.

        Raises:
            Exception: What the store answered, or that it is still away or full.
        """
        if self._thread:
            self._thread.join()
        self.heed()

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
                self.wait()
        finally:
            self._hurry.set()
            if self._thread:
                self._thread.join(_HURRY)

    def _try(self, spooled: Spooled) -> None:
        try:
            self._deliver(spooled)
        except Exception as error:
            self._failed = (spooled, error)

    def _deliver(self, spooled: Spooled) -> None:
        give = functools.partial(deliver, spooled, self._study, self._study_run)
        with spool.lock_of(self._folder, spooled.number):
            if spooled.folder.exists():  # else a search has already delivered it
                patiently(give, stop=self._hurry)
