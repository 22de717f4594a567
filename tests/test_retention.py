import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_search.command_config import CleanConfig
from fer_search.retention import StoredModel, Version, doomed, front, plan


def stored(trial, score=0.5, megabytes=10.0, *versions, study="s", **more):
    """The model of a trial, registered as `versions`."""
    return StoredModel(
        model_id=f"m-{study}-{trial}", name=f"tiny-trial-{trial:03d}", study=study,
        study_run_id=f"run-{study}", trial=trial, run_id=f"run-{study}-{trial}", score=score,
        location=f"/models/m-{study}-{trial}", size=round(megabytes * 1e6), versions=versions,
        **more,
    )  # fmt: skip


def version(number, *uses, source="models:/m-s-1", study="s"):
    return Version(
        name="fer-emotion", number=str(number), source=source, study=study, uses=uses
    )  # fmt: skip


def fate(models, **policy):
    """Why each model stays, by trial; empty for those that go."""
    verdicts = plan(models, CleanConfig(**policy))
    return {v.model.trial: "" if v.goes else v.why for v in verdicts}


def going(models, **policy):
    return [v.model.trial for v in doomed(plan(models, CleanConfig(**policy)))]


def test_the_best_of_each_study_stay_and_the_rest_goes():
    models = [stored(n, 0.1 * n, study=study) for study in "ab" for n in range(5)]
    assert going(models, keep=2) == [2, 1, 0] * 2
    assert fate(models, keep=2)[4] == "number 1 of its study"
    assert going(models, keep=9) == []


def test_of_equal_scores_the_earlier_trial_is_the_better_one_as_for_the_study_itself():
    assert going([stored(2), stored(0), stored(1)], keep=1) == [1, 2]


def test_the_front_of_score_and_size_stays():
    models = [
        stored(0, 0.7, 60),
        stored(1, 0.6, 60),
        stored(2, 0.6, 20),
        stored(3, 0.5, 20),
        stored(4, 0.4, 5),
    ]
    assert going(models, keep=1) == [1, 3]
    assert fate(models, keep=1)[4] == "no smaller model is as good"


def test_some_bytes_of_text_make_no_model_smaller():
    models = [stored(0, 0.7, 60.0), stored(1, 0.6, 59.9999), stored(2, 0.5, 59.9)]
    assert going(models, keep=1) == [1]


@pytest.mark.parametrize("versions", [False, True])
def test_a_version_in_use_keeps_its_model(versions):
    models = [stored(0, 0.9), stored(1, 0.1, 10, version(1), version(2, "champion", "mine"))]
    assert fate(models, keep=1, versions=versions) == {
        0: "number 1 of its study", 1: "fer-emotion version 2 is champion, mine",
    }  # fmt: skip


def test_other_registered_models_go_only_if_asked_and_after_the_unregistered_ones():
    models = [stored(0, 0.9), stored(1, 0.3, 10, version(1)), stored(2, 0.2), stored(3, 0.1)]
    assert going(models, keep=1) == [2, 3]
    assert fate(models, keep=1)[1] == "registered: deleted only with versions=true"
    assert going(models, keep=1, versions=True) == [2, 3, 1]


@pytest.mark.parametrize("other", [{"study": ""}, {"source": "models:/fer-emotion/3"}])
def test_what_other_hands_registered_is_never_deleted(other):
    models = [stored(0, 0.9), stored(1, 0.1, 10, version(1, **other))]
    assert "not registered by a search" in fate(models, keep=1, versions=True)[1]


@pytest.mark.parametrize("begun", ["", "yesterday"])
def test_what_is_held_stays(begun):
    models = [stored(0, 0.9), stored(1, 0.1, held="its study is running", begun=begun)]
    assert fate(models, keep=1) == {0: "number 1 of its study", 1: "its study is running"}


def test_a_model_that_is_not_all_there_takes_no_whole_ones_place():
    models = [stored(0, None, held="not stored completely"), stored(1, 0.5), stored(2, 0.4)]
    assert going(models, keep=1) == [2]


def test_a_deletion_that_was_begun_is_ended_even_if_the_model_was_the_best():
    models = [stored(0, 0.9, begun="yesterday: x"), stored(1, 0.5), stored(2, 0.4)]
    verdicts = plan(models, CleanConfig(keep=1))
    last = doomed(verdicts)[-1]
    assert (last.model.trial, last.why) == (0, "its deletion began yesterday: x")
    assert fate(models, keep=1)[1] == "number 1 of its study"


def test_a_deletion_that_was_begun_comes_last_because_it_may_fail_again():
    left, registered = stored(0, 0.2, begun="yesterday: x"), stored(1, 0.3, 10, version(1))
    assert going([left, registered, stored(2, 0.4), stored(3)], keep=1, versions=True) == [2, 1, 0]


def test_a_deletion_that_touched_no_version_yet_is_thought_over():
    best = stored(0, 0.9, 10, version(1), begun="yesterday: x")
    worst = stored(1, 0.1, 10, version(2), begun="yesterday: x")
    assert going([best, worst], keep=1, versions=True) == [1]
    assert going([best, worst], keep=1) == []


