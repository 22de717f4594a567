"""A store that is away for a while, a restarted server or a locked database, is waited for.

And a disk that is full is told from a bug.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 900.0
"""How long a store may be away; MLflow's own retries of a request come on top."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_AWAY = {
    "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "RetryError", "MaxRetryError",
    "RemoteDisconnected", "IncompleteRead",
}  # fmt: skip
"""Names of what the libraries under MLflow raise when nobody answers."""
_LOCKED = (
    "locked", "busy", "connect", "closed", "shutting down", "starting up", "gone away",
    "deadlock", "lock wait", "eof detected",
)  # fmt: skip
"""Words of databases that will answer later; a full disk or a missing table will not."""
_REFUSED = ("authentication failed", "access denied", "does not exist", "pg_hba.conf")
"""Words of databases that do answer: no."""

_NO_ROOM = ("disk is full", "disk i/o error")
"""Words of SQLite: the second ones for a quota or a limit, where it cannot tell more."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Result = TypeVar("Result")


def is_outage(error: BaseException) -> bool:
    """Tell whether a store did not answer, rather than answer with a refusal."""
    return any(_says_so(each) for each in _chain(error))


def is_full(error: BaseException) -> bool:
    """Tell whether a file could not grow: the disk or a quota is full, or its size is limited."""
    return any(
        getattr(each, "errno", None) in _FULL or any(w in str(each).lower() for w in _NO_ROOM)
        for each in _chain(error)
    )


def patiently(
    call: Callable[[], Result],
    *,
    patience: float = PATIENCE_SECONDS,
    stop: threading.Event | None = None,
) -> Result:
    """Call until the store answers, with growing pauses.

    Args:
        call: May be made again after an outage in its middle.
        patience: Seconds after the first outage in which it is tried again.
        stop: Once it is set, nothing is tried again.

    Returns:
        What the call gave.

    Raises:
        Exception: The last one, if the store stays away; at once if it is no outage.
    """
    stop, pause, since = stop or threading.Event(), _FIRST_PAUSE, None
    while True:
        try:
            return call()
        except Exception as error:
            since = since or time.monotonic()
            if not is_outage(error) or time.monotonic() - since > patience:
                raise
            log.warning("the store does not answer, trying again in %.0f s: %s", pause, error)
            if stop.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE)


def attempt(call: Callable[[], object]) -> None:
    """Do what can be done on the way out, where no error may take the place of the one under way.

    Args:
        call: Tried once; what it could not do is logged, and left to the next start.
    """
    try:
        call()
    except Exception as error:
        log.warning("left to the next start: %s", error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _says_so(error: BaseException) -> bool:
    names = {cls.__name__ for cls in type(error).__mro__}
    if "OperationalError" in names:
        said = str(error).lower()
        return any(w in said for w in _LOCKED) and not any(w in said for w in _REFUSED)
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return bool(names & _AWAY) or status in (429, 502, 503, 504)
