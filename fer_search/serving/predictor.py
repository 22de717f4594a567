"""The model as MLflow stores and serves it: a table of images in, a table of emotions out.

MLflow copies this file alone next to the `.keras` file and runs it wherever the model is loaded, so
it needs nothing else from this package ("models from code"), and no pickle is involved.
"""

import base64
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import mlflow
import numpy as np
import pandas
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image, ImageOps

LONGEST_TEXT = 28_000_000
"""Most characters of base64 that are decoded: a file of 20 MiB."""
MOST_PIXELS = 40_000_000
"""Most pixels that an image's header may announce; larger ones are not decoded."""
BATCH = 256
VIEWS = (1, 2, 10)
"""Numbers of views of an image over which probabilities can be averaged: the image alone, with
its mirror image, or both also shifted by a twelfth of the side towards each corner."""
_SHIFT = 1 / 12

_DATA_URL = re.compile(r"\s*data:image/[\w.+-]+;base64,")


class _BadImageError(ValueError):
    """A row that is not an image; the message is for the caller."""


class EmotionPredictor(mlflow.pyfunc.PythonModel):
    """Predicts which emotion a face shows, with nothing but a Keras model."""

    def load_context(self, context: Any) -> None:
        """Load the Keras model.

        Args:
            context: MLflow's context. `artifacts["model"]` is the path of the `.keras` file, a
                model from (N, S, S, 1) in [0, 255] to (N, C) probabilities. `model_config` has the
                names of the C classes as `emotions` and Keras's default backend as `backend`.

        Raises:
            ValueError: If the model does not take square grey images, or its number of classes
                is not that of the emotions.
        """
        if "keras" not in sys.modules:  # otherwise its backend is already chosen
            os.environ.setdefault("KERAS_BACKEND", context.model_config["backend"])
        import keras

        self.emotions: list[str] = list(context.model_config["emotions"])
        path = context.artifacts["model"]
        self.model = keras.saving.load_model(path, safe_mode=True, compile=False)
        taken, answered = self.model.input_shape, self.model.output_shape
        self.size: int = taken[1]
        if taken[1:] != (self.size, self.size, 1) or answered[1:] != (len(self.emotions),):
            raise ValueError(
                f"expected a model from (N, S, S, 1) to (N, {len(self.emotions)}), "
                f"got one from {taken} to {answered}"
            )

    def predict_images(self, images: np.ndarray, views: int = 1) -> np.ndarray:
        """Predict for images that are already arrays.

        Args:
            images: Grey (N, H, W) or colour (N, H, W, 3), uint8. If they do not have the model's
                size, their central square is scaled to it.
            views: Number of views, one of `VIEWS`.

        Returns:
            Probability of every emotion, shape (N, C), float32; (0, C) without images.

        Raises:
            ValueError: If `images` has another shape or dtype, or `views` is not in `VIEWS`.
        """
        shape = images.shape
        grey, colour = images.ndim == 3, images.ndim == 4 and shape[-1] == 3
        if images.dtype != np.uint8 or not (grey or colour) or 0 in shape[1:]:
            raise ValueError(
                f"expected images (N, H, W) or (N, H, W, 3) in uint8, got {shape} in {images.dtype}"
            )
        if shape[1:] != (self.size, self.size):
            images = self._stacked([self._face(Image.fromarray(image)) for image in images])
        answers = [np.empty((0, len(self.emotions)))]
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            seen = [
                self.model.predict_on_batch(view[..., np.newaxis])
                for view in each_view(batch, views)
            ]
            answers.append(np.mean(seen, axis=0))
        return np.concatenate(answers).astype(np.float32)

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Predict for encoded images.

        Args:
            context: Not used.
            model_input: One column `image`: the base64 text of a JPEG or PNG of any size, grey or
                colour, with or without a `data:` prefix. Never a path or a URL: a server reads
                no files for its callers.
            params: `views`, one of `VIEWS`; 1 by default.

        Returns:
            One row per image, in the order and with the index of `model_input`: the most
            probable `emotion`, its `probability`, the probability of every emotion, and `error`. A
            row that is not an image has nulls and the reason in `error`; the other rows have a
            prediction and no error.

        Raises:
            MlflowException: If there is no column `image`, no row is an image, or `views` is not
                in `VIEWS` (a client error).
        """
        views = (params or {}).get("views", 1)
        if views not in VIEWS:
            raise MlflowException(
                f"views={views}: expected {' or '.join(map(str, VIEWS))}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        if "image" not in model_input:
            raise MlflowException(
                f"expected a column 'image', got {', '.join(map(str, model_input)) or 'none'}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        faces: list[np.ndarray] = []
        errors: list[str | None] = []
        for cell in model_input["image"]:
            try:
                faces.append(self._face(_decoded(cell)))
                errors.append(None)
            except _BadImageError as error:
                errors.append(str(error))
        if errors and not faces:
            raise MlflowException(
                f"none of the {len(errors)} rows is an image; the first one: {errors[0]}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        answers = self.predict_images(self._stacked(faces), views)
        return self._table(answers, errors, model_input.index)

    def _table(
        self, probabilities: np.ndarray, errors: list[str | None], index: pandas.Index
    ) -> pandas.DataFrame:
        """Put predictions, shape (M, C), into the rows without an error, nulls into the others."""
        best = probabilities.argmax(axis=1)
        columns = {
            "emotion": np.array(self.emotions, object)[best],
            "probability": probabilities.max(axis=1, initial=0).astype(float),
            **dict(zip(self.emotions, probabilities.T.astype(float), strict=True)),
        }
        good = [row for row, error in enumerate(errors) if error is None]
        table = pandas.DataFrame(columns, index=good)
        if len(good) < len(errors):  # None, not NaN, which MLflow's server would put into its JSON
            table = table.astype(object).reindex(range(len(errors)))
            table = table.where(table.notna(), None)
        table["error"] = pandas.Series(errors, table.index, object)
        return table.set_axis(index)

    def _face(self, image: Image.Image) -> np.ndarray:
        """Crop an image's central square, grey and scaled with antialiasing to (S, S) uint8."""
        side = self.size, self.size
        grey = image.convert("L")
        return np.asarray(
            grey if grey.size == side else ImageOps.fit(grey, side, Image.Resampling.LANCZOS)
        )

    def _stacked(self, faces: list[np.ndarray]) -> np.ndarray:
        return np.reshape(faces, (-1, self.size, self.size)).astype(np.uint8)


