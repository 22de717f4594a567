"""Requirements of a search that can be checked before any import that takes seconds."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
from pathlib import Path

from fer_search.config import AUTO, CLEANED, NONE, RAY, SearchConfig
from fer_search.errors import ConfigError, HyperModelError, InputError

BACKENDS = ("tensorflow", "jax", "torch")
"""Backends of Keras that can train networks."""
_EXTRAS = {
    "sampler=gp": ("torch", "PyTorch", "requirements-gp.txt"),
    f"launcher={RAY}": ("ray", "Ray", "requirements-ray.txt"),
}
"""Setting -> package, its name in messages, and the file that installs it."""


def check_before_imports(search: SearchConfig, directory: Path) -> None:
    """Refuse settings that cannot work whatever the study, the data and the device.

    Args:
        search: The search that was asked for.
        directory: Where the command was typed; a HyperModel's module may lie there.

    Raises:
        InputError: If something that the settings need is not installed, or the settings of a new
            study contradict each other.
    """
    for wish in (f"sampler={search.sampler}", f"launcher={search.launcher}"):
        check_extra(wish)
    module = search.hypermodel.partition(":")[0].partition(".")[0]
    if search.hypermodel != NONE and not _is_importable(module, directory):
        raise no_module(search.hypermodel, module, directory)
    if search.study == AUTO:
        check_agreement(search)


def check_agreement(search: SearchConfig) -> None:
    """Refuse settings that contradict each other.

    This is not checked when a config is made, because a resume asks for some settings and takes
    over the others.

    Raises:
        ConfigError: If some of them do.
    """
    if (search.faces == CLEANED) != (search.votes != NONE):
        raise ConfigError(
            f"faces={search.faces} and votes={search.votes}: expected faces=cleaned and votes=CSV, "
            "or neither"
        )
    if search.launcher != RAY:
        return
    if search.image_sizes == AUTO:
        raise ConfigError(
            "image_sizes=auto: on a cluster the sizes must be given, because its devices are not "
            "known here; expected e.g. image_sizes=48, or 96,128 for GPUs"
        )
    if search.hypermodel != NONE:
        raise ConfigError(
            f"hypermodel={search.hypermodel}: Ray does not copy your module to its nodes",
            hint="run `python -m fer_search worker` on the nodes, in the folder of your module",
        )


def check_backend() -> None:
    """Refuse an unknown or missing backend of Keras before Keras is imported.

    Raises:
        ConfigError: If `KERAS_BACKEND` names a backend that is not in `BACKENDS` or not installed.
    """
    name = os.environ.get("KERAS_BACKEND")
    if not name:  # Keras reads its own configuration file
        return
    if name not in BACKENDS:
        raise ConfigError(f"KERAS_BACKEND={name}: expected one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"KERAS_BACKEND={name} is not installed",
            hint="pip install -r requirements-jax.txt for jax, or unset KERAS_BACKEND",
        )


def check_extra(wish: str) -> None:
    """Refuse a setting whose optional package is not installed.

    Args:
        wish: The setting, as `name=value`.

    Raises:
        ConfigError: If the package is missing.
    """
    if wish not in _EXTRAS:
        return
    package, name, requirements = _EXTRAS[wish]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.loader is None:  # a stray folder of this name has none
        raise ConfigError(
            f"{wish} needs {name}, which is not installed",
            hint=f"pip install -r {requirements}, and mlflow run … --env-manager local",
        )


def no_module(hypermodel: str, module: str, directory: Path) -> InputError:
    """Make the error for a HyperModel whose module does not exist."""
    return HyperModelError(
        f"hypermodel={hypermodel}: no module named {module}",
        hint=f"expected a module that can be imported from {directory}",
    )


def _is_importable(module: str, directory: Path) -> bool:
    """Look for a top-level module here and among installed packages, without importing it."""
    here = importlib.machinery.PathFinder.find_spec(module, [str(directory)])
    return (here or importlib.util.find_spec(module)) is not None
