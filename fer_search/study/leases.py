"""Leases: which process trains a trial, recorded on the trial itself.

A lease is the trial attribute `lease`: `{host, pid, pid_start, since, memory_kills, beat,
progress}`, or null when the trial is free. It changes hands through one compare-and-set statement
in the storage, so exactly one of the processes that want a trial gets it, on every database. On its
own host (and in its own container) a dead owner is recognised at once, elsewhere after
`GRACE_SECONDS` without a beat.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import psutil
import sqlalchemy

from fer_search.processes import is_alive, memory_kills

BEAT_SECONDS = 3.0
GRACE_SECONDS = 120.0
ATTRIBUTE = "lease"

Lease = Mapping[str, Any] | None


class LeaseLost(Exception):
    """Another process has taken the trial that this one was training."""


_renewed: set[float] = set()
"""`since` of the leases that this process renews."""

_attributes = sqlalchemy.table(
    "trial_user_attributes",
    sqlalchemy.column("trial_id"),
    sqlalchemy.column("key"),
    sqlalchemy.column("value_json"),
)


def mine() -> dict[str, Any]:
    """Make a new lease for this process."""
    process, now = psutil.Process(), time.time()
    return {
        "host": _host(),
        "pid": process.pid,
        "pid_start": _started(process),
        "since": now,
        "memory_kills": memory_kills(),
        "beat": now,
        "progress": None,
    }


def is_free(lease: Lease) -> bool:
    """Tell whether a trial with this lease may be taken: it is nobody's or a dead process's.

    So may one of this very process that it does not renew: the storage failed as it took the trial.
    """
    if lease is None:
        return True
    if lease["host"] != _host():
        return bool(time.time() - lease["beat"] > GRACE_SECONDS)
    try:
        owner = psutil.Process(lease["pid"])
        if abs(_started(owner) - lease["pid_start"]) > 1 or not is_alive(owner):
            return True
        return owner.pid == os.getpid() and lease["since"] not in _renewed
    except psutil.NoSuchProcess:
        return True


@functools.cache
def _host() -> str:
    """Name the scope in which a process id is unique: a machine since its boot, and a container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(process: psutil.Process) -> float:
    """Return when a process started, in seconds; on Linux since boot, whatever the clock says."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc_pid_stat(5)
    except (OSError, AttributeError):  # gone, or not Linux
        return float(process.create_time())


def was_short_of_memory(lease: Mapping[str, Any]) -> bool:
    """Tell whether the kernel has killed processes for memory since the dead owner took the trial.

    This is known only where both share a count: on one machine, since one boot, in one cgroup.
    """
    where_then, then = lease.get("memory_kills", ("", 0))
    where, now = memory_kills()
    return bool(where == where_then and now > then)


def is_same_process(one: Lease, other: Lease) -> bool:
    """Tell whether two leases belong to the same process."""
    process = ("host", "pid", "pid_start")
    return bool(one and other and all(one.get(key) == other.get(key) for key in process))


def is_same_owner(one: Lease, other: Lease) -> bool:
    """Tell whether two leases belong to the same claim: process and time."""
    return bool(
        one and other and is_same_process(one, other) and one.get("since") == other.get("since")
    )


def swap(storage: optuna.storages.RDBStorage, trial_id: int, old: Lease, new: Lease) -> bool:
    """Replace the lease `old` by `new` in one atomic statement.

    Returns:
        Whether it was still `old`, and so whether the trial is now the caller's.
    """
    statement = (
        sqlalchemy.update(_attributes)
        .where(_attributes.c.trial_id == trial_id)
        .where(_attributes.c.key == ATTRIBUTE)
        .where(_attributes.c.value_json == json.dumps(old))
        .values(value_json=json.dumps(new))
    )
    with storage.engine.begin() as connection:
        return connection.execute(statement).rowcount == 1


class Heartbeat:
    """Renews the lease of a running trial from a thread, until it is stopped or lost.

    Args:
        storage: Storage of the study.
        trial_id: Optuna's id of the trial.
        lease: The lease as it stands in the storage.
    """

    def __init__(
        self, storage: optuna.storages.RDBStorage, trial_id: int, lease: dict[str, Any]
    ) -> None:
        self.is_lost = False
        """Whether another process has taken the trial, because this one was silent for too long."""
        self.progress: tuple[int, int, int] | None = None
        """Epoch, batch and batches per epoch, for observers."""
        self._storage, self._trial_id, self._lease = storage, trial_id, lease
        _renewed.add(lease["since"])
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name=f"beat-{os.getpid()}")
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """End the thread and return the lease as it stands in the storage."""
        self._stopped.set()
        self._thread.join()
        _renewed.discard(self._lease["since"])
        return self._lease

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            renewed = self._lease | {"beat": time.time(), "progress": self.progress}
            try:
                if not swap(self._storage, self._trial_id, self._lease, renewed):
                    # Perhaps an earlier renewal arrived, but its answer was lost on the way.
                    renewed = self._storage.get_trial(self._trial_id).user_attrs[ATTRIBUTE]
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError):
                continue  # locked or unreachable for now: the next beat tries again
            self.is_lost = not is_same_owner(renewed, self._lease)
            if self.is_lost:
                return
            self._lease = renewed
