"""The machine: on which device and with which arithmetic Keras computes.

`configure` sets up Keras in this process and returns what it found. TensorFlow is imported only if
it is Keras's backend.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import logging
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from fer_search.compilation import keep_programs
from fer_search.config import AUTO

log = logging.getLogger(__name__)

_PACKAGES = ("tensorflow", "jax", "torch", "keras", "keras-tuner", "optuna", "mlflow", "numpy",
             "scikit-learn", "scipy")  # fmt: skip
CPU_IMAGE_SIZES = (48,)
GPU_IMAGE_SIZES = (96, 128, 160)
"""What `image_sizes=auto` means. On FER2013, larger inputs score higher; cost grows with area."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """What this process computes with."""

    name: str
    """`NVIDIA H100 80GB HBM3`, or the processor's name."""
    is_gpu: bool
    backend: str
    """Keras's backend: tensorflow, jax or torch."""
    precision: str
    """Keras's dtype policy: mixed_bfloat16, mixed_float16 or float32."""
    n_gpus: int
    """GPUs that the backend sees."""

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Sizes in pixels that `image_sizes=auto` samples here."""
        return GPU_IMAGE_SIZES if self.is_gpu else CPU_IMAGE_SIZES


def configure(precision: str = AUTO) -> Device:
    """Set up Keras in this process: memory growth, dtype policy, JAX's compilation cache.

    Args:
        precision: One of `config.PRECISIONS`; `auto` chooses for the device.

    Returns:
        What will be used. If there is a GPU but the backend does not see it, a warning says how to
        fix that.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX: take memory as needed
    import keras

    backend = keras.backend.backend()
    n_gpus = _count_gpus(backend)
    present = nvidia_gpus()
    if present and not n_gpus and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
        log.warning(
            "%s is present, but %s does not see it, so training runs on the CPU. To fix: "
            "pip install -r requirements-gpu.txt (TensorFlow), or "
            "pip install -U 'jax[cuda12]' with KERAS_BACKEND=jax. "
            "To silence: CUDA_VISIBLE_DEVICES=-1",
            present[0].name,
            backend,
        )
    gpu = present[0] if present and n_gpus else None
    device = Device(
        name=gpu.name if gpu else _processor(),
        is_gpu=n_gpus > 0,
        backend=backend,
        precision=_precision(gpu, is_gpu=n_gpus > 0) if precision == AUTO else precision,
        n_gpus=n_gpus,
    )
    keras.config.set_dtype_policy(device.precision)
    if is_jax_on_gpu():
        keep_programs()
    return device


@dataclasses.dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU, as its driver reports it."""

    index: int
    name: str
    capability: tuple[int, int]
    """Compute capability, (8, 0) for Ampere."""


def nvidia_gpus() -> list[Gpu]:
    """List the NVIDIA GPUs that `CUDA_VISIBLE_DEVICES` leaves this process, without using them."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    gpus = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(handle)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        if _is_visible(index, uuid):
            gpus.append(Gpu(index, name, tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle))))
    return gpus


def environment(device: Device) -> dict[str, Any]:
    """Describe what a study runs with, JSON-ready: device, Python, packages, program's commit."""
    packages = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    return {
        "device": device.name,
        "gpus": device.n_gpus,
        "processors": os.cpu_count(),
        "backend": device.backend,
        "precision": device.precision,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": packages,
        "commit": _commit(),
    }


def jit_compile() -> bool | str:
    """Choose `Model.compile`'s argument: on a CPU, TensorFlow trains four times slower with XLA."""
    return False if is_tensorflow_on_cpu() else "auto"


def is_tensorflow_on_cpu() -> bool:
    """Tell whether TensorFlow is the backend and has no GPU."""
    import keras

    backend = keras.backend.backend()
    return backend == "tensorflow" and not _count_gpus(backend)


def is_jax_on_gpu() -> bool:
    """Tell whether JAX is the backend and has a GPU."""
    import keras

    backend = keras.backend.backend()
    return backend == "jax" and bool(_count_gpus(backend))


def _is_visible(index: int, uuid: str) -> bool:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return True
    names = [name.strip() for name in chosen.split(",")]
    return any(name == str(index) or (len(name) > 3 and uuid.startswith(name)) for name in names)


def _commit() -> str | None:
    """Find this program's commit, with `-dirty` if changed since; None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@functools.cache
def _count_gpus(backend: str) -> int:
    """Count the GPUs that the backend can use; TensorFlow's are set to grow their memory."""
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        return len(gpus)
    if backend == "torch":
        import torch

        return int(torch.cuda.device_count())
    import keras

    try:
        return len(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX: "Unknown backend: 'gpu'"
        return 0


def _precision(gpu: Gpu | None, *, is_gpu: bool) -> str:
    """Choose the fastest arithmetic that trains as well as float32 on this device."""
    if gpu is not None:
        if gpu.capability >= (8, 0):
            return "mixed_bfloat16"
        return "mixed_float16" if gpu.capability >= (7, 0) else "float32"
    flags = _cpu_flags()
    has_bfloat16 = not is_gpu and bool(flags & {"amx_bf16", "avx512_bf16"})
    return "mixed_bfloat16" if has_bfloat16 else "float32"


@functools.cache
def _cpu_info() -> dict[str, str]:
    """Read the first entry of /proc/cpuinfo; empty where there is none (macOS, Windows)."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _cpu_flags() -> set[str]:
    return set(_cpu_info().get("flags", "").split())


def _processor() -> str:
    return _cpu_info().get("model name") or platform.processor() or platform.machine()
