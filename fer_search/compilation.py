"""What JAX compiles for a GPU: kept on disk for later trials, and tuned by one process at a time.

XLA times several kernels for every convolution on the GPU itself, three quarters of the time in
which a training step is compiled. It keeps what it found beside JAX's compilation cache, so that
other programs with the same convolutions need not look for it again; processes that look at the
same time on one GPU time each other. Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import filelock
import platformdirs

_MOST_BYTES = 2 * 2**30
"""Programs that were not used for the longest time go first."""

_OPTIONS = {"xla_gpu_autotune_level": "1"}
"""Kernels are timed, but their results not compared, which XLA would only log."""


def keep_programs() -> None:
    """Let JAX keep what it compiles, in the user's cache folder if nobody chose another one."""
    import jax

    config: Any = jax.config
    if config.jax_compilation_cache_dir is None:
        config.update("jax_compilation_cache_dir", str(_folder() / "programs"))
        config.update("jax_compilation_cache_max_size", _MOST_BYTES)
        config.update("jax_persistent_cache_min_compile_time_secs", 0)


def compiled(lowered: Any, kind: Sequence[object]) -> Callable[..., Any]:
    """Compile a training step: alone on this machine if it is the first of its kind, else at once.

    Args:
        lowered: `jax.stages.Lowered`.
        kind: What decides about most kernels: network, shapes, precision, what trains.
    """
    import jax

    device, version = jax.devices()[0].device_kind, importlib.metadata.version("jaxlib")
    words = "-".join(map(str, (device, version, *kind)))
    mark = _folder() / "tuned" / words.replace(" ", "_").replace("/", "_")
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # no place to write: several may do it at once
            mark.parent.mkdir(parents=True, exist_ok=True)
            if not mark.exists():
                held.enter_context(filelock.FileLock(mark.parent / "lock"))
            if mark.exists():  # perhaps another process did it meanwhile
                held.close()
        program: Callable[..., Any] = lowered.compile(_OPTIONS)
        with contextlib.suppress(OSError):
            mark.touch()
    return program


def _folder() -> Path:
    return platformdirs.user_cache_path("fer_search") / "jax"
