"""Promotions on real stores and real (small) models: what passes, what is refused, what is kept."""

import contextlib
import itertools
import shutil

import keras
import numpy as np
import pytest
from mlflow import MlflowClient

from fer_search.command_config import PromotionConfig
from fer_search.config import EMOTIONS, SearchConfig
from fer_search.data.preparation import prepare
from fer_search.data.synthetic import draw
from fer_search.errors import PromotionRefused, StoreError
from fer_search.serving import package
from fer_search.tracking import aliases, registry, store
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.promote import promote

pytestmark = pytest.mark.slow
CSV_ORDER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_names = (f"m{number}" for number in itertools.count())


def write_csv(file, usages, seed):
    """Write a CSV like the challenge's, with synthetic faces."""
    images, labels = draw(len(usages), seed=seed)
    lines = ["emotion,pixels,Usage"]
    for image, label, usage in zip(images, labels, usages, strict=True):
        pixels = " ".join(map(str, image.ravel()))
        lines.append(f"{CSV_ORDER.index(EMOTIONS[label])},{pixels},{usage}")
    file.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store with models of different skill, from studies on three CSVs."""
    folder = tmp_path_factory.mktemp("world")
    usages = ["Training"] * 280 + ["PublicTest"] * 140 + ["PrivateTest"] * 140
    write_csv(folder / "faces.csv", usages, seed=1)
    write_csv(folder / "other.csv", usages, seed=2)
    text = (folder / "faces.csv").read_text()
    swap = {"Training": "PrivateTest", "PrivateTest": "Training", "PublicTest": "PublicTest"}
    for old, new in swap.items():
        text = text.replace(f",{old}\n", f",<{new}>\n")
    (folder / "leak.csv").write_text(text.replace("<", "").replace(">", ""))
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        client = store.connect()
        models = {
            "good": enter(client, folder / "faces.csv", folder, skill=1.0),
            "fair": enter(client, folder / "faces.csv", folder, skill=0.6),
            "weak": enter(client, folder / "other.csv", folder, skill=0.0),
            "leak": enter(client, folder / "leak.csv", folder, skill=0.6),
        }
    return folder, models


def enter(client, csv, folder, *, skill):
    """Store a model of a study on `csv`, as a search does.

    It was trained on the test images, so that `skill`, the share of its weights that is learnt,
    sets how well it does on them.
    """
    search = SearchConfig(study=csv.stem, data=str(csv), backbones="tiny", weights="none")
    splits = prepare(search)
    study_run = StudyRun(client, store.begin_run(client, csv.stem, search.to_params()))
    study_run.log_json(search.to_params(), "config.json")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((48, 48, 1), dtype="uint8")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(len(EMOTIONS), activation="softmax")(hidden)
    model = keras.Model(inputs, outputs)
    untrained = model.get_weights()
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(splits.test.images[..., None], splits.test.labels, epochs=30, verbose=0)
    trained = model.get_weights()
    model.set_weights(
        [skill * a + (1 - skill) * 8 * b for a, b in zip(trained, untrained, strict=True)]
    )
    model.save(folder / "model.keras")
    run = study_run.trial_run(csv.stem, 7, None)
    model_id = package.log_model(
        client, run_id=run.run_id, experiment_id="0", keras_file=folder / "model.keras",
        name="m", params={}, tags={},
    )  # fmt: skip
    digests = {"train_digest": splits.train_digest, "test_digest": splits.test_digest}
    study_run.set_tags(digests)
    tags = {"study": csv.stem, "trial_number": "7", "val_macro_f1": "0.5"} | digests
    return {"model_id": model_id, "run_id": run.run_id, "tags": tags}


@pytest.fixture
def enrol(world, monkeypatch):
    """A function that registers models under the test's own name, as versions 1, 2, …"""
    folder, models = world
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    client, name = store.connect(), next(_names)

    def enrol(*skills):
        for skill in skills:
            registry.register(client, name, **models[skill])
        return client, name

    return enrol


def aliases_of(client, name):
    return {key: str(value) for key, value in client.get_registered_model(name).aliases.items()}


def promotion_run(client):
    (run,) = client.search_runs(
        ["0"], "tags.`fer.command` = 'promote'", max_results=1, order_by=["start_time DESC"]
    )
    return client.get_run(run.info.run_id)  # `search_runs` omits the models


