"""Workers that are started before it is known what they shall work on.

A search imports TensorFlow, MLflow and the rest before it can open a study, and its workers do so,
too, before they can take a trial. With workers on standby all do it at the same time.
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
"""What tells a worker its part of the machine, in its environment, before it imports."""


class Standby:
    """Processes that import what a worker needs, and wait for their command lines.

    They are started with the context and end with it, unless they have become workers by then. If
    this process is killed, they end by themselves.

    Args:
        shares: One for each.
    """

    def __init__(self, shares: Sequence[Share] = ()) -> None:
        self._shares = shares
        self._waiting: list[tuple[Share, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        try:
            for share in self._shares:
                self._waiting.append((share, _start(share)))
        except OSError:  # no more processes to be had: workers are started anew then
            pass
        except BaseException:
            self.dismiss()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def dismiss(self, but: Sequence[Share] = ()) -> None:
        """End those that have not become workers.

        Args:
            but: Shares of those that stay, one for each.
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
        """Let one do the command `worker` in this process's environment; it is the caller's then.

        Args:
            options: Of the command.
            share: The part of the machine that it must have been told.
            log: File to which it prints, after what is there.

        Returns:
            The process; None if none with this share waits any more: all are at work or were
            dismissed, or it died.
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
        [sys.executable, "-m", __name__, "worker"],  # the last for who looks at processes
        env=environment_with_package() | share,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main() -> None:
    """Import, wait for the command line on standard input, and do the command."""
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
    """Hear the command line; when there will be none, end at once, in the middle of an import."""
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
