"""Stored models in other formats, and how to run those: ONNX and TFLite (LiteRT).

A file holds the network alone: grey faces (N, S, S, 1) in 0..255, float32 unless a HyperModel takes
uint8, to probabilities (N, 7).
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
"""From faces (N, S, S, 1) to probabilities (N, 7)."""


def export(model: keras.Model, kind: str, file: Path) -> None:
    """Write a model in another format.

    Args:
        model: As it was stored.
        kind: A name of `RUNNERS`.
        file: To write; its folder exists.

    Raises:
        ConfigError: If Keras runs on another backend than TensorFlow, which alone can do it.
    """
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"Keras runs on {keras.backend.backend()}; models are exported by TensorFlow",
            hint="say it again with KERAS_BACKEND=tensorflow",
        )
    model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # Keras exports no model never called
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
"""Format -> a function that opens a file of it."""
