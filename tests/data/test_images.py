from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fer_search.data.images import decode, encode
from fer_search.errors import DataError


def encoded(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 48, height: int = 48) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width), np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header gives a size, without pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    return start + struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 10**6) + b"IDAT"


def test_a_grey_image_of_the_right_size_keeps_every_pixel() -> None:
    assert np.array_equal(decode(encoded(noise())), np.asarray(noise()))


def test_an_encoded_image_is_decoded_to_the_same_pixels() -> None:
    assert np.array_equal(decode(encode(np.asarray(noise()))), np.asarray(noise()))


@pytest.mark.parametrize("size", [(1, 1), (20, 33), (48, 49), (200, 100), (640, 480)])
def test_every_size_becomes_a_face(size: tuple[int, int]) -> None:
    face = decode(encoded(noise(*size)))
    assert (face.shape, face.dtype) == ((48, 48), np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA"])
def test_every_colour_mode_becomes_grey(mode: str) -> None:
    face = decode(encoded(Image.new("RGB", (60, 60), (200, 200, 200)).convert(mode), "tiff"))
    assert face.mean() == pytest.approx(200, abs=30)


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp", "gif", "tiff", "webp", "ppm"])
def test_common_formats_are_read(kind: str) -> None:
    face = decode(encoded(Image.new("L", (48, 48), 77), kind))
    assert face.mean() == pytest.approx(77, abs=3)


def test_sixteen_bits_are_scaled_instead_of_clipped() -> None:
    deep = Image.fromarray(np.full((48, 48), 0x4000, np.uint16))
    assert (decode(encoded(deep)) == 0x40).all()


def test_scaling_down_averages_instead_of_picking_pixels() -> None:
    checkerboard = (np.indices((480, 480)).sum(axis=0) % 2 * 255).astype(np.uint8)
    face = decode(encoded(Image.fromarray(checkerboard))).astype(float)
    assert np.abs(face - 127.5).max() < 4


def test_a_wide_image_is_cut_to_its_middle_instead_of_squeezed() -> None:
    wide = np.zeros((100, 300), np.uint8)
    wide[:, 100:200] = 255
    assert decode(encoded(Image.fromarray(wide))).min() > 230


def test_an_image_is_turned_upright_as_its_camera_noted() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated onto its left side
    lying = encoded(noise().rotate(90), exif=exif)
    assert np.array_equal(decode(lying), np.asarray(noise()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"not a picture at all", "is not an image", id="text"),
        pytest.param(encoded(noise())[:600], "is damaged", id="truncated_png"),
        pytest.param(encoded(noise(), "jpeg")[:600], "is damaged", id="truncated_jpeg"),
        pytest.param(png_header(6400, 6400), "6400 x 6400 pixels", id="large"),
        pytest.param(png_header(10000, 10000), "10000 x 10000 pixels", id="warned_of"),
        pytest.param(png_header(100000, 100000), "too many pixels", id="bomb"),
        pytest.param(png_header(0, 48), "is", id="no_width"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode(data)


@given(data=st.data())
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "tiff", "webp"])
def test_damage_is_a_data_error_or_harmless(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(noise(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(0, min(len(content) - 1, 700)))
        content[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        assert decode(bytes(content)).shape == (48, 48)
