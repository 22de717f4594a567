"""Too little memory: one failure with as many names as there are backends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fer_search.errors import TrialFailed


@contextlib.contextmanager
def memory_permitting(what: str) -> Iterator[None]:
    """Turn every backend's way of running out of memory into a lost trial.

    Args:
        what: Is being trained, with the settings that take memory.

    Raises:
        TrialFailed: If memory runs out inside; everything else passes through.
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise TrialFailed(
            "out_of_memory",
            f"{what} does not fit into memory",
            hint="search smaller image_sizes, or run fewer workers on this device",
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Tell by class and words, because each backend has an exception of its own."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}:
        return True
    words = str(error).lower()
    return "RuntimeError" in names and ("resource_exhausted" in words or "out of memory" in words)
