import dataclasses
from functools import partial

import numpy as np
import pytest

from fer_search.config import SearchConfig
from fer_search.errors import ConfigError
from fer_search.results import Evaluation
from fer_search.study import studies
from fer_search.study.space import declare, known_good, suggest
from fer_search.study.studies import KNOWN, create_study, find_study, open_storage
from fer_search.study.trial import ORIGIN
from fer_search.study.warm_start import N_POINTS, earlier_study, warm_points
from tests.study.test_studies import epoch_of, result

URL = "sqlite:///o.db"
FACTS = {"run_id": "r", "train_digest": "a", "test_digest": "b"}


def make(**settings):
    values = {"study": "small", "trials": 99, "backbones": "vgg16", "image_sizes": "48",
              "epochs": 20, "pruner": "none", "sampler": "random"}  # fmt: skip
    return SearchConfig(**values | settings)


def searched(values, **settings):
    """A study whose trials ended with these values; None is one pruned at 0.5."""
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
    earlier = earlier_study(open_storage(URL), search)
    return warm_points(earlier, search, digest) if earlier else ()


def test_the_best_trials_come_first_and_in_order_then_the_known_good_ones():
    values = [0.1, 0.2, 0.9, 0.3, None, 0.4, 0.8]
    earlier = searched(values)
    search = make(study="large", warm_start="small")
    study = create_study(open_storage(URL), search, FACTS, warmed(search))
    waiting = study._study.get_trials()
    origins = [trial.user_attrs[ORIGIN] for trial in waiting]
    assert origins[:N_POINTS] == [f"small #{n}" for n in (2, 6, 4, 5)]
    assert origins[N_POINTS:] == [KNOWN, KNOWN]
    tried = study.take().ask(partial(suggest, search=search, seed=0))
    assert tried == suggest_at(search, earlier.trials()[2].params)


def test_a_known_good_point_among_the_best_is_not_tried_twice():
    searched([0.9, 0.8, 0.1])
    search = make(study="large", warm_start="small")
    study = create_study(open_storage(URL), search, FACTS, warmed(search))
    origins = [trial.user_attrs[ORIGIN] for trial in study._study.get_trials()]
    assert origins == ["small #0", "small #1", "small #2"]


def test_a_smaller_space_takes_what_it_allows_and_defaults_for_the_rest():
    searched([0.5] * 12, image_sizes="32,64", epochs=20)
    search = make(study="large", warm_start="small", image_sizes="48", epochs=4)
    for _, point in warmed(search):
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
    (_, first), _ = warmed(search)
    assert first["backbone"] == "vgg16"
    assert first["image_size"] == 64
    assert first["vgg16_pooling"] == "avg"
    assert first["adamw_learning_rate"] == known_good(make())[0]["adamw_learning_rate"]


def test_first_points_that_a_kill_prevented_are_enqueued_on_resume(monkeypatch):
    searched([0.9])
    search = make(study="large", warm_start="small")
    with monkeypatch.context() as patch:
        patch.setattr(studies.Study, "enqueue_first", lambda study: None)
        create_study(open_storage(URL), search, FACTS, warmed(search))
    study = find_study(open_storage(URL), "large")
    for _ in range(2):
        study.resume(search)
        origins = [trial.user_attrs[ORIGIN] for trial in study._study.get_trials()]
        assert origins == ["small #0", KNOWN]


def test_a_study_with_first_points_stays_near_them_from_the_third_trial_on():
    def n_random(study):
        return study._study.sampler._make(1, 0)._n_startup_trials

    assert n_random(searched([], sampler="tpe")) == 2
    storage = open_storage(URL)
    older = create_study(storage, make(study="older", sampler="tpe"), FACTS)
    older.change(first=[])  # as in records without first points
    assert n_random(find_study(storage, "older")) == 10


def test_other_data_are_refused_before_they_are_fetched():
    searched([0.9], data="synthetic")
    with pytest.raises(ConfigError, match=r"other test images \(data=synthetic"):
        earlier_study(open_storage(URL), make(study="large", warm_start="small"))


CUSTOM = """
def build(hp):
    hp.Choice("backbone", ["a", "b"])
    hp.Int("units", {low}, {high})
"""


def test_a_custom_study_is_warmed_by_its_own_points_unless_its_space_has_changed(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)

    def search(name, low, high, **settings):
        (tmp_path / f"{name}.py").write_text(CUSTOM.format(low=low, high=high))
        return make(hypermodel=f"{name}:build", **settings)

    study = create_study(open_storage(URL), search("custom_a", 1, 9), FACTS)
    trial = study.take()
    asked = trial.ask(lambda hp: (hp.Choice("backbone", ["a", "b"]), hp.Int("units", 1, 9)))
    trial.complete(result())
    same = make(hypermodel="custom_a:build", study="large", warm_start="small")
    assert warmed(same) == [("small #0", dict(zip(("backbone", "units"), asked, strict=True)))]
    study.change(search=search("custom_b", 1, 5).to_params())
    other = make(hypermodel="custom_b:build", study="large", warm_start="small")
    with pytest.raises(ConfigError, match="another search space"):
        warmed(other)


def test_without_warm_start_there_are_no_first_points():
    assert warmed(make()) == ()


def test_unknown_studies_other_data_and_other_backbones_are_refused():
    searched([0.5])
    with pytest.raises(ConfigError, match="no such study"):
        warmed(make(warm_start="smal"))
    with pytest.raises(ConfigError, match="seed=42"):
        warmed(make(warm_start="small", seed=7), digest="c")
    with pytest.raises(ConfigError, match="have changed since"):
        warmed(make(warm_start="small"), digest="c")
    with pytest.raises(ConfigError, match="no finished trial of resnet50"):
        warmed(make(warm_start="small", backbones="resnet50"))
    with pytest.raises(ConfigError, match="hypermodel=none"):
        warmed(make(warm_start="small", hypermodel="a:B"))


def test_a_study_without_finished_trials_is_refused():
    searched([])
    with pytest.raises(ConfigError, match="no finished trial"):
        warmed(make(warm_start="small"))
