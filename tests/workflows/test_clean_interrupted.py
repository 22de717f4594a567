"""Cleaning that is killed, or that runs during a promotion: nothing is lost."""

import itertools
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from small_store import (
    CLEANED,
    NAME,
    SMALL,
    aliases_of,
    begin_study,
    end_state,
    loads,
    run_clean,
    stored,
)  # fmt: skip

from fer_search.errors import StoreError
from fer_search.tracking import aliases, models

pytestmark = pytest.mark.slow
WRITES = {
    MlflowClient: [
        "create_run", "log_param", "log_batch", "log_dict", "set_terminated", "update_run",
        "set_experiment_tag", "set_tag", "set_logged_model_tags", "delete_logged_model_tag",
        "delete_model_version", "delete_logged_model", "set_registered_model_alias",
        "delete_registered_model_alias",
    ],
    LocalArtifactRepository: ["delete_artifacts"],
}  # fmt: skip


def killed_before(patch, n):
    """Die before write number `n`, counted from 0; one that deletes files dies halfway."""
    written = []

    def wrap(cls, method):
        real = getattr(cls, method)

        def call(self, *arguments, **more):
            written.append(method)
            if len(written) > n:
                if method == "delete_artifacts":
                    (Path(self.artifact_uri) / "MLmodel").unlink(missing_ok=True)
                raise KeyboardInterrupt
            return real(self, *arguments, **more)

        patch.setattr(cls, method, call)

    for cls, methods in WRITES.items():
        for method in methods:
            wrap(cls, method)
    return written


N_WRITES = 23
OF_ONE_MODEL = slice(11, 16)
"""The writes that delete the model of trial 1 and its version."""


def test_undisturbed_it_ends_so_after_so_many_writes(client, monkeypatch):
    with monkeypatch.context() as patch:
        written = killed_before(patch, 1000)
        run_clean(apply=True, versions=True)
    assert len(written) == N_WRITES
    assert written[OF_ONE_MODEL] == [
        "set_logged_model_tags", "delete_model_version", "delete_artifacts", "set_tag",
        "delete_logged_model",
    ]  # fmt: skip
    assert end_state(client) == CLEANED


def kill_and_run_again(client, monkeypatch, n):
    with monkeypatch.context() as patch:
        killed_before(patch, n)
        with pytest.raises(KeyboardInterrupt):
            run_clean(apply=True, versions=True)
    for alias in ("challenger", "champion"):
        assert loads(f"models:/{NAME}@{alias}")
    run_clean(apply=True, versions=True)
    assert end_state(client) == CLEANED


@pytest.mark.parametrize("n", range(N_WRITES)[OF_ONE_MODEL])
def test_killed_while_deleting_a_model_it_can_be_run_again(client, monkeypatch, n):
    kill_and_run_again(client, monkeypatch, n)


@pytest.mark.slow
@pytest.mark.parametrize("n", set(range(N_WRITES)) - set(range(N_WRITES)[OF_ONE_MODEL]))
def test_killed_between_any_two_writes_it_can_be_run_again(client, monkeypatch, n):
    kill_and_run_again(client, monkeypatch, n)


def test_a_deletion_that_was_begun_and_is_not_wanted_any_more_is_taken_back(client, monkeypatch):
    with monkeypatch.context() as patch:
        killed_before(patch, OF_ONE_MODEL.start + 1)
        with pytest.raises(KeyboardInterrupt):
            run_clean(apply=True, versions=True)
    assert stored(client)[1].begun
    with pytest.raises(StoreError, match="version 2 of 'fer-emotion' is gone, or"):
        aliases.set_champion(client, NAME, "2")
    assert aliases_of(client)["champion"] == "3"
    run_clean(apply=True)
    assert not stored(client)[1].begun
    aliases.set_champion(client, NAME, "2")
    assert aliases_of(client)["champion"] == "2"


