import pytest

from fer_search.workflows.worker_pool import WorkerPool


class Begun:
    """A worker that ends when it is asked to."""

    name = "worker 0"

    def __init__(self):
        self.ended = False
        self.asked = False

    def status(self):
        return 0 if self.asked else None

    def printed(self):
        return ""

    def ask_to_stop(self):
        self.asked = True

    def end(self, seconds):
        self.ended = self.asked


def test_a_pool_that_is_stopped_while_it_starts_ends_those_that_began():
    first = Begun()

    def start(place):
        if place == 1:
            raise KeyboardInterrupt
        return first

    with pytest.raises(KeyboardInterrupt):
        WorkerPool(2, start)
    assert first.ended
