"""Where the workers of a search are started: on this machine, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fer_search.config import RAY, SearchConfig, WorkerConfig
from fer_search.errors import ConfigError
from fer_search.runtime import Device
from fer_search.tracking import store
from fer_search.workflows.local_worker import LocalWorker, n_workers, share
from fer_search.workflows.standby import Standby
from fer_search.workflows.worker_pool import WorkerPool

Launcher = Callable[[WorkerConfig, Path], WorkerPool]
"""Starts the workers of a study; the output of workers on this machine goes into the folder."""


def launcher_of(
    search: SearchConfig, client: store.Client, device: Device, standby: Standby
) -> Launcher:
    """Find the launcher that a search asks for, and check that it can start workers.

    Args:
        search: Settings, of which those on launcher, workers and the share of a GPU are used.
        client: Client of the tracking store that the workers are to use.
        device: Device of this machine.
        standby: Processes that can become the local workers; those that cannot are dismissed.

    Raises:
        InputError: If Ray is asked for but cannot be imported, or there is no cluster.
    """
    if search.launcher == RAY:
        return _on_ray(
            search, {"MLFLOW_TRACKING_URI": client.tracking_uri, "KERAS_BACKEND": device.backend}
        )
    n = n_workers(search, device.n_gpus * search.trials_per_gpu)
    standby.dismiss(but=[share(place, n) for place in range(n)])

    def launch(config: WorkerConfig, logs: Path) -> WorkerPool:
        mine = config.model_copy(update={"parent": os.getpid()})
        return WorkerPool(
            n, lambda place: LocalWorker(mine, place, n, logs / f"worker-{place}.log", standby)
        )

    return launch


def _on_ray(search: SearchConfig, environment: dict[str, str]) -> Launcher:
    try:
        from fer_search.workflows.ray_worker import Cluster
    except ImportError as error:
        raise ConfigError(
            f"launcher={RAY}: Ray is installed, but cannot be imported: {error}",
            hint="pip install -r requirements-ray.txt",
        ) from error
    cluster = Cluster(search.ray_address, search.trials_per_gpu, environment)
    n = n_workers(search, cluster.room)
    return lambda config, _logs: WorkerPool(n, lambda place: cluster.start(config, place, n))