def test_the_first_model_then_a_better_one_then_back(enrol, capsys):
    client, name = enrol("fair", "good")
    aliases.set_challenger(client, name, "1")
    promote(PromotionConfig(registered_model=name))
    assert aliases_of(client, name) == {"challenger": "1", "champion": "1"}

    opened = len(study_openings(client, name, "2"))
    promote(PromotionConfig(registered_model=name, version=2))
    assert aliases_of(client, name) == {"challenger": "1", "champion": "2", "previous": "1"}
    run = promotion_run(client)
    assert (run.info.status, run.data.tags["decision"]) == ("FINISHED", "promoted")
    assert run.data.metrics["candidate/test_macro_f1"] > run.data.metrics["champion/test_macro_f1"]
    assert run.data.metrics["gain_macro_f1_lower"] > 0
    assert {m.model_id for m in run.inputs.model_inputs} == {
        client.get_model_version(name, number).source.removeprefix("models:/") for number in "12"
    }
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "confusion_matrices.png", "f1_intervals.png", "disagreements.png", "decision.json",
        "test_predictions.npz",
    }  # fmt: skip
    champion = client.get_model_version(name, "2")
    assert champion.tags["promotion.run"] == run.info.run_id
    assert "passed the gate" in champion.description
    assert "against version 1" in champion.description
    openings = study_openings(client, name, "2")
    assert len(openings) == opened + 1
    assert run.info.run_id in openings[-1]["why"]

    promote(PromotionConfig(registered_model=name, rollback=True))
    assert aliases_of(client, name) == {"challenger": "1", "champion": "1"}
    assert promotion_run(client).data.tags["decision"] == "rolled back"
    assert "promotion.rolled_back_at" in client.get_model_version(name, "2").tags
    assert "version 1 is the champion again" in capsys.readouterr().out
    with pytest.raises(StoreError, match="nothing to roll back to"):
        promote(PromotionConfig(registered_model=name, rollback=True))


def study_openings(client, name, version):
    run = client.get_run(client.get_model_version(name, version).run_id)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    return StudyRun(client, parent).openings()


def test_a_model_that_is_not_better_is_refused_and_nothing_changes(enrol):
    client, name = enrol("good", "fair")
    aliases.set_champion(client, name, "1")
    before = client.get_model_version(name, "2")
    with pytest.raises(PromotionRefused, match="macro-F1 -") as refused:
        promote(PromotionConfig(registered_model=name, version=2))
    assert "version 2 was not promoted" in str(refused.value)
    assert aliases_of(client, name) == {"champion": "1"}
    after = client.get_model_version(name, "2")
    assert (after.tags, after.description) == (before.tags, before.description)
    run = promotion_run(client)
    assert (run.info.status, run.data.tags["decision"]) == ("FINISHED", "refused")
    assert "macro-F1 -" in run.data.tags["reason"]


def test_a_dry_run_says_what_would_happen_and_changes_nothing(enrol, capsys):
    client, name = enrol("fair", "good")
    aliases.set_champion(client, name, "1")
    promote(PromotionConfig(registered_model=name, version=2, dry_run=True))
    assert aliases_of(client, name) == {"champion": "1"}
    assert "would become the champion" in capsys.readouterr().out
    assert promotion_run(client).data.tags["decision"] == "would be promoted"
    aliases.set_champion(client, name, "2")
    promote(PromotionConfig(registered_model=name, rollback=True, dry_run=True))
    assert aliases_of(client, name) == {"champion": "2", "previous": "1"}


def test_the_champion_is_not_measured_against_itself(enrol, capsys):
    client, name = enrol("good")
    aliases.set_champion(client, name, "1")
    opened = study_openings(client, name, "1")
    promote(PromotionConfig(registered_model=name, version=1))
    assert "is already the champion" in capsys.readouterr().out
    assert study_openings(client, name, "1") == opened


def test_a_champion_from_other_data_meets_the_candidate_on_its_images(enrol, capsys):
    client, name = enrol("weak", "good")
    aliases.set_champion(client, name, "1")
    promote(PromotionConfig(registered_model=name, version=2))
    assert aliases_of(client, name)["champion"] == "2"
    assert "which has different test images" in capsys.readouterr().out
    good = client.get_model_version(name, "2")
    (data,) = promotion_run(client).inputs.dataset_inputs
    assert data.dataset.digest == good.tags["test_digest"]


def test_a_champion_that_was_trained_on_the_test_images_is_no_measure(enrol):
    client, name = enrol("leak", "good")
    aliases.set_champion(client, name, "1")
    with pytest.raises(PromotionRefused, match="trained on 139 of the 140 test images"):
        promote(PromotionConfig(registered_model=name, version=2))
    assert aliases_of(client, name) == {"champion": "1"}