@pytest.mark.parametrize(
    ("source", "run_id", "loads"),
    [
        ("models:/m-1f", "", True),
        ("models:/m-1f", "other", True),
        ("/artifacts/models/m-1f/artifacts", "", True),
        ("models:/fer-emotion/3", "run", True),
        ("runs:/run/model", "run", True),
        ("models:/m-2f", "", False),
        ("runs:/other/model", "other", False),
    ],
)
def test_a_version_is_known_to_load_a_model_by_any_address(source, run_id, loads):
    found = Version(name="fer-emotion", number="1", source=source, run_id=run_id)
    assert found.loads("m-1f", "run") == loads
    assert found.loads("m-1f", "") == ("m-1f" in source)


def test_a_version_without_a_run_is_known_by_the_run_or_the_files_that_it_names():
    of_run = Version(name="mine", number="1", source="runs:/run/model")
    assert of_run.loads("m-1f", "run")
    assert not of_run.loads("m-1f", "other")
    assert not of_run.loads("m-1f", "")
    of_version = Version(
        name="mine", number="1", source="models:/fer-emotion/3", location="/models/m-1f/artifacts"
    )
    assert of_version.loads("m-1f", "")
    assert not of_version.loads("m-2f", "run")


names = st.sampled_from(["fer-emotion", "other"])
versions = st.builds(
    Version, name=names, number=st.integers(1, 9).map(str),
    uses=st.lists(st.sampled_from(["champion", "challenger", "mine"]), max_size=1).map(tuple),
    source=st.sampled_from(["models:/m-1", "models:/fer-emotion/1"]), study=st.sampled_from("s"),
)  # fmt: skip
candidates = st.builds(
    stored, st.integers(0, 40), st.one_of(st.none(), st.integers(0, 10).map(lambda n: n / 10)),
    st.integers(1, 5), study=st.sampled_from("ab"), begun=st.sampled_from(["", "yesterday: x"]),
    held=st.sampled_from(["", "", "held"]),
)  # fmt: skip
stores = st.lists(
    st.tuples(candidates, st.lists(versions, max_size=2)).map(
        lambda pair: dataclasses.replace(pair[0], versions=tuple(pair[1]))
    ),
    max_size=12, unique_by=lambda model: model.model_id,
)  # fmt: skip
policies = st.builds(CleanConfig, keep=st.integers(1, 4), versions=st.booleans())


@given(stores, policies)
def test_nothing_in_use_registered_by_others_or_held_is_ever_in_the_plan(models, policy):
    for verdict in doomed(plan(models, policy)):
        assert not verdict.model.held
        assert policy.versions or not verdict.model.versions
        assert not any(v.uses or not v.is_ours for v in verdict.model.versions)


@given(stores, policies)
def test_every_model_is_judged_once_with_a_reason(models, policy):
    verdicts = plan(models, policy)
    judged = [verdict.model.model_id for verdict in verdicts]
    assert sorted(judged) == sorted(model.model_id for model in models)
    assert all(verdict.why for verdict in verdicts)


@given(stores, policies)
def test_after_the_plan_there_is_nothing_left_to_do(models, policy):
    gone = {verdict.model.model_id for verdict in doomed(plan(models, policy))}
    left = [model for model in models if model.model_id not in gone]
    assert doomed(plan(left, policy)) == []


@given(stores, policies)
def test_a_plan_that_was_cut_short_ends_as_the_whole_one(models, policy):
    whole = [verdict.model.model_id for verdict in doomed(plan(models, policy))]
    for done in range(len(whole)):
        left = [model for model in models if model.model_id not in whole[:done]]
        if done < len(whole):  # deleting the next one had begun
            left = [
                dataclasses.replace(model, versions=(), begun="yesterday: x")
                if model.model_id == whole[done]
                else model
                for model in left
            ]
        rest = {verdict.model.model_id for verdict in doomed(plan(left, policy))}
        assert rest == set(whole[done:])


@given(stores, policies)
def test_the_best_and_the_front_always_stay(models, policy):
    gone = {verdict.model.model_id for verdict in doomed(plan(models, policy))}
    for study in "ab":
        whole = [m for m in models if m.study == study and m.score is not None and not m.is_left]
        stay = [model for model in whole if model.model_id not in gone]
        assert len(stay) >= min(policy.keep, len(whole))
        if whole:
            assert max(model.score for model in stay) == max(model.score for model in whole)
        for model in front(whole):
            assert model in stay
        for model in whole:  # whatever goes, one as good and as small stays
            assert any(s.score >= model.score and s.size <= model.size for s in stay)


@given(stores)
def test_the_front_is_what_no_other_model_beats(models):
    whole = [model for model in models if model.score is not None]
    points = {(model.score, -model.megabytes) for model in whole}
    unbeaten = {
        point
        for point in points
        if not any(o != point and o[0] >= point[0] and o[1] >= point[1] for o in points)
    }
    assert {(model.score, -model.megabytes) for model in front(whole)} == unbeaten
    assert len(front(whole)) == len(unbeaten)
