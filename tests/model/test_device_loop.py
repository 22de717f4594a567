"""Many steps in a single GPU call; here the same programs run on a CPU, where they are slow."""

import importlib.util
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import filelock
import keras
import numpy as np
import pytest

from fer_search import compilation, runtime
from fer_search.data.batches import Batches
from fer_search.data.synthetic import draw
from fer_search.model import device_loop
from fer_search.model.device_loop import DeviceLoop
from fer_search.model.feed import as_dataset
from fer_search.model.training import train
from fer_search.trial_config import Augmentation, TrialConfig

if keras.backend.backend() == "jax":
    import jax

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="runs on JAX")


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="the others run already")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_this_file_passes_on_jax():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow", __file__],
        env=os.environ | {"KERAS_BACKEND": "jax"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "10 passed" in done.stdout, done.stdout


@pytest.fixture(autouse=True)
def small_calls(monkeypatch, tmp_path):
    monkeypatch.setattr(device_loop, "STEPS", 2)
    monkeypatch.setattr(compilation, "_folder", lambda: tmp_path / "kept")


@pytest.fixture
def feed():
    feed = Batches(*draw(84, seed=1), batch_size=16, seed=1, mixup=0.4)
    feed.start_epoch(1)
    return feed


def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.AveragePooling2D(8),
            keras.layers.RandomFlip("horizontal", seed=5),
            keras.layers.Flatten(),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dropout(0.3, seed=4),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def lock_of(folder):
    """The lock held by a process that compiles on this GPU."""
    name = f"lock-{os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}"
    return filelock.FileLock(folder / "kept/tuned" / name)


@on_jax
@pytest.mark.slow
def test_an_epoch_is_the_one_of_fit(feed):
    fitted, looped = network(), network()
    dataset, loop = as_dataset(feed), DeviceLoop(looped, ["small"])
    for epoch in (1, 2):
        feed.start_epoch(epoch)
        history = fitted.fit(dataset, shuffle=False, verbose=0).history
        logs = loop.epoch(feed, lambda *_: None)
        assert logs == {name: pytest.approx(value, rel=1e-5) for name, (value,) in history.items()}
    for ours, theirs in zip(looped.variables, fitted.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@on_jax
@pytest.mark.slow
def test_every_call_is_told_with_the_batches_so_far(feed):
    told = []
    logs = DeviceLoop(network(), ["small"]).epoch(feed, lambda *now: told.append(now))
    assert [n for n, _ in told] == [2, 4, 5]
    assert told[-1][1] == logs["loss"]


@on_jax
@pytest.mark.slow
def test_what_stops_an_epoch_leaves_a_network_behind(feed):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    model, before = network(), network().get_weights()
    with pytest.raises(Stop):
        DeviceLoop(model, ["small"]).epoch(feed, stop)
    changed = [not np.array_equal(*pair) for pair in zip(model.get_weights(), before, strict=True)]
    assert any(changed)
    assert int(model.optimizer.iterations) == 2


@on_jax
@pytest.mark.slow
def test_a_call_that_fails_says_so_itself(feed):
    loop = DeviceLoop(network(), ["small"])
    loop.epoch(feed, lambda *_: None)
    call = loop._call

    def failing(state, chunk, n):
        call(state, chunk, n)  # consumes the state
        assert state[0][0].is_deleted()
        raise MemoryError

    loop._call = failing
    with pytest.raises(MemoryError):
        loop.epoch(feed, lambda *_: None)


@on_jax
@pytest.mark.slow
def test_without_a_place_to_write_programs_are_compiled_all_the_same(feed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(compilation, "_folder", lambda: tmp_path / "file")
    assert DeviceLoop(network(), ["small"]).epoch(feed, lambda *_: None)["loss"] > 0


@on_jax
@pytest.mark.slow
def test_the_first_of_a_kind_is_compiled_alone_and_the_next_need_not_wait(feed, tmp_path):
    DeviceLoop(network(), ["small", 1]).epoch(feed, lambda *_: None)
    (mark,) = [each for each in (tmp_path / "kept/tuned").iterdir() if "lock" not in each.name]
    assert "-small-1-16-" in mark.name
    with lock_of(tmp_path):
        DeviceLoop(network(), ["small", 1]).epoch(feed, lambda *_: None)


@on_jax
@pytest.mark.slow
def test_the_first_of_a_kind_waits_for_another_that_is_compiled(tmp_path):
    compiled = []
    lowered = types.SimpleNamespace(compile=lambda _: compiled.append("program"))
    (tmp_path / "kept/tuned").mkdir(parents=True)
    with lock_of(tmp_path):
        waiting = threading.Thread(target=compilation.compiled, args=(lowered, ["new"]))
        waiting.start()
        waiting.join(0.5)
        assert not compiled
    waiting.join(20)
    assert compiled == ["program"]


@on_jax
@pytest.mark.slow
@pytest.mark.parametrize("chosen", [None, "elsewhere"])
def test_programs_are_kept_where_someone_chose_to_keep_them(tmp_path, chosen):
    from jax.experimental.compilation_cache import compilation_cache

    folder = tmp_path / "kept" if chosen is None else tmp_path / chosen
    try:
        jax.config.update("jax_compilation_cache_dir", chosen and str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        compilation.keep_programs()
        compilation_cache.reset_cache()
        jax.jit(lambda x: x + 3)(1.0)
        assert list(folder.glob("jit*"))
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()


@on_jax
@pytest.mark.slow
def test_a_trial_on_a_gpu_ends_as_one_on_a_cpu(splits, monkeypatch):
    config = TrialConfig(
        backbone="tiny", image_size=32, batch_size=32, epochs=3, head_warmup=1, dropout=0.2,
        learning_rate=3e-3, ema_decay=0.9, augmentation=Augmentation(flip=True),
    )  # fmt: skip
    ends = []
    for is_gpu in (False, True):
        monkeypatch.setattr(runtime, "is_jax_on_gpu", lambda is_gpu=is_gpu: is_gpu)
        _, result = train(config, splits, on_epoch=lambda _: None)
        ends.append([(epoch.loss, epoch.val_loss, epoch.accuracy) for epoch in result.epochs])
    np.testing.assert_allclose(*ends, rtol=2e-3)
