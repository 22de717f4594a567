import json
import logging
import platform

import keras
import pytest

from fer_search import runtime
from fer_search.runtime import Gpu


def test_what_is_asked_for_is_set_and_told():
    device = runtime.configure("float32")
    assert (device.precision, device.is_gpu, device.n_gpus) == ("float32", False, 0)
    assert device.backend == keras.config.backend()
    assert device.name
    assert device.image_sizes == (48,)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("gpu", "flags", "precision"),
    [
        pytest.param(Gpu(0, "H100", (9, 0)), "", "mixed_bfloat16", id="hopper"),
        pytest.param(Gpu(0, "A100", (8, 0)), "", "mixed_bfloat16", id="ampere"),
        pytest.param(Gpu(0, "T4", (7, 5)), "", "mixed_float16", id="turing"),
        pytest.param(Gpu(0, "P100", (6, 0)), "amx_bf16", "float32", id="pascal"),
        pytest.param(None, "avx2 amx_bf16", "mixed_bfloat16", id="amx"),
        pytest.param(None, "avx512_bf16", "mixed_bfloat16", id="avx512"),
        pytest.param(None, "avx2", "float32", id="older_cpu"),
        pytest.param(None, "", "float32", id="unknown_cpu"),
    ],
)
def test_precision_is_chosen_for_the_device(monkeypatch, gpu, flags, precision):
    monkeypatch.setattr(runtime, "_cpu_info", lambda: {"flags": flags})
    assert runtime._precision(gpu, is_gpu=gpu is not None) == precision


def test_a_gpu_that_is_there_but_not_used_is_warned_about_with_the_mend(monkeypatch, caplog):
    """There is no GPU here, so the driver's answer is mocked."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(runtime, "nvidia_gpus", lambda: [Gpu(0, "H100", (9, 0))])
    with caplog.at_level(logging.WARNING):
        device = runtime.configure("auto")
    assert not device.is_gpu
    assert "H100 is present" in caplog.text
    assert "pip install -r requirements-gpu.txt" in caplog.text


@pytest.mark.parametrize(
    ("chosen", "visible"),
    [(None, [0, 1]), ("1", [1]), ("0,1", [0, 1]), ("", []), ("-1", []), ("GPU-b", [1])],
)
def test_only_the_gpus_of_this_process_count(monkeypatch, chosen, visible):
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    uuids = ["GPU-a1", "GPU-b2"]
    assert [i for i, uuid in enumerate(uuids) if runtime._is_visible(i, uuid)] == visible


def test_tensorflow_on_a_cpu_is_not_compiled_by_xla():
    expected = False if keras.config.backend() == "tensorflow" else "auto"
    assert runtime.jit_compile() == expected


def test_the_environment_says_what_a_study_ran_with():
    said = runtime.environment(runtime.configure("float32"))
    assert json.loads(json.dumps(said)) == said
    assert (said["precision"], said["gpus"]) == ("float32", 0)
    assert said["python"] == platform.python_version()
    assert said["packages"]["keras"] == keras.__version__


def test_outside_a_git_checkout_the_commit_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "runtime.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runtime._commit() is None
