"""Work beside: nobody waits for it, it runs once at a time, and what it was asked for meanwhile is done by one run more."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from domain.errors import StoreAway
from pipeline.beside import Beside

PATIENCE_S = 5.0


class Slow:
    """Work that ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Semaphore(0), threading.Semaphore(0)
        self.runs = self.at_once = self.most_at_once = 0
        self.trouble: Exception | None = None

    def __call__(self) -> None:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.release()
        assert self.may_end.acquire(timeout=PATIENCE_S)
        self.at_once -= 1
        if self.trouble is not None:
            raise self.trouble

    def has_begun(self) -> bool:
        return self.begun.acquire(timeout=PATIENCE_S)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def beside(slow: Slow) -> Iterator[Beside]:
    beside = Beside("slow work", slow)
    yield beside
    slow.may_end.release(100)
    beside.close(PATIENCE_S)


def test_whoever_asks_does_not_wait_and_many_who_ask_meanwhile_get_one_run(slow: Slow, beside: Beside) -> None:
    beside.ask()
    assert slow.has_begun()
    for _ in range(50):
        beside.ask()

    slow.may_end.release()
    assert slow.has_begun()
    slow.may_end.release()
    beside.close(PATIENCE_S)

    assert (slow.runs, slow.most_at_once) == (2, 1)


def test_it_runs_again_whenever_it_is_asked_for(slow: Slow, beside: Beside) -> None:
    for _ in range(3):
        beside.ask()
        assert slow.has_begun()
        slow.may_end.release()

    beside.close(PATIENCE_S)
    assert slow.runs == 3


@pytest.mark.parametrize("trouble", [StoreAway("the database is busy"), RuntimeError("not today")])
def test_a_failure_ends_one_run_and_no_other(slow: Slow, beside: Beside, trouble: Exception) -> None:
    slow.trouble = trouble
    beside.ask()
    assert slow.has_begun()
    slow.may_end.release()

    beside.ask()

    assert slow.has_begun()


def test_nothing_is_begun_once_it_is_closed(slow: Slow, beside: Beside) -> None:
    beside.ask()
    assert slow.has_begun()
    beside.ask()

    beside.close(0.01)
    slow.may_end.release()
    beside.ask()
    beside.close(PATIENCE_S)

    assert slow.runs == 1
