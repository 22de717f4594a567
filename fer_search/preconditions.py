"""What a search needs that can be seen before anything is imported that takes seconds."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
from pathlib import Path

from fer_search.config import AUTO, CLEANED, NONE, RAY, SearchConfig
from fer_search.errors import ConfigError, HyperModelError, InputError

BACKENDS = ("tensorflow", "jax", "torch")
"""Backends of Keras on which networks train."""
_EXTRAS = {
    "sampler=gp": ("torch", "PyTorch", "requirements-gp.txt"),
    f"launcher={RAY}": ("ray", "Ray", "requirements-ray.txt"),
}
"""Wish -> package, its name in sentences, and the file that installs it."""


def check_before_imports(search: SearchConfig, directory: Path) -> None:
    """Refuse what no study, no data and no device could make possible.

    Args:
        search: What was asked for.
        directory: Where the person typed; a HyperModel's module may lie there.

    Raises:
        InputError: If something that is asked for is not installed, or settings of a new study
            contradict each other.
    """
    for wish in (f"sampler={search.sampler}", f"launcher={search.launcher}"):
        check_extra(wish)
    module = search.hypermodel.partition(":")[0].partition(".")[0]
    if search.hypermodel != NONE and not _is_there(module, directory):
        raise no_module(search.hypermodel, module, directory)
    if search.study == AUTO:
        check_agreement(search)


def check_agreement(search: SearchConfig) -> None:
    """Refuse settings that contradict each other.

    Not checked when a config is made, because a resume asks for some settings and takes over the
    others.

    Raises:
        ConfigError: If some do.
    """
    if (search.faces == CLEANED) != (search.votes != NONE):
        raise ConfigError(
            f"faces={search.faces} and votes={search.votes}: expected faces=cleaned and votes=CSV, "
            "or none of them"
        )
    if search.launcher != RAY:
        return
    if search.image_sizes == AUTO:
        raise ConfigError(
            "image_sizes=auto: on a cluster the sizes must be said, because they depend on devices "
            "that are not here; expected e.g. image_sizes=48, or 96,128 for GPUs"
        )
    if search.hypermodel != NONE:
        raise ConfigError(
            f"hypermodel={search.hypermodel}: Ray does not bring your module to its nodes",
            hint="start the workers there with `python -m fer_search worker`, beside your module",
        )


def check_backend() -> None:
    """Refuse a backend of Keras that is none, or is not installed, before Keras is imported.

    Raises:
        ConfigError: If `KERAS_BACKEND` names one.
    """
    name = os.environ.get("KERAS_BACKEND")
    if not name:  # Keras looks into its own file of settings
        return
    if name not in BACKENDS:
        raise ConfigError(f"KERAS_BACKEND={name}: known: {', '.join(BACKENDS)}")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"KERAS_BACKEND={name} is not installed",
            hint="pip install -r requirements-jax.txt for jax, or leave KERAS_BACKEND out",
        )


def check_extra(wish: str) -> None:
    """Refuse a wish for which a package is missing that not everybody installs.

    Args:
        wish: `name=value`.

    Raises:
        ConfigError: If it is.
    """
    if wish not in _EXTRAS:
        return
    package, name, requirements = _EXTRAS[wish]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.loader is None:  # a folder of this name that lies about has none
        raise ConfigError(
            f"{wish} needs {name}, which is not installed",
            hint=f"pip install -r {requirements}, and mlflow run … --env-manager local",
        )


def no_module(hypermodel: str, module: str, directory: Path) -> InputError:
    """The refusal of a HyperModel whose module is not there."""
    return HyperModelError(
        f"hypermodel={hypermodel}: there is no module {module}",
        hint=f"expected is a module that can be imported from {directory}",
    )


def _is_there(module: str, directory: Path) -> bool:
    """Look for a top-level module here and among what is installed, without importing it."""
    here = importlib.machinery.PathFinder.find_spec(module, [str(directory)])
    return (here or importlib.util.find_spec(module)) is not None
