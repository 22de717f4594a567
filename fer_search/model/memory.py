"""Running out of memory: one failure that every backend reports in its own way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fer_search.errors import TrialFailed


@contextlib.contextmanager
def memory_permitting(what: str) -> Iterator[None]:
    """Turn every backend's out-of-memory error into a failed trial.

    Args:
        what: Description of what is trained, with the settings that take memory.

    Raises:
        TrialFailed: If memory runs out inside; other exceptions propagate.
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
    """Judge by class name and message, because each backend has its own exception."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}:
        return True
    words = str(error).lower()
    return "RuntimeError" in names and ("resource_exhausted" in words or "out of memory" in words)
