"""Injuries to a search: each is a function of the arena and of chance.

It returns whether it hit anything.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable

import psutil
from arena import Arena

Injury = Callable[[Arena, random.Random], bool]


def kill_a_worker(arena: Arena, chance: random.Random) -> bool:
    """Kill a worker, as the kernel does when memory runs out."""
    return any(_done(worker.kill) for worker in _one(arena, chance))


def kill_the_search(arena: Arena, chance: random.Random) -> bool:
    """Kill the search alone; its workers survive and notice."""
    arena.search.kill()
    return True


def kill_everything(arena: Arena, chance: random.Random) -> bool:
    """Kill search and workers, as a power cut does; MLflow's server is another machine."""
    arena.search.kill()
    for worker in arena.workers():
        _done(worker.kill)
    return True


def terminate(arena: Arena, chance: random.Random) -> bool:
    """Send SIGTERM to the search, as a shutdown or a cluster's preemption does."""
    arena.search.send_signal(signal.SIGTERM)
    return True


def interrupt(arena: Arena, chance: random.Random) -> bool:
    """Send SIGINT to the search, as Ctrl-C does."""
    arena.search.send_signal(signal.SIGINT)
    return True


def terminate_a_worker(arena: Arena, chance: random.Random) -> bool:
    """Send SIGTERM to a worker, as when a machine is taken out of service."""
    return any(_done(worker.terminate) for worker in _one(arena, chance))


def restart_the_server(arena: Arena, chance: random.Random) -> bool:
    """Kill MLflow's server and start it again after some seconds."""
    arena.kill_server()
    time.sleep(chance.uniform(0, 15))
    arena.start_server()
    return True


def hold_a_database(arena: Arena, chance: random.Random) -> bool:
    """Lock Optuna's or MLflow's database with a transaction for some seconds."""
    file = chance.choice(["optuna.db", "mlflow.db"])
    seconds = chance.uniform(1, 15)
    with contextlib.closing(sqlite3.connect(arena.folder / file, timeout=60)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:  # it was never idle
            return False
        time.sleep(seconds)
        connection.rollback()
    return True


def let_files_not_grow(arena: Arena, chance: random.Random) -> bool:
    """Let a worker's writes fail beyond some size for a while, as on a full disk or quota."""
    size, seconds = chance.choice([0, 10_000, 1_000_000]), chance.uniform(2, 10)
    for worker in _one(arena, chance):
        limit = functools.partial(resource.prlimit, worker.pid, resource.RLIMIT_FSIZE)
        if _done(lambda: limit((size, resource.RLIM_INFINITY))):  # noqa: B023 at once
            time.sleep(seconds)
            _done(lambda: limit((resource.RLIM_INFINITY, resource.RLIM_INFINITY)))  # noqa: B023
            return True
    return False


def spoil_a_checkpoint(arena: Arena, chance: random.Random) -> bool:
    """Truncate or change the newest checkpoint, and kill all workers, so that it is read."""
    workers = arena.workers()
    for worker in workers:
        _done(worker.suspend)
    newest = arena.checkpoints()[-1:]
    for file in newest:
        place = chance.randrange(max(1, file.stat().st_size))
        if chance.random() < 0.5:
            os.truncate(file, place)
        else:
            with file.open("r+b") as opened:
                opened.seek(place)
                opened.write(chance.randbytes(64))
    for worker in workers:
        _done(worker.kill)
    return bool(newest)


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


def _one(arena: Arena, chance: random.Random) -> list[psutil.Process]:
    """Choose a living worker, if there is one."""
    workers = sorted(arena.workers(), key=lambda process: process.pid)
    return [chance.choice(workers)] if workers else []


def _done(act: Callable[[], None]) -> bool:
    """Act on a process; return whether it still existed."""
    try:
        act()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True
