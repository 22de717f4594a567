"""Workers that are started before it is known what they will work on.

A search imports TensorFlow, MLflow and the rest before it can open a study, and so do its workers
before they can take a trial. With workers on standby, all of them do so at the same time.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from fer_search.processes import environment_with_package

Share = dict[str, str]
"""Environment variables that tell a worker its part of the machine before it imports anything."""


class Standby:
    """Processes that import what a worker needs, and wait for their command lines.

    They start and end with the context, unless they have become workers by then. If this process
    is killed, they end by themselves.

    Args:
        shares: Shares of the machine, one for each process.
    """

    def __init__(self, shares: Sequence[Share] = ()) -> None:
        self._shares = shares
        self._waiting: list[tuple[Share, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        try:
            for share in self._shares:
                self._waiting.append((share, _start(share)))
        except OSError:  # no more processes allowed: workers start from scratch then
            pass
        except BaseException:
            self.dismiss()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def dismiss(self, but: Sequence[Share] = ()) -> None:
        """End the processes that have not become workers.

        Args:
            but: Shares of the processes that stay, one for each.
        """
        wanted, ending = list(but), []
        for share, process in self._waiting:
            if share in wanted:
                wanted.remove(share)
            else:
                process.kill()
                ending.append(process)
        self._waiting = [one for one in self._waiting if one[1] not in ending]
        for process in ending:
            process.communicate()

    def begin(
        self, options: Sequence[str], share: Share, log: Path
    ) -> subprocess.Popen[bytes] | None:
        """Turn a process into a worker in this process's environment; the caller then owns it.

        Args:
            options: Options of the command `worker`.
            share: Share with which the process must have been started.
            log: File to which its output is appended.

        Returns:
            The process; None if none with this share is waiting: all are at work, were dismissed
            or have died.
        """
        mine = next((one for one in self._waiting if one[0] == share), None)
        if mine is None:
            return None
        self._waiting.remove(mine)
        _, process = mine
        environment = environment_with_package() | share
        order = json.dumps({"options": options, "log": str(log), "environment": environment})
        assert process.stdin
        try:
            with process.stdin as pipe:
                pipe.write(order.encode())
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, BrokenPipeError):
                return None
            raise
        return process


def _start(share: Share) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, "worker"],  # the last word is for process listings
        env=environment_with_package() | share,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main() -> None:
    """Import, wait for the command line on standard input, and run the command."""
    told: list[bytes] = []
    listener = threading.Thread(target=_listen, args=(told,), daemon=True)
    listener.start()
    import fer_search.workflows.worker  # noqa: F401, what the command imports

    listener.join()
    order: dict[str, Any] = json.loads(told[0])
    _print_to(Path(order["log"]))
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = ["worker", *order["options"]]
    runpy.run_module("fer_search", run_name="__main__")


def _listen(told: list[bytes]) -> None:
    """Read the command line; if there is none, end at once, even in the middle of an import."""
    told.append(sys.stdin.buffer.read())
    if not told[0]:
        os._exit(0)


def _print_to(log: Path) -> None:
    with log.open("ab") as file, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


if __name__ == "__main__":
    main()
