"""What JAX compiles for a GPU is kept on disk; training steps are tuned by one process at a time.

XLA times several kernels for every convolution on the GPU itself, three quarters of the time in
which a training step is compiled. It keeps what it found beside JAX's compilation cache, so that
other programs with the same convolutions need not look for it again; processes that look at the
same time on one GPU time each other. Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
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
    """Let JAX keep what it compiles, in the user's cache folder if nobody chose another one."""
    import jax

    config: Any = jax.config
    if config.jax_compilation_cache_dir is None:
        config.update("jax_compilation_cache_dir", str(_folder()))
        config.update("jax_persistent_cache_min_compile_time_secs", 0)


def compiled(lowered: Any, kind: Sequence[object]) -> Callable[..., Any]:
    """Compile a training step: the first of its kind alone on its GPU, others at once.

    Args:
        lowered: `jax.stages.Lowered`.
        kind: What decides about most kernels: network, shapes, precision, what trains.
    """
    import jax

    config: Any = jax.config
    device, version = jax.devices()[0].device_kind, importlib.metadata.version("jaxlib")
    place = zlib.crc32(str(config.jax_compilation_cache_dir).encode())  # where XLA looks
    mark = _folder() / "tuned" / _file_name(device, version, *kind, place)
    lock = mark.parent / _file_name("lock", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # no place to write: several may do it at once
            mark.parent.mkdir(parents=True, exist_ok=True)
            if not mark.exists():
                held.enter_context(filelock.FileLock(lock))
            if mark.exists():  # perhaps another process did it meanwhile
                held.close()
        program: Callable[..., Any] = lowered.compile(_OPTIONS)
        with contextlib.suppress(OSError):
            mark.touch()
    return program


def _file_name(*words: object) -> str:
    return re.sub(r"[^\w.-]", "_", "-".join(map(str, words)))


def _folder() -> Path:
    return platformdirs.user_cache_path("fer_search") / "jax"
