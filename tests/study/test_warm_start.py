import dataclasses
from functools import partial

import numpy as np
import pytest

from fer_search.config import SearchConfig
from fer_search.errors import ConfigError, StoreError
from fer_search.results import Evaluation
from fer_search.study.space import declare, known_good, suggest
from fer_search.study.studies import create_study, open_storage
from fer_search.study.trial import ORIGIN
from fer_search.study.warm_start import N_POINTS, warm_points
from tests.study.test_studies import epoch_of, result

URL = "sqlite:///o.db"
FACTS = {"run_id": "r", "train_digest": "a", "test_digest": "b"}


def make(**settings):
    values = {"study": "small", "trials": 99, "backbones": "vgg16", "image_sizes": "48",
              "epochs": 20, "pruner": "none", "sampler": "random"}  # fmt: skip
    return SearchConfig(**values | settings)


def searched(values, **settings):
    """A study that has ended with these values; None prunes at 0.5."""
    study = create_study(open_storage(URL), make(**settings), FACTS)
    for value in values:
        trial = study.take()
        trial.ask(partial(suggest, search=study.search, seed=trial.seed))
        if value is None:
            trial.report(epoch_of(1, 0.5))
            trial.prune()
        else:
            trial.complete(dataclasses.replace(result(), validation=right_in(value)))
    return study


def right_in(share):
    """An evaluation in which this share of each of seven classes is recognised."""
    labels = np.repeat(np.arange(7), 10)
    is_right = np.tile(np.arange(10) < 10 * share, 7)
    return Evaluation(labels, np.eye(7)[np.where(is_right, labels, (labels + 1) % 7)])


def warmed(search, digest="b"):
    return warm_points(URL, search, digest)


def test_the_best_trials_come_first_and_in_order_then_the_known_good_ones():
    values = [0.1, 0.2, 0.9, 0.3, None, 0.4, 0.8]
    earlier = searched(values)
    search = make(study="large", warm_start="small")
    study = create_study(open_storage(URL), search, FACTS, warmed(search))
    waiting = study._study.get_trials()
    origins = [trial.user_attrs[ORIGIN] for trial in waiting]
    assert origins[:N_POINTS] == [f"small #{n}" for n in (2, 6, 4, 5, 3)]
    assert origins[N_POINTS:] == ["known-good #0", "known-good #1"]
    tried = study.take().ask(partial(suggest, search=search, seed=0))
    assert tried == suggest_at(search, earlier.points()[2].params)


def test_a_known_good_point_among_the_best_is_not_tried_twice():
    searched([0.9, 0.8, 0.1])
    search = make(study="large", warm_start="small")
    study = create_study(open_storage(URL), search, FACTS, warmed(search))
    origins = [trial.user_attrs[ORIGIN] for trial in study._study.get_trials()]
    assert origins == ["small #0", "small #1", "small #2"]


def test_a_smaller_space_takes_what_it_allows_and_defaults_for_the_rest():
    searched([0.5] * 12, image_sizes="32,64", epochs=20)
    search = make(study="large", warm_start="small", image_sizes="48", epochs=4)
    for point in warmed(search).values():
        config = suggest_at(search, point)
        assert config.image_size == 48
        assert config.head_warmup <= 1
        assert "vgg16_pooling" not in point


def suggest_at(search, point):
    return suggest(declare(search, point), search=search, seed=0)


def test_a_larger_space_fills_up_with_defaults():
    searched([0.5, 0.4])
    search = make(
        study="large", warm_start="small", backbones="vgg16,resnet50", image_sizes="64,96"
    )
    first, _ = warmed(search).values()
    assert first["backbone"] == "vgg16"
    assert first["image_size"] == 64
    assert first["vgg16_pooling"] == "avg"
    assert first["adamw_learning_rate"] == known_good(make())[0]["adamw_learning_rate"]


def test_without_it_nothing_comes_first():
    assert warmed(make()) == {}


def test_unknown_studies_other_data_and_other_backbones_are_refused():
    searched([0.5])
    with pytest.raises(StoreError, match="no study 'smal'"):
        warmed(make(warm_start="smal"))
    with pytest.raises(ConfigError, match="other data"):
        warmed(make(warm_start="small"), digest="c")
    with pytest.raises(ConfigError, match="no finished trial of resnet50"):
        warmed(make(warm_start="small", backbones="resnet50"))
    with pytest.raises(ConfigError, match="hypermodel=none"):
        warmed(make(warm_start="small", hypermodel="a:B"))


def test_a_study_without_finished_trials_is_refused():
    searched([])
    with pytest.raises(ConfigError, match="no finished trial"):
        warmed(make(warm_start="small"))
