"""Processes: who started this one, whether another lives, and how an orderly stop is asked for.

`mlflow run` starts this program through a shell, may do so in a temporary checkout, and does not
pass on a SIGTERM of its own. So the program looks up its launcher: relative paths are meant from
there, and when it ends the search ends too.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil

STOPPED = 143
"""Exit status of a worker that was told to stop, as of any program ended by SIGTERM."""
STOP_SECONDS = 20
"""An orderly stop that takes longer is broken off."""

_SHELLS = {"sh", "bash", "dash", "zsh", "cmd.exe", "sh.exe", "bash.exe"}


@dataclasses.dataclass(frozen=True)
class Launch:
    """Who started this command, and how to word the next one."""

    directory: Path
    """Where the person typed the command."""
    mlflow: psutil.Process | None
    """The `mlflow run` above this process, if there is one."""
    prefix: tuple[str, ...]
    """`mlflow run .` with its own options, or `python -m fer_search`."""

    def command(self, name: str, **parameters: Any) -> str:
        """Spell the command `name` with `parameters`, to be pasted into the same shell."""
        if not self.mlflow:
            options = (f"--{key}={value}" for key, value in parameters.items())
            return shlex.join([*self.prefix, name, *options])
        entry = [] if name == "search" else ["-e", name]
        options = (part for key, value in parameters.items() for part in ("-P", f"{key}={value}"))
        return shlex.join([*self.prefix, *entry, *options])


def find_launch() -> Launch:
    """Find out how this process was started."""
    direct = Launch(Path.cwd(), None, ("python", "-m", "fer_search"))
    if "MLFLOW_RUN_ID" not in os.environ:
        return direct
    try:
        above = psutil.Process().parents()
        starter = next(process for process in above if process.name() not in _SHELLS)
        arguments = starter.cmdline()
        if not is_mlflow_run(arguments):
            return direct
        return Launch(Path(starter.cwd()), starter, mlflow_prefix(arguments))
    except (StopIteration, psutil.Error):
        return direct


def is_mlflow_run(arguments: list[str]) -> bool:
    """Tell whether a command line is `mlflow run …`, by its program or as a Python module."""
    before, found, _ = (" ".join(arguments)).partition(" run ")
    return bool(found) and before.split()[-1].endswith(("mlflow", "mlflow.exe", "mlflow.cli"))


def mlflow_prefix(arguments: list[str]) -> tuple[str, ...]:
    """Keep of `mlflow run . -e demo -P a=b --env-manager uv` what every later command needs.

    Args:
        arguments: The launcher's command line.
    """
    once = ("-P", "--param-list", "-e", "--entry-point", "--run-name")
    kept = ["mlflow", "run"]
    rest = iter(arguments[arguments.index("run") + 1 :])
    for part in rest:
        if part in once:
            next(rest, None)
        elif not part.startswith(("-P", *(f"{name}=" for name in once[1:]))):
            kept.append(part)
    return tuple(kept)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether `process` (this very one, not a later one of the same number) still runs."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_on_signals() -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into `KeyboardInterrupt`; ignore those after it.

    One signal is one orderly stop: a second one, which `mlflow run` sends after Ctrl-C, must not
    break off the tidying.
    """
    numbers = [
        getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in dir(signal)
    ]

    def stop(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in numbers:
        signal.signal(each, stop)


def stop_with(process: psutil.Process) -> None:
    """Stop this process, as by SIGTERM, when `process` ends; hard if it does not heed that."""

    def watch() -> None:
        while is_alive(process):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=f"stop-with-{process.pid}").start()
