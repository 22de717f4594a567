"""System metrics of a run: processor, memory, and the GPUs that this process may use.

MLflow's own monitor logs every GPU of the machine to every run. With several workers, that says
nothing about a trial, so the handles are reduced to this process's GPUs. It also asks the store
for the run after each sample, and once more at its end; here the context decides how long it runs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from fer_search.tracking.outage import patiently
from fer_search.tracking.runs import TrialRun

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0


@contextlib.contextmanager
def system_metrics(run: TrialRun, gpus: Sequence[int]) -> Iterator[None]:
    """Log system metrics to a run from a thread, as `system/…`, while the context lasts.

    Args:
        run: Run of a trial that is RUNNING.
        gpus: The driver's indices of this process's GPUs.
    """
    monitor = patiently(
        lambda: _Monitor(
            run.run_id,
            sampling_interval=INTERVAL_SECONDS,
            resume_logging=not run.is_new,  # asks the store for the last step
            tracking_uri=run.client.tracking_uri,
        )
    )
    for part in monitor.monitors:
        if isinstance(part, GPUMonitor):
            part.gpu_handles = [part.gpu_handles[index] for index in gpus]
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


class _Monitor(SystemMetricsMonitor):
    def monitor(self) -> None:
        """Sample until `finish` is called; samples the store rejects are sent with later ones."""
        is_over = False
        while not is_over:
            try:
                for _ in range(self.samples_before_logging):
                    self.collect_metrics()
                    is_over = is_over or self._shutdown_event.wait(self.sampling_interval)
                if not is_over:
                    self.publish_metrics(self.aggregate_metrics())
            except Exception as error:
                # No reason to end a trial or to stop monitoring it.
                log.warning("system metrics are delayed: %s", error)
                self._logging_step += 1
                for part in self.monitors:
                    part.clear_metrics()
                is_over = self._shutdown_event.wait(self.sampling_interval)
