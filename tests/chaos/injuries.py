"""What is done to a search: each injury is one function of the arena and of chance."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator

import psutil
from arena import Arena

Injury = Callable[[Arena, random.Random], None]


def kill_a_worker(arena: Arena, chance: random.Random) -> None:
    """As the kernel does when memory is short."""
    for worker in _one(arena, chance):
        worker.kill()


def kill_the_search(arena: Arena, chance: random.Random) -> None:
    """Its workers live on, and notice."""
    arena.search.kill()


def kill_everything(arena: Arena, chance: random.Random) -> None:
    """As a loss of power does; MLflow's server is another machine."""
    for process in [arena.search, *arena.workers()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def terminate(arena: Arena, chance: random.Random) -> None:
    """As a shutdown or a cluster's preemption does, to the search."""
    arena.search.send_signal(signal.SIGTERM)


def interrupt(arena: Arena, chance: random.Random) -> None:
    """As Ctrl-C does."""
    arena.search.send_signal(signal.SIGINT)


def terminate_a_worker(arena: Arena, chance: random.Random) -> None:
    """As someone does who takes a machine out of service."""
    for worker in _one(arena, chance):
        worker.terminate()


def restart_the_server(arena: Arena, chance: random.Random) -> None:
    """MLflow's server is killed, away for some seconds, and back."""
    arena.kill_server()
    time.sleep(chance.uniform(0, 15))
    arena.start_server()


def hold_a_database(arena: Arena, chance: random.Random) -> None:
    """Someone else's transaction holds Optuna's or MLflow's database for some seconds."""
    file = chance.choice(["optuna.db", "mlflow.db"])
    seconds = chance.uniform(1, 15)
    with contextlib.closing(sqlite3.connect(arena.folder / file, timeout=60)) as connection:
        with contextlib.suppress(sqlite3.OperationalError):  # it is never idle: nothing to hold
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
        connection.rollback()


def let_files_not_grow(arena: Arena, chance: random.Random) -> None:
    """As a full disk or quota does: one worker's writes fail beyond some size, for a while."""
    size, seconds = chance.choice([0, 10_000, 1_000_000]), chance.uniform(2, 10)
    for worker in _one(arena, chance):
        unlimited = resource.RLIM_INFINITY
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, unlimited))
            time.sleep(seconds)
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))


def spoil_a_checkpoint(arena: Arena, chance: random.Random) -> None:
    """The newest one is cut or changed, and all workers are killed, so that it is read."""
    for process in arena.workers():
        process.suspend()
    for file in arena.checkpoints()[-1:]:
        place = chance.randrange(max(1, file.stat().st_size))
        if chance.random() < 0.5:
            os.truncate(file, place)
        else:
            with file.open("r+b") as opened:
                opened.seek(place)
                opened.write(chance.randbytes(64))
    for process in arena.workers():
        process.kill()


INJURIES: tuple[Injury, ...] = (
    kill_a_worker,
    kill_the_search,
    kill_everything,
    terminate,
    interrupt,
    terminate_a_worker,
    restart_the_server,
    hold_a_database,
    let_files_not_grow,
    spoil_a_checkpoint,
)


def _one(arena: Arena, chance: random.Random) -> Iterator[psutil.Process]:
    """One living worker, if there is any."""
    workers = sorted(arena.workers(), key=lambda process: process.pid)
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield chance.choice(workers)