def test_test_images_that_are_gone_or_others_are_refused(enrol, world, tmp_path):
    client, name = enrol("good")
    csv = world[0] / "faces.csv"
    shutil.move(csv, tmp_path / "kept.csv")
    try:
        with pytest.raises(PromotionRefused, match="cannot be loaded again"):
            promote(PromotionConfig(registered_model=name, version=1))
        shutil.copy(world[0] / "other.csv", csv)
        with pytest.raises(PromotionRefused, match="digest"):
            promote(PromotionConfig(registered_model=name, version=1))
    finally:
        shutil.move(tmp_path / "kept.csv", csv)
    assert aliases_of(client, name) == {}
    assert promotion_run(client).data.tags["decision"] == "refused"


@pytest.mark.parametrize("left", [None, 100])
def test_a_champion_whose_data_are_gone_is_still_compared_and_the_doubt_is_kept(
    enrol, world, tmp_path, capsys, left
):
    client, name = enrol("weak", "good")
    aliases.set_champion(client, name, "1")
    shutil.move(world[0] / "other.csv", tmp_path / "kept.csv")
    if left:  # fewer training images, the same test images
        lines = (tmp_path / "kept.csv").read_text().splitlines()
        (world[0] / "other.csv").write_text("\n".join([lines[0], *lines[-280 - left :]]))
    try:
        promote(PromotionConfig(registered_model=name, version=2))
    finally:
        shutil.move(tmp_path / "kept.csv", world[0] / "other.csv")
    assert "may have been trained on some of these images" in capsys.readouterr().out
    assert aliases_of(client, name)["champion"] == "2"


def test_a_version_that_was_registered_by_hand_is_promoted_like_any_other(enrol, world):
    client, name = enrol()
    client.create_registered_model(name)
    good = world[1]["good"]
    client.create_model_version(name, f"models:/{good['model_id']}")
    promote(PromotionConfig(registered_model=name, version=1))
    assert aliases_of(client, name) == {"champion": "1"}
    assert "Trial 7 of study faces" in client.get_model_version(name, "1").description


def test_a_version_that_no_search_stored_is_refused(enrol):
    client, name = enrol("good")
    client.create_model_version(name, "runs:/abc/model", run_id=None)
    with pytest.raises(StoreError, match="is from no search"):
        promote(PromotionConfig(registered_model=name, version=2))
    assert MlflowClient().get_registered_model(name).aliases == {}


def test_a_model_whose_files_are_gone_is_refused_before_test_is_opened(enrol, world):
    client, name = enrol("good")
    good = world[1]["good"]
    parent = client.get_run(good["run_id"]).data.tags["mlflow.parentRunId"]
    run = StudyRun(client, client.get_run(parent)).trial_run("faces", 8, None)
    run.set_tags({"fer.model_removed": "yesterday: not among the best"})
    model = client.create_logged_model("0", "gone", run.run_id)
    gone = {"model_id": model.model_id, "run_id": run.run_id, "tags": good["tags"]}
    registry.register(client, name, **gone)
    opened = study_openings(client, name, "1")
    said = "files of version 2 are gone: deleted yesterday: not among the best"
    with pytest.raises(PromotionRefused, match=said):
        promote(PromotionConfig(registered_model=name, version=2))
    client.set_registered_model_alias(name, "champion", "2")
    with pytest.raises(PromotionRefused, match=said):
        promote(PromotionConfig(registered_model=name, version=1))
    client.delete_logged_model(model.model_id)
    with pytest.raises(PromotionRefused, match=said):
        promote(PromotionConfig(registered_model=name, version=1))
    assert study_openings(client, name, "1") == opened
    assert promotion_run(client).data.tags["decision"] == "refused"


def test_predictions_are_kept_so_that_a_decision_can_be_checked(enrol, tmp_path):
    client, name = enrol("fair", "good")
    aliases.set_champion(client, name, "1")
    promote(PromotionConfig(registered_model=name, version=2, dry_run=True))
    run = promotion_run(client)
    file = client.download_artifacts(run.info.run_id, "test_predictions.npz", str(tmp_path))
    with np.load(file, allow_pickle=False) as kept:
        hits = kept["candidate_probabilities"].argmax(1) == kept["labels"]
    assert hits.mean() == pytest.approx(run.data.metrics["candidate/test_accuracy"])
