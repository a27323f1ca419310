"""The rate budget: the same rules in Lua and in Python, and neither ever past a broker's limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from brokers.limits import GUARD_US, IST_US, SECOND_US, Granted, LocalBudget, RateBudget, Room, _Counts, rooms_of
from domain.capabilities import Window

BEGINNING = 1_795_500_000 * SECOND_US  # a whole second
DAY = 86_400
KITE = (Window(seconds=1, count=10), Window(seconds=60, count=400), Window(seconds=DAY, count=5000))
TIGHT = (Window(seconds=1, count=10), Window(seconds=60, count=30), Window(seconds=1800, count=45))


class Clock:
    def __init__(self) -> None:
        self.now_us = BEGINNING


def local(windows: tuple[Window, ...], clock: Clock) -> LocalBudget:
    return LocalBudget(rooms_of(windows), clock_us=lambda: clock.now_us)


def test_the_shares_of_a_limit():
    assert rooms_of(KITE) == (Room(1, 9, 8), Room(60, 392, 380), Room(DAY, 4900, 4750))
    assert rooms_of([Window(seconds=1, count=1)]) == (Room(1, 1, 1),)


def test_places_leave_room_for_a_cancel():
    budget = local(KITE, Clock())

    assert budget.take("a", 20).count == 8
    assert budget.take("a", 1).count == 0
    assert budget.take("a", 1, urgent=True).count == 1
    assert budget.take("a", 1, urgent=True).count == 0
    assert budget.take("b", 20).count == 8


def test_the_second_slides():
    clock = Clock()
    budget = local(KITE, clock)
    clock.now_us += 850_000
    first = budget.take("a", 5)
    clock.now_us += 600_000
    second = budget.take("a", 20)
    clock.now_us += round(second.wait_s * SECOND_US) - 1
    early = budget.take("a", 20)
    clock.now_us += 1

    assert (first.count, first.wait_s) == (5, 0.0)
    assert (second.count, second.wait_s) == (3, 0.4)
    assert early.count == 0
    assert budget.take("a", 20).count == 5


def test_nothing_is_granted_at_the_end_of_a_second():
    clock = Clock()
    budget = local(KITE, clock)
    clock.now_us += SECOND_US - GUARD_US
    late = budget.take("a", 1)

    assert (late.count, late.wait_s) == (0, 0.1)


def test_a_day_begins_at_midnight_in_india():
    clock = Clock()
    clock.now_us = (BEGINNING + IST_US) // (DAY * SECOND_US) * DAY * SECOND_US - IST_US - 2 * SECOND_US
    budget = local((Window(seconds=DAY, count=10),), clock)

    assert budget.take("a", 20) == Granted("a", 9, 2.0, clock.now_us, local=True)
    clock.now_us += 2 * SECOND_US
    assert budget.take("a", 20).count == 9


def test_what_is_given_back_may_be_taken_again():
    clock = Clock()
    budget = local(TIGHT, clock)
    granted = budget.take("a", 8)
    budget.give_back(granted, 3)

    assert budget.take("a", 8).count == 3


def test_what_is_given_back_late_is_worth_nothing():
    clock = Clock()
    budget = local((Window(seconds=60, count=10),), clock)
    granted = budget.take("a", 9)
    clock.now_us += 60 * SECOND_US
    assert budget.take("a", 8).count == 8
    budget.give_back(granted, 9)

    assert budget.take("a", 8).count == 1


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "urgent", "give back", "remember"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 25),
        st.one_of(
            st.integers(0, 400_000),
            st.integers(0, 90 * SECOND_US),
            st.sampled_from([0, 1, SECOND_US - 1, SECOND_US, 60 * SECOND_US, -SECOND_US, -70 * SECOND_US]),
        ),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=100, deadline=None)
def test_no_window_is_ever_passed(moves: list[tuple[str, str, int, int]]):
    clock = Clock()
    budget = local(TIGHT, clock)
    seen: list[tuple[int, int]] = []
    for what, _, wanted, later in moves:
        clock.now_us += abs(later)
        granted = budget.take("a", wanted, urgent=what == "urgent")
        assert 0 <= granted.count <= wanted
        if granted.count:
            seen.append((clock.now_us, granted.count))
        if granted.count < wanted:
            assert granted.wait_s > 0
    for seconds, most in ((60, 29), (1800, 44)):
        by_window: dict[int, int] = {}
        for at, count in seen:
            which = (at + IST_US) // (seconds * SECOND_US)
            by_window[which] = by_window.get(which, 0) + count
        assert all(count <= most for count in by_window.values())
    for begin, _ in seen:
        assert sum(count for at, count in seen if begin <= at < begin + SECOND_US) <= 9


@given(steps)
@settings(max_examples=100, deadline=None)
def test_the_wait_is_neither_short_nor_long(moves: list[tuple[str, str, int, int]]):
    clock = Clock()
    budget = local(TIGHT, clock)
    for what, _, wanted, later in moves:
        clock.now_us += abs(later)
        urgent = what == "urgent"
        granted = budget.take("a", wanted, urgent=urgent)
        if granted.count < wanted:
            clock.now_us += round(granted.wait_s * SECOND_US) - 1
            assert budget.take("a", 1, urgent=urgent).count == 0
            clock.now_us += 1
            assert budget.take("a", 1, urgent=urgent).count == 1


@given(steps)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_lua_and_python_say_the_same(redis: Redis, moves: list[tuple[str, str, int, int]]):
    """Step by step over both, the clock going back at times; `remember` in Lua is a take of what is missing here."""
    redis.flushall()
    clock = Clock()
    model, budget = local(TIGHT, clock), RateBudget(redis, "test", TIGHT)
    last: dict[str, tuple[Granted, Granted]] = {}
    for what, account, wanted, later in moves:
        clock.now_us += later
        budget._now_us = clock.now_us
        if what == "give back":
            if account in last:
                ours, theirs = last[account]
                model.give_back(ours, min(wanted, ours.count))
                budget.give_back(theirs, wanted)
        elif what == "remember":
            budget.remember(account, {60: wanted, 1800: wanted})
            _remember(model, account, wanted, clock.now_us)
        else:
            ours = model.take(account, wanted, urgent=what == "urgent")
            theirs = budget.take(account, wanted, urgent=what == "urgent")
            assert replace(theirs, local=True, forgotten=False) == ours
            last[account] = (ours, theirs)


def _remember(model: LocalBudget, account: str, known: int, now_us: int) -> None:
    counts = model._counts.setdefault(account, _Counts())
    for seconds in (60, 1800):
        now_in = (now_us + IST_US) // (seconds * SECOND_US)
        which, used = counts.calendar.get(seconds, (-1, 0))
        counts.calendar[seconds] = (which, max(used, known)) if which >= now_in else (now_in, known)


# ---- with the server's own clock


def test_four_processes_share_one_budget(redis: Redis, valkey_socket: str):
    """Clients on connections of their own, at once: all together get what one would get."""
    total, lock = [], threading.Lock()
    start = threading.Barrier(4)

    def ask() -> None:
        client = Redis(unix_socket_path=valkey_socket)
        budget = RateBudget(client, "test", (Window(seconds=DAY, count=100),))
        start.wait()
        mine = sum(budget.take("a", 7).count for _ in range(10))
        client.close()
        with lock:
            total.append(mine)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(total) == 95


def test_an_account_that_redis_forgot_is_told(redis: Redis):
    budget = RateBudget(redis, "test", KITE)
    budget._now_us = BEGINNING

    assert budget.take("a", 1).forgotten
    assert not budget.take("a", 1).forgotten
    assert not RateBudget(redis, "test", (Window(seconds=1, count=10),), "read").take("a", 1).forgotten


def test_what_the_record_knows_counts(redis: Redis):
    budget = RateBudget(redis, "test", (Window(seconds=DAY, count=100),))
    budget.remember("a", {DAY: 90})
    budget.remember("a", {DAY: 10})

    assert budget.take("a", 50).count == 5


def test_kinds_and_brokers_are_counted_apart_and_keys_end(redis: Redis):
    for broker in ("one", "two"):
        for kind in ("order", "read"):
            assert RateBudget(redis, broker, (Window(seconds=DAY, count=10),), kind).take("a", 20).count == 9
    keys = redis.keys()

    assert sorted(keys) == [f"rate:{b}:{k}:{{a}}:windows".encode() for b in ("one", "two") for k in ("order", "read")]
    assert all(0 < redis.ttl(key) <= DAY + 60 for key in keys)


def test_no_windows_is_no_limit(redis: Redis):
    assert RateBudget(redis, "test", ()).take("a", 1000) == Granted("a", 1000, 0.0)
    assert redis.keys() == []


@pytest.fixture
def nowhere() -> Iterator[Redis]:
    client = Redis(unix_socket_path="/nonexistent/valkey", retry=Retry(NoBackoff(), 0))
    yield client
    client.close()


def test_without_redis_a_process_takes_a_third(nowhere: Redis):
    budget = RateBudget(nowhere, "test", (Window(seconds=60, count=30),))
    granted = budget.take("a", 50)

    assert (granted.count, granted.local) == (9, True)
    budget.give_back(granted, 2)
    budget.remember("a", {60: 5})
    assert budget.take("a", 50).count == 2


def test_redis_is_left_alone_for_a_while_and_then_asked_again(redis: Redis, nowhere: Redis):
    budget = RateBudget(redis, "test", (Window(seconds=DAY, count=30),))
    alone = RateBudget(nowhere, "test", (Window(seconds=DAY, count=30),))
    alone.take("a", 1)
    alone._take = budget._take  # it is back

    assert alone.take("a", 1).local
    alone._away_until = time.monotonic()
    assert not alone.take("a", 1).local
