import pytest

from fer_search.errors import TrialFailed
from fer_search.model.memory import memory_permitting


class ResourceExhaustedError(Exception):
    """Has the name of TensorFlow's."""


class JaxRuntimeError(RuntimeError):
    """Has the name of JAX's."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor"),
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=["python", "tensorflow", "jax", "torch"],
)
def test_too_little_memory_is_known_on_every_backend(error):
    with (
        pytest.raises(TrialFailed, match="a network does not fit") as failure,
        memory_permitting("a network"),
    ):
        raise error
    assert failure.value.kind == "out_of_memory"


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("a bug")])
def test_a_bug_is_not_taken_for_too_little_memory(error):
    with pytest.raises(type(error)) as caught, memory_permitting("a network"):
        raise error
    assert caught.value is error
