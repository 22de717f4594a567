"""Handmade findings: a report needs only values, no store."""

import dataclasses

import pytest
from made import HOSTILE, answers, trial
from small_data import drawn_splits

from fer_search.config import SearchConfig
from fer_search.reporting.findings import Findings
from fer_search.results import EpochMetrics


@pytest.fixture(scope="session")
def splits():
    return drawn_splits()


@pytest.fixture(scope="session")
def whole(splits):
    """A finished study: trial 1 is the best, trial 3 failed."""
    failure = {"failure.kind": "not_finite", "failure.message": HOSTILE}
    epochs = [
        EpochMetrics(
            epoch=n, loss=1.0 / n, accuracy=0.4, val_loss=1.5, val_accuracy=0.4,
            val_macro_f1=0.1 * n, learning_rate=1e-3, images_per_second=9.0,
        )
        for n in (1, 2)
    ]  # fmt: skip
    return Findings(
        search=SearchConfig(study="whole", trials=3, data="synthetic", backbones="tiny"),
        facts={
            "train_digest": splits.train_digest, "test_digest": splits.test_digest,
            "space": "f" * 32, "seconds_used": 4000.0,
        },
        run_id="0" * 32,
        began=0.0,
        made=1000.0,
        trials=[
            trial(0, "COMPLETE", 0.3), trial(1, "COMPLETE", 0.5), trial(2, "PRUNED", 0.2),
            trial(3, "FAIL", failure=failure),
        ],
        importances={"dropout": 0.7, "flip": 0.3},
        metrics={1: {"val_f1_angry": 0.125, "best_epoch": 2.0, "train_seconds": 61.0}},
        curves=epochs,
        data=splits.report,
        environment={"device": "an engine", "packages": {"keras": "1.2"}, "commit": "c0ffee"},
        openings=[{"trial": 1, "at": "2026-11-22T21:11:36+00:00", "why": "chosen by validation"}],
        tested=answers(splits),
        splits=splits,
        no_images="",
    )  # fmt: skip


@pytest.fixture(scope="session")
def begun(whole):
    """A study whose first trial is running, with nothing else known about it."""
    return dataclasses.replace(
        whole, search=SearchConfig(study="begun"), trials=[trial(0, "RUNNING")], importances={},
        metrics={}, curves=[], data={}, environment={}, openings=[], tested=None, splits=None,
        no_images="they are elsewhere",
    )  # fmt: skip
