"""The loop that tutorials teach: images in folders, Random* layers, float32 and `fit`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import keras
from keras import layers
from PIL import Image

from benchmarks.loops import Task, answer, wait
from fer_search import runtime
from fer_search.config import SearchConfig
from fer_search.data.preparation import prepare


class Turns(keras.callbacks.Callback):
    """Answers after each epoch; the first batch, which may compile, is not timed."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Count batches, and answer at the end of an epoch, before Keras validates."""
        if batch == 0:
            self._began, self._batches = time.perf_counter(), 0
            return
        self._batches += 1
        if self._batches == self._task.limit // self._task.batch_size - 1:
            images = self._batches * self._task.batch_size
            answer(images / (time.perf_counter() - self._began))


def main() -> None:
    """Train epoch after epoch on images in folders."""
    task = Task.read()
    runtime.configure("float32")
    train = prepare(SearchConfig(data=task.data, limit=task.limit)).train
    with tempfile.TemporaryDirectory() as folder:
        for index, (face, label) in enumerate(zip(train.images, train.labels, strict=True)):
            place = Path(folder, str(label))
            place.mkdir(exist_ok=True)
            Image.fromarray(face).save(place / f"{index}.png")
        faces = keras.utils.image_dataset_from_directory(
            folder, label_mode="categorical", image_size=(48, 48), batch_size=task.batch_size
        )
        model = _network(task)
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        wait()
        model.fit(faces, epochs=10_000, callbacks=[Turns(task)], verbose=0)


def _network(task: Task) -> keras.Model:
    application = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}
    preprocess = {
        "vgg16": keras.applications.vgg16.preprocess_input,
        "resnet50": keras.applications.resnet50.preprocess_input,
    }
    backbone = application[task.backbone](include_top=False, weights=None, input_shape=(48, 48, 3))
    frozen = {"vgg16": "block", "resnet50": "conv"}[task.backbone]
    for layer in backbone.layers:
        stages = [f"{frozen}{i}" for i in range(5 - task.depth + 1, 6)]
        layer.trainable = layer.name.startswith(tuple(stages))
    faces = x = layers.Input((48, 48, 3))
    for varied in (
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.03),
        layers.RandomTranslation(0.1, 0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.15),
    ):
        x = varied(x)
    x = backbone(preprocess[task.backbone](x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.4)(x)
    return keras.Model(faces, layers.Dense(7, activation="softmax")(x))


if __name__ == "__main__":
    main()
