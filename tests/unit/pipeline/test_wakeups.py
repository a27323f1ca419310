"""Wake-ups of one stage that wait together become one, which looks as far back as any of them asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.wakeups import DEEP, Wakeups

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ASKED = st.one_of(
    st.none(),
    st.just(DEEP),
    st.integers(0, 10**9).map(lambda microseconds: NOON + timedelta(microseconds=microseconds)),
)


@given(st.lists(ASKED, min_size=1, max_size=6))
def test_what_waits_together_looks_as_far_back_as_any_asked(asked: list[datetime | str | None]) -> None:
    wakeups = Wakeups("amqp://localhost")  # not started: what is asked for stays pending
    for since in asked:
        if since == DEEP:
            wakeups.wake("risk", deep=True)
        else:
            assert not isinstance(since, str)
            wakeups.wake("risk", since=since)

    times = [since for since in asked if isinstance(since, datetime)]
    expected = DEEP if DEEP in asked else min(times).isoformat() if times else None
    assert wakeups._pending == {"risk": expected}


def test_stages_wait_each_for_themselves() -> None:
    wakeups = Wakeups("amqp://localhost")
    wakeups.wake("risk")
    wakeups.wake("margin", deep=True)

    assert wakeups._pending == {"risk": None, "margin": DEEP}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wakeups, SimpleQueue[tuple[str, float]]]]:
    """A publisher without a queue behind it, and what it would have published, and when."""
    wakeups, told = Wakeups("amqp://localhost"), SimpleQueue[tuple[str, float]]()
    monkeypatch.setattr(wakeups, "_publish", lambda stage, _since: told.put((stage, time.monotonic())))
    wakeups.start()
    yield wakeups, told
    wakeups.stop(5.0)


def test_a_later_wakeup_comes_when_it_is_due_and_not_before(
    published: tuple[Wakeups, SimpleQueue[tuple[str, float]]],
) -> None:
    wakeups, told = published
    started = time.monotonic()
    wakeups.wake_later("risk", 0.15)
    wakeups.wake("margin")

    assert told.get(timeout=5)[0] == "margin"
    stage, at = told.get(timeout=5)
    assert stage == "risk"
    assert at - started >= 0.15


def test_a_thousand_later_wakeups_take_no_thread_and_become_few(
    published: tuple[Wakeups, SimpleQueue[tuple[str, float]]],
) -> None:
    wakeups, told = published
    threads = threading.active_count()
    for number in range(1_000):
        wakeups.wake_later("risk", 0.1 + number / 10_000)

    assert threading.active_count() == threads
    assert len(wakeups._later) <= 30
    assert told.get(timeout=5)[0] == "risk"


@pytest.mark.parametrize("is_started", [True, False])
def test_stopping_takes_no_queue(is_started: bool) -> None:
    wakeups = Wakeups("amqp://localhost")
    if is_started:
        wakeups.start()

    wakeups.stop(2.0)

    assert not wakeups._thread.is_alive()
