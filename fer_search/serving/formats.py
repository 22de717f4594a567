"""Export of stored models to ONNX and TFLite (LiteRT), and how to run the exported files.

A file holds only the network, from grey faces (N, S, S, 1) in 0..255, float32 unless a HyperModel
takes uint8, to probabilities (N, 7).
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from fer_search.errors import ConfigError

Run = Callable[[np.ndarray], np.ndarray]
"""A function from faces (N, S, S, 1) to probabilities (N, 7)."""


def export(model: keras.Model, kind: str, file: Path) -> None:
    """Write a model in another format.

    Args:
        model: The stored model.
        kind: The format, a key of `RUNNERS`.
        file: The file to write, in an existing folder.

    Raises:
        ConfigError: If Keras does not run on TensorFlow, the only backend that can export.
    """
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"Keras runs on {keras.backend.backend()}, but only TensorFlow can export models",
            hint="run it again with KERAS_BACKEND=tensorflow",
        )
    model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # Keras cannot export an uncalled model
    kinds = {"onnx": "onnx", "tflite": "litert"}
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        warnings.catch_warnings(action="ignore"),  # Keras's converter looks for np.object
    ):
        model.export(file, format=kinds[kind], verbose=False)


def _onnx(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    dtype = np.uint8 if "uint8" in taken.type else np.float32

    def run(faces: np.ndarray) -> np.ndarray:
        (answers,) = session.run(None, {taken.name: faces.astype(dtype)})
        return np.asarray(answers)

    return run


def _tflite(file: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=os.cpu_count())
    taken, dtype = (interpreter.get_input_details()[0][name] for name in ("index", "dtype"))
    answered = interpreter.get_output_details()[0]["index"]
    shape: list[tuple[int, ...]] = []

    def run(faces: np.ndarray) -> np.ndarray:
        if shape != [faces.shape]:
            interpreter.resize_tensor_input(taken, faces.shape)
            interpreter.allocate_tensors()
            shape[:] = [faces.shape]
        interpreter.set_tensor(taken, faces.astype(dtype))
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(answered))

    return run


RUNNERS: Mapping[str, Callable[[Path], Run]] = {"onnx": _onnx, "tflite": _tflite}
"""Functions that open an exported file, by format."""
