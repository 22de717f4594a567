"""The command line: argv -> a valid config -> one workflow.

This is the only place that prints errors and exits. Options are made from the fields of the
configs, so names, defaults and help are defined once; everything is validated before any import
that takes seconds.

Exit status: 0 done; 1 a bug or a stopped study; 2 refused input; 3 a refused promotion; 4 a full
disk or a store that stays unreachable; 143 a worker told to stop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from fer_search.command_config import (
    CleanConfig,
    ExportConfig,
    PredictionConfig,
    PromotionConfig,
    ReportConfig,
)
from fer_search.config import DEMO, SearchConfig, WorkerConfig
from fer_search.errors import FerSearchError, InputError, PromotionRefused, SurroundingsError
from fer_search.invocation import Invocation, find_invocation
from fer_search.preconditions import check_backend, check_before_imports
from fer_search.processes import STOPPED, SURROUNDINGS
from fer_search.settings import spelled
from fer_search.stops import stop_on_signals, stop_with
from fer_search.workflows.local_worker import shares_to_expect
from fer_search.workflows.standby import Standby

_Run = Callable[[Any, Invocation], None]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """MLflow-tracked hyperparameter search for facial emotion recognition."""


def set_environment() -> None:
    """Set the environment variables of TensorFlow and MLflow, unless they are set already."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow: errors only
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # amid the progress
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")  # see tracking/outage.py
    # Jitter is drawn from the generator with which Keras seeds networks in another thread.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


def main() -> None:
    """Run a command and exit with its status."""
    set_environment()
    stop_on_signals()
    try:
        check_backend()
        commands(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption) and error.ctx:
            known = ", ".join(option.name or "" for option in error.ctx.command.params)
            click.echo(f"Hint: known options: {known}", err=True)
        _explain(error.format_message())
        sys.exit(2)
    except FerSearchError as error:
        click.echo(f"Error: {error}", err=True)
        _explain(error.message)
        sys.exit(_status(error))
    except (KeyboardInterrupt, click.Abort):  # click turns the first into the second
        click.echo("Stopped.", err=True)
        sys.exit(STOPPED if "worker" in sys.argv[1:2] else 1)
    except Exception as error:
        said = _surroundings(error)
        if not said:
            raise
        with contextlib.suppress(OSError):  # standard error may be a file on that disk
            click.echo(f"Error: {said}", err=True)
        _explain(said)
        sys.exit(SURROUNDINGS)


def _explain(message: str) -> None:
    """Record the reason on the run that `mlflow run` opened, if nothing has adopted it."""
    if "MLFLOW_RUN_ID" in os.environ:
        from fer_search.tracking import commands

        with contextlib.suppress(Exception):  # the store itself may be refused or unreachable
            commands.explain(sys.argv[1], message)


def _surroundings(error: Exception) -> str:
    """Describe an error caused by a disk or a store; return an empty string for a bug."""
    if "mlflow" not in sys.modules:
        return ""
    from fer_search.tracking.outage import is_full, is_outage

    if is_full(error):
        return (
            f"the disk is full or failing: {error}\n"
            "Hint: free some space, then resume; finished work is kept"
        )
    if is_outage(error):
        return (
            f"the store is not responding: {error}\n"
            "Hint: check that its server is running, then resume; finished work is kept"
        )
    return ""


def _status(error: FerSearchError) -> int:
    if isinstance(error, PromotionRefused):
        return 3
    if isinstance(error, SurroundingsError):
        return SURROUNDINGS
    return 2 if isinstance(error, InputError) else 1


def _search(config: SearchConfig, invocation: Invocation) -> None:
    anchored = config.anchored(invocation.directory)
    check_before_imports(anchored, invocation.directory)
    click.echo("Starting …")  # the imports take seconds
    with Standby(shares_to_expect(config)) as standby:
        with _quiet_import():
            from fer_search.workflows.search import search

        search(anchored, invocation, standby)


def _worker(config: WorkerConfig, invocation: Invocation) -> None:
    with _quiet_import():
        from fer_search.workflows.worker import work

    work(config)


def _promote(config: PromotionConfig, invocation: Invocation) -> None:
    with _quiet_import():
        from fer_search.workflows.promote import promote

    promote(config)


def _predict(config: PredictionConfig, invocation: Invocation) -> None:
    with _quiet_import():
        from fer_search.workflows.predict import predict

    predict(config)


def _export(config: ExportConfig, invocation: Invocation) -> None:
    with _quiet_import():
        from fer_search.workflows.export import export

    export(config)


def _clean(config: CleanConfig, invocation: Invocation) -> None:
    with _quiet_import():
        from fer_search.workflows.clean import clean

    clean(config, invocation)


def _report(config: ReportConfig, invocation: Invocation) -> None:
    with _quiet_import():
        from fer_search.workflows.report import report

    report(config)


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Hold back what native libraries write to standard error, unless the import fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except Exception:  # not on a stop, which it would not explain
            hidden.seek(0)
            os.write(kept, hidden.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


_METAVARS: Mapping[Any, str] = {int: "INTEGER", float: "NUMBER", bool: "true|false"}


def _command(
    name: str, config: type[Any], run: _Run, summary: str, defaults: Mapping[str, Any] | None = None
) -> None:
    """Add a command whose options are the fields of `config`."""
    options: list[click.Parameter] = []
    for field_name, field in config.model_fields.items():
        option = field.alias or field_name
        given = (defaults or {}).get(option)
        default = config.model_fields[field_name].get_default() if given is None else given
        flags = dict.fromkeys([f"--{option}", f"--{option.replace('_', '-')}"])
        options.append(
            click.Option(
                [*flags, option],
                default=None if field.is_required() else spelled(default),
                required=field.is_required(),
                metavar=_METAVARS.get(field.annotation, "TEXT"),
                show_default=True,
                help=field.description,
            )
        )

    def callback(**values: str) -> None:
        invocation = find_invocation()
        asked = config(**values)
        os.chdir(invocation.directory)  # `mlflow run` may have moved to a temporary checkout
        if invocation.mlflow:
            stop_with(invocation.mlflow)
        logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
        logging.getLogger("fer_search").setLevel(logging.INFO)
        run(asked, invocation)

    commands.add_command(click.Command(name, params=options, callback=callback, help=summary))


_command("search", SearchConfig, _search, "Run a search, as `mlflow run .` does.")
_command("demo", SearchConfig, _search, "Run a short search on synthetic faces.", DEMO)
_command("worker", WorkerConfig, _worker, "Join a study from this machine or another.")
_command("promote", PromotionConfig, _promote, "Make a model version the champion.")
_command("predict", PredictionConfig, _predict, "Recognise the emotions of faces in images.")
_command("export", ExportConfig, _export, "Export a model to ONNX or TFLite.")
_command("clean", CleanConfig, _clean, "List stored models and delete those nothing needs.")
_command("report", ReportConfig, _report, "Write a one-file HTML report of a study.")
