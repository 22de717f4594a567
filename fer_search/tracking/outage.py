"""Wait for a store that is away for a while, such as a restarted server or a locked database.

Also tell a full disk from a bug.
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
"""Names of the exceptions that the libraries under MLflow raise when nobody answers."""
_LOCKED = (
    "locked", "busy", "connect", "closed", "shutting down", "starting up", "gone away",
    "deadlock", "lock wait", "eof detected",
)  # fmt: skip
"""Words in errors of databases that will answer later; a full disk or a missing table will not."""
_REFUSED = ("authentication failed", "access denied", "does not exist", "pg_hba.conf")
"""Words in errors of databases that answered with a refusal."""

_NO_ROOM = ("disk is full", "disk i/o error")
"""Words in errors of SQLite; the second is all that it can say of a quota or a size limit."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Result = TypeVar("Result")


def is_outage(error: BaseException) -> bool:
    """Tell whether a store did not answer, as opposed to answering with a refusal."""
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
    """Call a function until the store answers, with growing pauses.

    Args:
        call: The function; it may be called again after an outage halfway.
        patience: Seconds after the first outage during which it is tried again.
        stop: Event that ends the retries once it is set.

    Returns:
        What the function returned.

    Raises:
        Exception: The last one, if the store stays away or `stop` is set; at once if it is not an
            outage.
    """
    stop, pause, since = stop or threading.Event(), _FIRST_PAUSE, None
    while True:
        try:
            return call()
        except Exception as error:
            since = since or time.monotonic()
            if not is_outage(error) or time.monotonic() - since > patience:
                raise
            log.warning("the store does not answer, retrying in %.0f s: %s", pause, error)
            if stop.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE)


def attempt(call: Callable[[], object]) -> None:
    """Try something on the way out, where an error must not replace the one being raised.

    Args:
        call: Function to call once; an error is logged, and the rest is left to the next start.
    """
    try:
        call()
    except Exception as error:
        log.warning("left for the next start: %s", error)


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