def each_view(images: np.ndarray, views: int) -> Iterator[np.ndarray]:
    """Iterate over the views of images; a larger number begins with the views of a smaller one.

    Args:
        images: Shape (N, S, S).
        views: Number of views, one of `VIEWS`.

    Yields:
        Arrays like `images`; a shift repeats the pixels at the edge.

    Raises:
        ValueError: If `views` is not in `VIEWS`.
    """
    if views not in VIEWS:
        raise ValueError(f"expected views to be one of {VIEWS}, got {views}")
    side = images.shape[-1]
    far = 2 * round(_SHIFT * side)
    padded = np.pad(images, ((0, 0), (far // 2,) * 2, (far // 2,) * 2), mode="edge")
    places = [(far // 2, far // 2), (0, 0), (0, far), (far, 0), (far, far)]
    for number in range(views):
        top, left = places[number // 2]
        view = padded[:, top : top + side, left : left + side]
        yield view[..., ::-1] if number % 2 else view


def _decoded(text: Any) -> Image.Image:
    """Decode base64 text to an image, upright and grey, in bounded memory.

    Raises:
        _BadImageError: If it is not a JPEG or PNG of at most `MOST_PIXELS`.
    """
    if not isinstance(text, str):
        raise _BadImageError(f"expected the base64 text of a JPEG or PNG, got {text!r:.40}")
    if len(text) > LONGEST_TEXT:
        raise _BadImageError(f"the text has {len(text):,} characters, more than {LONGEST_TEXT:,}")
    try:
        start = prefix.end() if (prefix := _DATA_URL.match(text)) else 0
        data = base64.b64decode("".join(text[start:].split()), validate=True)
    except ValueError:
        raise _BadImageError(f"not the base64 text of a JPEG or PNG: {text[:40]!r}") from None
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])  # reads only the header
        if image.width * image.height <= MOST_PIXELS:
            return ImageOps.exif_transpose(_grey(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass  # Pillow's own limit is above ours
    except Exception:  # damaged bytes make Pillow's decoders raise almost anything
        raise _BadImageError(f"not a readable JPEG or PNG ({len(data):,} bytes)") from None
    raise _BadImageError(f"the image has more than {MOST_PIXELS:,} pixels")


def _grey(image: Image.Image) -> Image.Image:
    """Decode to 8-bit grey; transparency is dropped."""
    if image.mode.startswith("I"):  # 16-bit, which convert() would clip, not scale
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")


mlflow.models.set_model(EmotionPredictor())
