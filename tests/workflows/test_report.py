"""Reports of studies in real stores: what is read, written, kept and refused."""

import contextlib
import re
import shutil
import time

import numpy as np
import pytest
from pages import Page

from fer_search.command_config import ReportConfig
from fer_search.config import EMOTIONS, SearchConfig
from fer_search.data.preparation import prepare
from fer_search.data.synthetic import draw
from fer_search.errors import ConfigError, StoreError, TrialFailed
from fer_search.results import EpochMetrics, Evaluation, TrialResult
from fer_search.study.space import suggest
from fer_search.study.studies import create_study, open_storage
from fer_search.tracking import store
from fer_search.tracking.runs import StudyRun
from fer_search.workflows.gather import gather
from fer_search.workflows.report import report

CSV_ORDER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


class World:
    """Two stores and a CSV like the challenge's, with synthetic faces."""

    def __init__(self, folder):
        self.storage, self.csv = f"sqlite:///{folder}/optuna.db", folder / "faces.csv"
        images, labels = draw(420, seed=1)
        usages = ["Training"] * 140 + ["PublicTest"] * 140 + ["PrivateTest"] * 140
        lines = ["emotion,pixels,Usage"]
        for image, label, usage in zip(images, labels, usages, strict=True):
            pixels = " ".join(map(str, image.ravel()))
            lines.append(f"{CSV_ORDER.index(EMOTIONS[label])},{pixels},{usage}")
        self.csv.write_text("\n".join(lines))
        self.client = store.connect()
        self.optuna = open_storage(self.storage)

    def begin(self, name, **settings):
        """Make a study as a search does."""
        search = SearchConfig(
            study=name, data=str(self.csv), backbones="tiny", weights="none", image_sizes="48",
            pruner="none", **settings,
        )  # fmt: skip
        splits = prepare(search)
        run = StudyRun(self.client, store.begin_run(self.client, name, search.to_params()))
        run.log_json(splits.report, "data.json")
        facts = {
            "run_id": run.run_id, "train_digest": splits.train_digest,
            "test_digest": splits.test_digest, "seconds_used": 4000.0,
        }  # fmt: skip
        return create_study(self.optuna, search, facts), run, splits


def complete(study, run, splits):
    """Finish a trial as a worker does."""
    trial = study.take()
    trial.ask(lambda hp: suggest(hp, search=study.search, seed=trial.seed))
    trial_run = run.trial_run(study.name, trial.number, None)
    trial.run_id = trial_run.run_id
    epochs = [
        EpochMetrics(
            epoch=n, loss=1.0 / n, accuracy=0.4, val_loss=1.5, val_accuracy=0.4, val_macro_f1=0.1,
            learning_rate=1e-3, images_per_second=9.0,
        )
        for n in (1, 2)
    ]  # fmt: skip
    for epoch in epochs:
        trial_run.log_epochs([epoch])
        trial.report(epoch)
    seen = evaluation(splits.validation.labels, seed=trial.number)
    final = seen.metrics("val") | {"best_epoch": 2, "train_seconds": 61.0}
    trial_run.log_metrics(final, step=0, at=time.time())
    result = TrialResult(
        epochs=tuple(epochs), best_epoch=2, validation=seen, train_seconds=61.0, model_parameters=1
    )
    trial.complete(result)
    trial_run.end_as("COMPLETE")


def evaluation(labels, seed):
    rng = np.random.default_rng(seed)
    right = np.eye(7)[labels] * (rng.random(len(labels)) < 0.5)[:, np.newaxis]
    answers = rng.dirichlet(np.ones(7), len(labels)) + 2 * right
    return Evaluation(labels, answers / answers.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A study with two complete trials, a failed one, and a score on the test set."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        world = World(folder)
        world.study, world.run, splits = world.begin("whole", trials=2)
        complete(world.study, world.run, splits)
        world.study.take().fail(TrialFailed("not_finite", "<b>the loss</b> is NaN"))
        complete(world.study, world.run, splits)
        world.run.log_json({"device": "an engine", "commit": None}, "environment.json")
        world.run.open_test(2, "chosen by validation")
        seen = evaluation(splits.test.labels, seed=7)
        world.run.log_arrays(
            {
                "probabilities_views1": seen.probabilities,
                "probabilities_views2": seen.probabilities,
                "labels": seen.labels,
                "origins": splits.test.origins,
            },
            "test_predictions.npz",
        )
        world.run.set_tags({"best_trial": 2})
        world.run.end("FINISHED")
    return world


@pytest.fixture(autouse=True)
def in_it(world, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{world.csv.parent}/mlflow.db")
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.csv.parent / "cache"))


