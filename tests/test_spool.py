import dataclasses

import numpy as np
import pytest

from fer_search import spool
from fer_search.results import EpochMetrics, Evaluation, TrialResult

PARAMS = {"backbone": "tiny", "dropout": 0.3, "flip": True}
IMAGES = {
    "originals": np.zeros((7, 48, 48), np.uint8),
    "augmented": np.ones((2, 7, 48, 48), np.uint8),
    "labels": np.arange(7),
}


def result():
    fields = {field.name: 0.25 for field in dataclasses.fields(EpochMetrics)}
    epochs = tuple(EpochMetrics(**fields | {"epoch": number}) for number in (1, 2))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), 20)
    return TrialResult(
        epochs=epochs, best_epoch=2, validation=Evaluation(np.arange(20) % 7, probabilities),
        views={2: Evaluation(np.arange(20) % 7, probabilities[::-1])},
        train_seconds=1.5, model_parameters=12,
    )  # fmt: skip


def put(folder, number=3, save_model=lambda path: path.write_text("weights")):
    return spool.put(
        folder, number=number, run_id="r", params=PARAMS, result=result(), images=IMAGES,
        save_model=save_model,
    )  # fmt: skip


def test_a_trial_comes_back_as_it_was_put():
    folder = spool.folder_of("run")
    put(folder)
    (found,) = spool.waiting(folder)
    assert (found.number, found.run_id, found.params) == (3, "r", PARAMS)
    assert found.model.read_text() == "weights"
    assert found.result.epochs == result().epochs
    assert found.result.best_epoch == 2
    assert found.result.objective == result().objective
    np.testing.assert_array_equal(
        found.result.validation.probabilities, result().validation.probabilities
    )
    assert set(found.result.views) == {2}
    np.testing.assert_array_equal(
        found.result.views[2].probabilities, result().views[2].probabilities
    )
    assert set(found.images) == set(IMAGES)
    found.remove()
    assert not list(spool.waiting(folder))


def test_what_was_not_written_whole_does_not_count():
    folder = spool.folder_of("run")

    def dies(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(folder, save_model=dies)
    assert not list(spool.waiting(folder))
    spool.sweep(folder)
    assert not list(folder.glob(".draft-*"))


def test_the_draft_of_a_live_worker_is_not_swept():
    folder = spool.folder_of("run")
    draft = folder / ".draft-003-x"
    draft.mkdir()
    with spool.lock_of(folder, 3):
        spool.sweep(folder)
    assert draft.exists()


def test_a_damaged_trial_is_set_aside_and_the_others_are_found(caplog):
    folder = spool.folder_of("run")
    (put(folder, 1).folder / "trial.json").write_text("")
    put(folder, 2)
    assert [found.number for found in spool.waiting(folder)] == [2]
    assert "trial-001" in caplog.text
    assert [found.number for found in spool.waiting(folder)] == [2]


def test_a_trial_that_another_process_delivers_meanwhile_is_passed_over():
    folder = spool.folder_of("run")
    others = [put(folder, number) for number in (1, 2, 3)]
    found = spool.waiting(folder)
    assert next(found).number == 1
    others[1].remove()
    assert [each.number for each in found] == [3]
    assert not list(folder.glob("unreadable*"))


def test_a_removal_that_was_cut_short_is_swept():
    folder = spool.folder_of("run")
    (folder / ".gone-1").mkdir()
    spool.sweep(folder)
    assert not list(folder.glob(".gone*"))


def test_a_second_attempt_replaces_the_first():
    folder = spool.folder_of("run")
    put(folder)
    again = put(folder, save_model=lambda path: path.write_text("better"))
    assert [found.model for found in spool.waiting(folder)] == [again.model]
    assert again.model.read_text() == "better"


def test_trials_wait_in_the_order_of_their_numbers():
    folder = spool.folder_of("run")
    for number in (10, 2, 1):
        put(folder, number)
    assert [found.number for found in spool.waiting(folder)] == [1, 2, 10]
