"""Convolutions over small feature maps as matrix products, for TensorFlow on a CPU.

oneDNN takes up to ten times as long for the gradient of a kernel over maps of a few pixels as for
the matrix product that it is: half of a training step of VGG16 at 48 pixels; see
docs/performance.md. The layers stay Keras's own, so that stored models load without this package.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fer_search import runtime

if TYPE_CHECKING:
    import keras

SMALL = 8
"""Largest side of a map, in pixels, over which the gradients of 3 x 3 kernels are products."""


def as_products(model: keras.Model) -> None:
    """Make convolutions of `model` compute with matrix products where that is faster.

    These are 1 x 1 convolutions and, in bfloat16, the kernel gradients of 3 x 3 ones over small
    maps. Results differ from Keras's only by rounding. Other devices, backends and layers are left
    as they are.
    """
    import keras

    if not runtime.is_tensorflow_on_cpu():
        return
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D) or not _is_plain(layer):
            continue
        if layer.kernel_size == (1, 1):
            layer.convolution_op = functools.partial(_pointwise, layer.strides)
        elif _is_over_small_maps(layer):
            layer.convolution_op = _over_small_maps


def _is_plain(layer: keras.layers.Conv2D) -> bool:
    """Tell whether a layer is channels-last, without groups and without dilation."""
    kind = (layer.data_format, layer.groups, layer.dilation_rate)
    return kind == ("channels_last", 1, (1, 1))


def _is_over_small_maps(layer: keras.layers.Conv2D) -> bool:
    kind = (layer.kernel_size, layer.strides, layer.padding, layer.compute_dtype)
    is_small = max(layer.output.shape[1:3]) <= SMALL
    return is_small and kind == ((3, 3), (1, 1), "same", "bfloat16")


def _pointwise(strides: tuple[int, int], maps: Any, kernel: Any) -> Any:
    """Convolve maps (B, H, W, n) with a kernel (1, 1, n, m) to (B, H / stride, W / stride, m)."""
    import tensorflow as tf

    kernel = _as_tensor(kernel, maps)
    if strides != (1, 1):
        maps = maps[:, :: strides[0], :: strides[1]]
    _, height, width, n = maps.shape
    m = kernel.shape[-1]
    product = tf.matmul(tf.reshape(maps, (-1, n)), tf.reshape(kernel, (n, m)))
    return tf.reshape(product, (-1, height, width, m))


def _over_small_maps(maps: Any, kernel: Any) -> Any:
    """Convolve maps (B, H, W, n) with a kernel (3, 3, n, m) to (B, H, W, m)."""
    kernel = _as_tensor(kernel, maps)
    return _traced(maps.shape[1:], kernel.shape)(maps, kernel)


def _as_tensor(kernel: Any, maps: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(kernel), maps.dtype)


@functools.cache
def _traced(_maps: Any, _kernel: Any) -> Any:
    """Make one function for each pair of shapes.

    TensorFlow never releases what a custom gradient refers to. Inside a separate function that is
    only the function; in the graph of a network it would be the network's weights.
    """
    import tensorflow as tf

    return tf.function(tf.custom_gradient(_convolve))


def _convolve(maps: Any, kernel: Any) -> tuple[Any, Any]:
    """Convolve, with TensorFlow's gradient for the maps and nine products as the kernel's gradient.

    Args:
        maps: Shape (B, H, W, n).
        kernel: Shape (3, 3, n, m).
    """
    import tensorflow as tf

    def gradients(output: Any) -> tuple[Any, Any]:
        by_maps = tf.nn.conv2d_transpose(output, kernel, tf.shape(maps), 1, "SAME")
        _, height, width, n = maps.shape
        flat = tf.reshape(output, (-1, kernel.shape[-1]))
        padded = tf.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
        by_kernel = [
            tf.matmul(
                tf.reshape(padded[:, y : y + height, x : x + width], (-1, n)),
                flat,
                transpose_a=True,
            )
            for y in range(3)
            for x in range(3)
        ]
        return by_maps, tf.reshape(tf.stack(by_kernel), kernel.shape)

    return tf.nn.conv2d(maps, kernel, 1, "SAME"), gradients
