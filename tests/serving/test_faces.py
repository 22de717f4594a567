import numpy as np
import pytest
from PIL import Image

from fer_search.serving import faces
from fer_search.serving.faces import CROPPED, FACE, WHOLE, FaceFinder, Region


@pytest.fixture(scope="module")
def finder():
    return FaceFinder()


@pytest.fixture(scope="module")
def astronaut():
    """A public-domain photo of a face (NASA), 512 x 512, from scikit-image."""
    skimage = pytest.importorskip("skimage")
    return Image.fromarray(skimage.data.astronaut())


def overlap(region, box):
    left, top, right, bottom = box
    wide = min(region.left + region.side, right) - max(region.left, left)
    high = min(region.top + region.side, bottom) - max(region.top, top)
    shared = max(0, wide) * max(0, high)
    return shared / (region.side**2 + (right - left) * (bottom - top) - shared)


FACE_BOX = (165, 55, 290, 180)
"""Box around the astronaut's face, drawn by eye."""


def test_a_face_is_found_where_it_is(finder, astronaut):
    (region,) = finder.regions(astronaut)
    assert region.region == FACE
    assert region.certainty > 0.8
    assert overlap(region, FACE_BOX) > 0.7
    assert region.cut(astronaut, 48).shape == (48, 48)


@pytest.mark.parametrize("scale", [0.2, 0.5, 2.0])
def test_the_size_of_the_image_does_not_matter(finder, astronaut, scale):
    side = int(512 * scale)
    (region,) = finder.regions(astronaut.resize((side, side)))
    assert overlap(region, [scale * edge for edge in FACE_BOX]) > 0.6


def test_all_faces_are_found_the_largest_first(finder, astronaut):
    image = Image.new("RGB", (1400, 700), "grey")
    image.paste(astronaut.resize((256, 256)), (0, 100))
    image.paste(astronaut, (400, 100))
    image.paste(astronaut.resize((384, 384)), (1000, 100))
    regions = finder.regions(image)
    assert [region.region for region in regions] == [FACE] * 3
    assert [region.left // 400 for region in regions] == [1, 2, 0]
    assert regions[0].side > regions[1].side > regions[2].side


def test_a_cropped_face_is_used_as_it_is(finder, astronaut):
    left, top, right, bottom = FACE_BOX
    cropped = astronaut.crop((left, top, right, bottom)).convert("L").resize((48, 48))
    (region,) = finder.regions(cropped)
    assert (region.region, region.left, region.top, region.side) == (CROPPED, 0, 0, 48)


@pytest.mark.parametrize("size", [(300, 200), (48, 48), (1, 7), (3000, 40)])
def test_where_there_is_no_face_the_middle_of_the_image_is_used(finder, size):
    (region,) = finder.regions(Image.new("RGB", size, "grey"))
    side = min(size)
    assert region == Region(WHOLE, (size[0] - side) // 2, (size[1] - side) // 2, side, None)


def test_a_face_at_the_edge_gets_a_square_within_the_image(finder, astronaut):
    """The photo is cut off at the middle of the forehead."""
    cut = astronaut.crop((100, 85, 512, 512))
    (region,) = finder.regions(cut)
    assert region.region == FACE
    assert region.left >= 0
    assert region.top == 0
    assert region.left + region.side <= cut.width


def test_of_boxes_that_overlap_the_surest_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [7, 0, 17, 10]], float)
    assert faces._distinct(boxes, np.array([0.5, 0.9, 0.6, 0.4])) == [1, 2, 3]
