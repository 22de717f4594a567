"""Whether a stored model loads anywhere: it must consist of Keras's own objects only."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras


def custom_objects(model: keras.Model) -> set[str]:
    """List the objects in a model that cannot be loaded without the code that defined them.

    Its compilation does not count: stored models are loaded for inference.

    Args:
        model: Any Keras model.

    Returns:
        Names of classes and functions; `Lambda` stands for code inside the model, which Keras
        refuses to run when it loads a file.
    """
    if type(model).__module__.partition(".")[0] != "keras":
        return {type(model).__name__}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the same objects
        return set(_strangers(model.get_config()))


def _strangers(node: Any) -> Iterator[str]:
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _strangers(item)
    if not isinstance(node, dict):
        return
    if "class_name" in node and "config" in node and (name := _stranger(node)):
        yield name
    for key, value in node.items():
        if key != "compile_config":
            yield from _strangers(value)


def _stranger(node: dict[str, Any]) -> str:
    """Return the name of a node's object if Keras alone cannot make it, else an empty string."""
    kind, module = node["class_name"], node.get("module") or ""
    if kind in ("__lambda__", "Lambda"):
        return "Lambda"
    if kind == "function":
        return str(node["config"])
    is_kept = kind.startswith("__") or module.partition(".")[0] in ("keras", "builtins")
    return "" if is_kept else str(kind)
