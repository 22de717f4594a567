"""Orderly stops: how one is requested, heeded, and passed on.

`mlflow run` does not pass on a SIGTERM that it gets, so a search ends when its launcher does.
"""

from __future__ import annotations

import atexit
import collections
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable

import psutil

from fer_search.processes import is_alive

STOP_SECONDS = 20
"""Seconds after which an orderly stop is cut short."""
_MOMENT = 0.2
"""Seconds after which a lost stop is raised again."""

_stops: collections.deque[float] = collections.deque()
"""When stops were requested that are not yet heeded; without a lock, for signal handlers."""
_SPARED = {getattr(signal, "SIGHUP", None)}
"""Signals that stay ignored if the process was started to ignore them."""


def stop_on_signals() -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `KeyboardInterrupt`; ignore those after it.

    One signal is one orderly stop: a second one, which `mlflow run` sends after Ctrl-C, must not
    interrupt the cleanup. Python loses an exception that is raised in a finalizer or in a callback
    from C. If Python reports that, the exception is raised again a moment later; C code may not
    report it, so long work also calls `heed_stop` now and then. Under `nohup`, SIGHUP is ignored.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = tuple(getattr(signal, name) for name in names if name in dir(signal))

    def stop(number: int, frame: object) -> None:
        _ignore(numbers)
        _stops.append(time.time())
        raise KeyboardInterrupt

    def again(number: int, frame: object) -> None:
        heed_stop()

    def noticed(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            _stops.append(time.time())
            signal.signal(signal.SIGALRM, again)
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)
        else:
            others(lost)

    others = sys.unraisablehook
    for each in numbers:
        if not (each in _SPARED and signal.getsignal(each) == signal.SIG_IGN):
            signal.signal(each, stop)
    sys.unraisablehook = noticed
    _ignore_at_exit((*numbers, signal.SIGALRM))


@functools.cache
def _ignore_at_exit(numbers: tuple[int, ...]) -> None:
    """Ignore signals at exit, when nothing is left to stop. Once: the first handler runs last."""
    atexit.register(_ignore, numbers)


def _ignore(numbers: Iterable[int]) -> None:
    for each in numbers:
        signal.signal(each, signal.SIG_IGN)


def heed_stop() -> None:
    """Raise `KeyboardInterrupt` if a stop was requested and its exception got lost."""
    if _stops:
        _stops.clear()
        raise KeyboardInterrupt


def stop_with(process: psutil.Process) -> None:
    """Send SIGTERM to this process when `process` ends; exit hard if it does not heed that."""

    def watch() -> None:
        while is_alive(process):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=f"stop-with-{process.pid}").start()
