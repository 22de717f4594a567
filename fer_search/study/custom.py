"""Custom HyperModels: found by name, searched like our own space.

`-P hypermodel=package.module:Name` names a `keras_tuner.HyperModel`, an instance of one, or a
function from `hp` to a compiled model. Its parameters are whatever it asks `hp` for.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner

from fer_search.config import EMOTIONS, SearchConfig
from fer_search.errors import HyperModelError, TrialFailed
from fer_search.preconditions import no_module

_log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[1]


class _OfFunction(keras_tuner.HyperModel):
    """A HyperModel whose models a function builds."""

    def __init__(self, build: Callable[[keras_tuner.HyperParameters], Any]) -> None:
        self.build = build
        super().__init__()


def find(search: SearchConfig) -> keras_tuner.HyperModel:
    """Import the HyperModel that a search names.

    A class is called with whichever of `input_shape` and `classes` it takes, as KerasTuner's own
    applications do.

    Args:
        search: Settings with a `hypermodel`; `image_sizes` must be resolved, not `auto`.

    Raises:
        HyperModelError: If there is no such module or name, it cannot be imported, or it is neither
            a HyperModel nor a function.
    """
    where = search.hypermodel
    module_name, _, name = where.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # modules in the working directory
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise no_module(where, missing, Path(here)) from error
        raise HyperModelError(
            f"hypermodel={where}: {module_name} cannot be imported: {_described(error)}"
        ) from error
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise HyperModelError(
            f"hypermodel={where}: {module_name} has no {name}",
            hint="expected a keras_tuner.HyperModel, or a function from hp to a model",
        ) from error
    if isinstance(found, type) and issubclass(found, keras_tuner.HyperModel):
        found = _instantiated(found, search)
    if isinstance(found, keras_tuner.HyperModel):
        return found
    if callable(found):
        return _OfFunction(found)
    raise HyperModelError(
        f"hypermodel={where} is of type {type(found).__name__}",
        hint="expected a keras_tuner.HyperModel, or a function from hp to a model",
    )


def build(
    hypermodel: keras_tuner.HyperModel, hp: keras_tuner.HyperParameters, search: SearchConfig
) -> Any:
    """Build the model for the values of `hp`.

    Args:
        hypermodel: The HyperModel that `find` returned.
        hp: Source of the values.
        search: Settings, whose image size is used for a model that leaves its input open.

    Returns:
        Whatever the HyperModel returns, which should be a `keras.Model`.

    Raises:
        TrialFailed: If these values do not make a model.
    """
    try:
        model = hypermodel.build(hp)
        if not getattr(model, "built", True):
            model.build((None, *_shape(search)))
    except (keras_tuner.errors.FailedTrialError, ValueError) as error:
        # Keras raises ValueError for sizes that do not fit; if it is a bug, the log says where.
        _log.warning("%s failed to build a model", search.hypermodel, exc_info=error)
        raise TrialFailed("hypermodel", f"{search.hypermodel}: build: {error}") from error
    return model


def fit(
    hypermodel: keras_tuner.HyperModel, hp: keras_tuner.HyperParameters, model: Any, **options: Any
) -> None:
    """Let the HyperModel train its model.

    Args:
        hypermodel: The HyperModel that `find` returned.
        hp: Source of the values.
        model: The model that `build` returned.
        **options: Options of Keras's `Model.fit`.

    Raises:
        TrialFailed: If the HyperModel says that these values do not work.
    """
    try:
        hypermodel.fit(hp, model, **options)
    except keras_tuner.errors.FailedTrialError as error:
        raise TrialFailed("hypermodel", f"fit: {error}") from error


def example(search: SearchConfig) -> Any:
    """Build the model for a HyperModel's default values.

    Args:
        search: As for `find`.

    Raises:
        HyperModelError: As for `find`, or if the default values do not make a model.
    """
    try:
        return build(find(search), keras_tuner.HyperParameters(), search)
    except TrialFailed as failure:
        raise HyperModelError(failure.message, failure.hint) from failure
    except HyperModelError:
        raise
    except Exception as error:
        raise HyperModelError(
            f"hypermodel={search.hypermodel} cannot be built: {_described(error)}",
            hint="it is called with KerasTuner's hp, which gives the default values first",
        ) from error


def _described(error: Exception) -> str:
    """Say what custom code raised, and in which of its lines."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [each for each in frames if not Path(each.filename).is_relative_to(_PACKAGE)]
    theirs = [each for each in theirs if "site-packages" not in each.filename]
    own = [each for each in theirs if Path(each.filename).is_file() and each.line]
    place = f" ({own[-1].filename}, line {own[-1].lineno}: {own[-1].line})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


def _shape(search: SearchConfig) -> tuple[int, int, int]:
    size = int(search.image_sizes[0])
    return size, size, 1


def _instantiated(
    kind: type[keras_tuner.HyperModel], search: SearchConfig
) -> keras_tuner.HyperModel:
    offered = {"input_shape": _shape(search), "classes": len(EMOTIONS)}
    taken = inspect.signature(kind).parameters
    try:
        return kind(**{name: value for name, value in offered.items() if name in taken})
    except TypeError as error:
        raise HyperModelError(
            f"hypermodel={search.hypermodel} cannot be instantiated: {error}",
            hint="name an instance in your module, or a function from hp to a model",
        ) from error