class Turns:
    """Lets two threads call MLflow in turns, each for a given number of calls.

    Args:
        patch: The monkeypatch for MLflow's client.
        counts: Calls of the first thread, of the second, of the first …; then each runs to its end.
    """

    CALLS = (
        "search_model_versions", "get_registered_model", "get_model_version",
        "get_model_version_by_alias", "get_logged_model", "set_model_version_tag",
        "set_registered_model_alias", "delete_registered_model_alias", "set_logged_model_tags",
        "delete_logged_model_tag", "delete_model_version", "delete_logged_model",
    )  # fmt: skip

    def __init__(self, patch, counts):
        turns = enumerate((*counts, 999, 999))
        self.left = [[("first", "second")[turn % 2], count] for turn, count in turns]
        self.changed = threading.Condition()
        self.inside = threading.local()
        for name in self.CALLS:
            patch.setattr(MlflowClient, name, self.in_turn(getattr(MlflowClient, name)))

    def in_turn(self, real):
        def call(*arguments, **more):
            if getattr(self.inside, "call", False):  # an MLflow method calls another one
                return real(*arguments, **more)
            with self.changed:
                self.changed.wait_for(lambda: self.whose() == threading.current_thread().name)
                self.left[0][1] -= 1
                self.inside.call = True
                try:
                    return real(*arguments, **more)
                finally:
                    self.inside.call = False
                    self.changed.notify_all()

        return call

    def whose(self):
        while not self.left[0][1]:
            self.left.pop(0)
        return self.left[0][0]

    def run(self, **actions):
        """Run the actions in threads; return what each of them returned or raised."""
        results = {}

        def act(name, action):
            try:
                results[name] = action()
            except Exception as error:
                results[name] = error
            with self.changed:
                self.left = [turn for turn in self.left if turn[0] != name] or [["nobody", 1]]
                self.changed.notify_all()

        threads = [
            threading.Thread(target=act, args=each, name=each[0]) for each in actions.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def meet(client, monkeypatch, model, *counts):
    """Delete the model of a version while a promotion makes that version the champion."""
    before = aliases_of(client)["champion"]
    (version,) = model.versions
    with monkeypatch.context() as patch:
        result = Turns(patch, counts).run(
            first=lambda: models.delete(client, model, versions=True, why="x"),
            second=lambda: aliases.set_champion(client, NAME, version.number),
        )
    is_set = result["second"] is None
    assert is_set or isinstance(result["second"], StoreError), result
    is_kept = result["first"] == f"{version} is champion"
    assert is_kept or result["first"] == "", result
    assert aliases_of(client)["champion"] == (version.number if is_set else before)
    assert loads(f"models:/{NAME}@champion")
    return "promoted" if is_set else "refused", "kept" if is_kept else "deleted"


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        pytest.param((0, 99), ("promoted", "kept"), id="promoted_first"),
        pytest.param((99, 0), ("refused", "deleted"), id="deleted_first"),
        pytest.param((1, 99), ("refused", "deleted"), id="promoted_after_the_mark"),
        pytest.param((0, 3), ("promoted", "kept"), id="marked_after_the_alias"),
        pytest.param((1, 3, 4, 2), ("refused", "kept"), id="both_step_back"),
        pytest.param((7, 3), ("refused", "deleted"), id="alias_after_the_look"),
    ],
)
def test_a_promotion_and_a_deletion_at_once_leave_a_champion_with_files(
    client, monkeypatch, counts, outcome
):
    assert meet(client, monkeypatch, stored(client)[1], *counts) == outcome


@pytest.mark.slow
def test_however_a_promotion_and_a_deletion_meet_the_champion_has_files(client, monkeypatch):
    outcomes = set()
    for counts in itertools.product(range(1, 9), range(1, 6), (1, 2, 4)):
        study = "-".join(map(str, counts))
        begin_study(client, study, {0: (0.5, SMALL, True)})
        (model,) = models.inventory(client, study)
        outcomes.add(meet(client, monkeypatch, model, *counts))
    assert outcomes == {("promoted", "kept"), ("refused", "deleted"), ("refused", "kept")}
