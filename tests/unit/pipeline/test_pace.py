"""The pace of batches: none waits on an idle machine; on a busy one they come further apart, and not without end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import pipeline.pace
from pipeline.pace import MOST_S, REST, Pace


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(pipeline.pace, "time", SimpleNamespace(monotonic=lambda: self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def pace(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Pace:
    made = Pace(0.012)
    monkeypatch.setattr(made, "_never", SimpleNamespace(wait=clock.wait))
    return made


def a_batch(pace: Pace, clock: Clock, took_s: float) -> float:
    """When it began, and that it took so long."""
    began_at = pace.keep()
    assert clock.now == began_at
    clock.now += took_s
    pace.took(began_at)
    return began_at


def test_the_first_batch_and_one_after_a_pause_begin_at_once(pace, clock):
    assert a_batch(pace, clock, 0.005) == 100.0
    clock.now = 101.0
    assert a_batch(pace, clock, 0.005) == 101.0


def test_quick_batches_keep_the_interval(pace, clock):
    assert a_batch(pace, clock, 0.003) == 100.0
    assert a_batch(pace, clock, 0.003) == pytest.approx(100.012)


def test_slow_batches_are_followed_by_a_rest_that_has_an_end(pace, clock):
    first = a_batch(pace, clock, 0.015)
    second = a_batch(pace, clock, 0.9 * MOST_S)
    third = a_batch(pace, clock, 1.0)
    fourth = pace.keep()

    assert second - first == pytest.approx(REST * 0.015)
    assert third - second == pytest.approx(MOST_S)
    assert fourth == clock.now == third + 1.0  # at once: it took longer than any rest


def test_a_look_that_found_nothing_is_followed_by_no_more_than_the_interval(pace, clock):
    pace.keep()
    clock.now += 0.001
    assert pace.keep() == pytest.approx(100.012)


def test_threads_that_come_together_begin_one_after_another(pace, clock):
    assert [pace.keep() for _ in range(3)] == pytest.approx([100.0, 100.012, 100.024])
