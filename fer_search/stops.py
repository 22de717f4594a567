"""Orderly stops: how one is asked for, heeded, and passed on.

`mlflow run` does not pass on a SIGTERM of its own, so a search ends when its launcher does.
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
"""An orderly stop that takes longer is broken off."""
_MOMENT = 0.2
"""Seconds after which a stop that got lost is raised again."""

_stops: collections.deque[float] = collections.deque()
"""When a stop was asked for that nobody has heeded; without a lock, for signal handlers."""
_SPARED = {getattr(signal, "SIGHUP", None)}
"""Signals that a process may be told to ignore from its start."""


def stop_on_signals() -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `KeyboardInterrupt`; ignore those after it.

    One signal is one orderly stop: a second one, which `mlflow run` sends after Ctrl-C, must not
    break off the tidying. Python loses an exception that is raised while it calls a finalizer or
    a callback from C. If it notices that, the exception is raised again a moment later; C need not
    tell, so long work calls `heed_stop` now and then, too. Under `nohup` a SIGHUP stops nothing.
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
    """When all is done, nothing is left to be stopped. Once: what is registered first ends last."""
    atexit.register(_ignore, numbers)


def _ignore(numbers: Iterable[int]) -> None:
    for each in numbers:
        signal.signal(each, signal.SIG_IGN)


def heed_stop() -> None:
    """Raise `KeyboardInterrupt` if a stop was asked for and its exception got lost."""
    if _stops:
        _stops.clear()
        raise KeyboardInterrupt


def stop_with(process: psutil.Process) -> None:
    """Stop this process, as by SIGTERM, when `process` ends; hard if it does not heed that."""

    def watch() -> None:
        while is_alive(process):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=f"stop-with-{process.pid}").start()
