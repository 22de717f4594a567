"""What JAX compiles for a GPU is kept on disk; training steps are tuned by one process at a time.

XLA times several kernels for every convolution on the GPU itself, which takes three quarters of the
compile time of a training step. It keeps the results beside JAX's compilation cache, so that other
programs with the same convolutions need not time them again; processes that do so on one GPU at the
same time disturb each other's timings. Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import filelock
import platformdirs

_OPTIONS = {"xla_gpu_autotune_level": "1"}
"""Kernels are timed, but their results not compared, which XLA would only log."""


def keep_programs() -> None:
    """Let JAX keep what it compiles, in the user's cache folder unless another one is set."""
    import jax

    config: Any = jax.config
    if config.jax_compilation_cache_dir is None:
        config.update("jax_compilation_cache_dir", str(_folder()))
        config.update("jax_persistent_cache_min_compile_time_secs", 0)


def compiled(lowered: Any, kind: Sequence[object]) -> Callable[..., Any]:
    """Compile a training step, one process at a time per GPU if it is the first of its kind.

    Args:
        lowered: The step, as `jax.stages.Lowered`.
        kind: What determines most kernels: network, shapes, precision, what trains.
    """
    import jax

    config: Any = jax.config
    device, version = jax.devices()[0].device_kind, importlib.metadata.version("jaxlib")
    place = zlib.crc32(str(config.jax_compilation_cache_dir).encode())  # where XLA looks
    mark = _folder() / "tuned" / _file_name(device, version, *kind, place)
    lock = mark.parent / _file_name("lock", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # not writable: several may do it at once
            mark.parent.mkdir(parents=True, exist_ok=True)
            if not mark.exists():
                held.enter_context(filelock.FileLock(lock))
            if mark.exists():  # another process has done it meanwhile
                held.close()
        program: Callable[..., Any] = lowered.compile(_OPTIONS)
        with contextlib.suppress(OSError):
            mark.touch()
    return program


def _file_name(*words: object) -> str:
    return re.sub(r"[^\w.-]", "_", "-".join(map(str, words)))


def _folder() -> Path:
    return platformdirs.user_cache_path("fer_search") / "jax"
