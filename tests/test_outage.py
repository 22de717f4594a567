"""Unavailable stores: distinguished from stores that refuse, waited for, and caught up with."""

import http.server
import sqlite3
import threading
import time

import pytest
import requests
import sqlalchemy
from mlflow import MlflowClient

from fer_search.results import EpochMetrics
from fer_search.tracking.outage import is_outage, patiently
from fer_search.tracking.outbox import Outbox


def raised(call, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(*arguments)
    return caught.value


@pytest.fixture
def answering():
    """A function that starts a server that answers every request with one status."""
    servers = []

    def start(status):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "is_away"), [(None, True), (503, True), (400, False)])
def test_a_server_that_is_away_is_told_from_one_that_refuses(
    answering, monkeypatch, status, is_away
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = answering(status) if status else "http://127.0.0.1:9"
    error = raised(MlflowClient(address).search_experiments)
    assert is_outage(error) == is_away


@pytest.mark.parametrize(
    ("said", "is_away"),
    [
        ('connection to server at "db", port 5432 failed: Connection refused', True),
        ("server closed the connection unexpectedly", True),
        ("SSL SYSCALL error: EOF detected", True),
        ("(1213, 'Deadlock found when trying to get lock; try restarting transaction')", True),
        ("(1205, 'Lock wait timeout exceeded; try restarting transaction')", True),
        ('connection to server failed: FATAL:  password authentication failed for "me"', False),
        ('connection to server failed: FATAL:  database "fer" does not exist', False),
    ],
)
def test_a_database_server_that_says_no_is_not_waited_for(said, is_away):
    error = sqlalchemy.exc.OperationalError("select 1", {}, Exception(said))
    assert is_outage(error) == is_away


def test_a_locked_database_is_told_from_a_wrong_one(tmp_path):
    file = tmp_path / "o.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", connect_args={"timeout": 0})

    def write(table):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"CREATE TABLE {table} (x)"))

    write("there")
    other = sqlite3.connect(file)
    other.execute("BEGIN EXCLUSIVE")
    assert is_outage(raised(write, "locked"))
    other.close()
    assert not is_outage(raised(write, "there"))
    engine.dispose()


def test_a_bug_is_no_outage_and_is_not_tried_again():
    calls = []

    def buggy():
        calls.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        patiently(buggy)
    assert len(calls) == 1


def test_who_is_away_for_too_long_is_not_waited_for():
    began = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        patiently(away, patience=0.5)
    assert time.monotonic() - began < 5


def away():
    raise requests.ConnectionError("nobody there")


class Run:
    """A run whose store is unavailable for the first calls."""

    def __init__(self, outages):
        self.outages, self.written = outages, []

    def log_epochs(self, epochs):
        if self.outages:
            self.outages -= 1
            away()
        self.written += [epoch.epoch for epoch in epochs]


def epoch(number):
    return EpochMetrics(
        epoch=number, loss=1.0, accuracy=0.1, val_loss=1.0, val_accuracy=0.2, val_macro_f1=0.3,
        learning_rate=1e-3, images_per_second=9.0,
    )  # fmt: skip


def test_epochs_wait_for_the_store_and_training_does_not():
    run = Run(outages=1)
    outbox, began = Outbox(run), time.monotonic()
    for number in (1, 2, 3):
        outbox.put(epoch(number))
    assert time.monotonic() - began < 0.5
    outbox.close()
    assert run.written == [1, 2, 3]


def test_what_is_written_keeps_its_order_and_waiting_epochs_go_together():
    run, calls = Run(outages=1), []
    run.log_epochs = lambda epochs: calls.append([epoch.epoch for epoch in epochs])
    outbox, may_go_on = Outbox(run), threading.Event()
    outbox.put(lambda: calls.append("parameters") or may_go_on.wait(10))
    for what in (epoch(1), epoch(2), lambda: calls.append("tag"), epoch(3)):
        outbox.put(what)
    may_go_on.set()
    outbox.close()
    assert calls == ["parameters", [1, 2], "tag", [3]]


def test_a_store_that_stays_away_ends_the_trial_at_the_next_epoch():
    outbox = Outbox(Run(outages=9), patience=0.0)
    outbox.put(epoch(1))
    outbox._thread.join(10)
    with pytest.raises(requests.ConnectionError):
        outbox.put(epoch(2))
    with pytest.raises(requests.ConnectionError):
        outbox.close()


def test_who_is_told_to_stop_does_not_wait():
    outbox, began = Outbox(Run(outages=9)), time.monotonic()
    outbox.put(epoch(1))
    outbox.close(seconds=3)
    assert time.monotonic() - began < 3
