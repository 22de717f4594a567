import math

import pytest

from fer_search.config import BACKBONES, PRUNERS, SAMPLERS, SOURCES
from fer_search.reporting import wording


@pytest.mark.parametrize(
    ("seconds", "said", "shortly"),
    [
        (None, "–", None),
        (0, "0.0 s", "0 s"),
        (9.96, "10 s", "10 s"),
        (59.4, "59 s", "59 s"),
        (61, "1 min 1 s", "1.0 min"),
        (3599.7, "1 h 0 min", "60.0 min"),
        (4e6, "1,111 h 6 min", "1,111.1 h"),
    ],
)
def test_a_duration_is_spelled_by_its_two_largest_units(seconds, said, shortly):
    assert wording.duration(seconds) == said
    if seconds is not None:
        assert wording.brief(seconds) == shortly


def test_what_is_not_known_is_a_dash():
    assert wording.score(None) == wording.score(math.nan) == wording.moment(None) == "–"
    assert wording.value(None) == "–"


@pytest.mark.parametrize(
    ("given", "said"), [(True, "yes"), (3, "3"), (0.00123456, "0.001235"), ("adamw", "adamw")]
)
def test_a_value_is_spelled_as_a_person_writes_it(given, said):
    assert wording.value(given) == said


def test_words():
    assert wording.counted(1, "trial") == "1 trial"
    assert wording.counted(1200, "trial") == "1,200 trials"
    assert wording.capitalised("vgg16 and ResNet50") == "Vgg16 and ResNet50"
    assert wording.moment(0) == "1970-01-01 00:00 UTC"


def test_every_name_in_prose_is_one_that_can_be_asked_for():
    known = {*BACKBONES, *SOURCES, *SAMPLERS, *PRUNERS}
    assert set(wording._NAMES) <= known
    assert wording.named("my/folder") == "my/folder"
