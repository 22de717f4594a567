"""Report on a study, or several side by side, in one HTML file that needs no network."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fer_search.command_config import ReportConfig
from fer_search.errors import ConfigError
from fer_search.progress import say
from fer_search.reporting.page import render
from fer_search.study.studies import existing_study
from fer_search.tracking import commands, store
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.gather import gather

ONE, SEVERAL = "report.html", "comparison.html"
"""File names of the artifact on the study runs."""


def report(config: ReportConfig) -> None:
    """Gather the findings, write the report, and keep a copy with each study run.

    Raises:
        ConfigError: If the file cannot be written; checked before anything else is done.
        StoreError: If there is no such study, or its run is not in MLflow's store.
    """
    output = _writable(config.output)
    studies = [existing_study(config.storage, name) for name in config.study]
    client = store.connect()
    runs = [StudyRun.of(client, study.name, study.facts["run_id"]) for study in studies]
    html = render([gather(study, run) for study, run in zip(studies, runs, strict=True)])
    _write(output, html)
    name = ONE if len(runs) == 1 else SEVERAL
    for run in runs:
        run.log_text(html, name)
    of_studies = {"fer.study_run": ",".join(run.run_id for run in runs)}
    commands.record(client, "report", f"report {', '.join(config.study)}", of_studies)
    where = ", ".join(f"run {run.run_id}" for run in runs)
    say(f"Report: {output} ({len(html) / 1e6:.1f} MB), also {name} in {where}")


def _writable(name: str) -> Path:
    """Resolve the file to write, and refuse one that cannot be written."""
    try:
        output = Path(name).expanduser().resolve()
        if output.exists() and not output.is_file():
            raise OSError("it is not a file")
        with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}"):
            return output
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        raise ConfigError(
            f"output={name} cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="name a file in an existing, writable folder, e.g. output=report.html",
        ) from error


def _write(output: Path, html: str) -> None:
    """Write the whole file or nothing: an earlier one is replaced by a single rename."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.write_text(html, encoding="utf-8")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