def ask(world, study, output="report.html"):
    report(ReportConfig(study=study, storage=world.storage, output=output))


def test_a_study_becomes_one_file_that_its_run_keeps_too(world, tmp_path, capsys):
    before = world.run.openings()
    ask(world, "whole")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    tested = world.run.read_arrays("test_predictions.npz")
    seen = Evaluation(tested["labels"], tested["probabilities_views1"])
    assert f"test macro-F1 {seen.macro_f1:.3f} 95 %" in page.text
    assert "<b>the loss</b> is NaN" in page.text
    assert "an engine" in page.text
    assert "1 min 1 s" in page.text, "of training"
    assert any(alt.startswith("Learning curves: best epoch 2") for alt in page.alts)
    assert len([alt for alt in page.alts if alt.startswith("faces.csv:")]) == 24
    assert world.run.openings() == before, "the report opened test"
    with world.run._fetched("report.html") as kept:
        assert kept.read_text(encoding="utf-8") == html
    assert world.client.get_run(world.run.run_id).info.status == "FINISHED"
    said = capsys.readouterr().out
    assert f"Report: {tmp_path}/report.html" in said
    assert world.run.run_id in said
    assert [file.name for file in tmp_path.iterdir() if "report" in file.name] == ["report.html"]


@pytest.mark.slow
def test_studies_side_by_side_by_mlflow_run(world, tmp_path, monkeypatch):
    study, run, _ = world.begin("begun", epochs=5)
    trial = study.take()
    given = world.client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    ask(world, "whole,begun", output="both.html")
    text = Page((tmp_path / "both.html").read_text(encoding="utf-8")).text
    assert "The budget differs: trials: 2 (whole), 50 (begun); epochs: 20 (whole), 5" in text
    assert "0 of 50 trials finished, 1 still running" in text
    for each in (world.run, run):
        with each._fetched("comparison.html") as kept:
            assert Page(kept.read_text(encoding="utf-8")).text == text
    launched = world.client.get_run(given)
    assert launched.info.status == "FINISHED"
    assert launched.data.tags["fer.command"] == "report"
    assert launched.data.tags["fer.study_run"] == f"{world.run.run_id},{run.run_id}"
    trial.give_back()


def test_findings_of_an_older_run_come_from_its_tags(world):
    study, run, _ = world.begin("older")
    commit = {"mlflow.source.git.commit": "c0ffee"}
    run.set_tags({"device": "a brain", "precision": "float32"} | commit)
    found = gather(study, run)
    assert (found.device, found.commit) == ("a brain", "c0ffee")
    assert (found.tested, found.best, found.curves) == (None, None, [])


def test_answers_on_test_count_once_the_run_says_whose_they_are(world):
    study, run, splits = world.begin("interrupted")
    seen = evaluation(splits.test.labels, seed=7)
    arrays = {"labels": seen.labels, "origins": splits.test.origins}
    run.log_arrays(arrays | {"probabilities_views1": seen.probabilities}, "test_predictions.npz")
    assert gather(study, run).tested is None
    run.set_tags({"best_trial": 3})
    assert gather(study, run).tested.trial == 3


def test_images_that_are_gone_or_others_are_not_shown(world, tmp_path):
    text = world.csv.read_text()
    shutil.move(world.csv, tmp_path / "kept.csv")
    try:
        found = gather(world.study, world.run)
        assert found.splits is None
        assert "faces.csv is neither a known source nor a path" in found.no_images
        world.csv.write_text(re.sub(r",\d+ ", ",7 ", text))
        found = gather(world.study, world.run)
        assert found.splits is None
        assert "has changed since" in found.no_images
    finally:
        shutil.move(tmp_path / "kept.csv", world.csv)
    assert gather(world.study, world.run).no_images == ""


def test_an_unknown_study_is_refused_with_those_that_are_there(world, tmp_path):
    with pytest.raises(StoreError, match=r"(?s)no study 'nobody'.*known there: .*whole"):
        ask(world, "nobody")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "output", ["nowhere/report.html", ".", "file/report.html", "/dev/null", "~nobody123/r.html"]
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path, output):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"(?s)cannot be written.*name a file"):
        report(ReportConfig(study="s", storage=f"sqlite:///{tmp_path}/new.db", output=output))
    assert not (tmp_path / "new.db").exists()
