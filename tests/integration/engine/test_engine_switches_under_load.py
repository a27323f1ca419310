"""Switches while many work: a halt within a second, and no position closed beyond what it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from house import BookedBroker, FakeBroker, House, change_engine, eventually, intake_engine, outcome_engine
from switch_room import MIS, hold, switch
from works import Works

from brokers.base import Line
from domain.outcomes import Outcome
from domain.switches import Mode
from pipeline import aftermath
from store import settings


@pytest.fixture
def broker() -> BookedBroker:
    return BookedBroker()


@contextmanager
def running(*loops: Callable[[], object]) -> Iterator[None]:
    """Each in a thread of its own, again and again."""
    over = threading.Event()
    errors: list[BaseException] = []

    def run(loop: Callable[[], object]) -> None:
        while not over.wait(0.002):
            try:
                loop()
            except BaseException as error:  # noqa: BLE001 - told by the test
                errors.append(error)
                return

    threads = [threading.Thread(target=run, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
    assert errors == []


def test_64_orders_at_once_never_close_more_than_the_position(house: House, broker: BookedBroker) -> None:
    works = Works(house, broker)
    hold(works, broker, 100)
    switch(works.desk, Mode.REDUCING)
    desks = [house.desk(broker) for _ in range(4)]
    house.accept_many(64, quantity=7, side="SELL", **MIS)
    engines = [intake_engine(desk) for desk in desks]
    dispatchers = [house.dispatcher(desk) for desk in desks]

    with running(*(lambda e=e: e.run("validate", "-") for e in engines), *(lambda d=d: d.pump("-") for d in dispatchers)):
        eventually(lambda: not house.rows("select 1 from commands where stage <> 'notify' and stage <> 'persist' limit 1"))
        eventually(lambda: all(dispatcher.is_idle for dispatcher in dispatchers))

    sold = sum(line.order.quantity for call in broker.calls for line in call if line.order.side == "SELL")
    assert sold == 98
    assert house.rows("select count(*) from orders where reason_code = 'REDUCING_ONLY'") == [(64 - 14,)]
    house.check()


def test_64_cleared_orders_never_close_more_than_the_position_at_the_gate(house: House, broker: BookedBroker) -> None:
    works = Works(house, broker)
    hold(works, broker, 100)
    house.accept_many(64, quantity=7, side="SELL", **MIS)
    works.clear()
    switch(works.desk, Mode.REDUCING)
    dispatchers = [house.dispatcher(house.desk(broker)) for _ in range(4)]

    with running(*(lambda d=d: d.pump("-") for d in dispatchers)):
        eventually(lambda: not house.rows("select 1 from commands where stage like 'dispatch%%' limit 1"))
        eventually(lambda: all(dispatcher.is_idle for dispatcher in dispatchers))

    sold = sum(line.order.quantity for call in broker.calls for line in call if line.order.side == "SELL")
    assert sold == 98
    house.check()


def crowd() -> float:
    """How many share a processor here: a second of a machine that others use, too, is longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class TimedBroker(FakeBroker):
    """Knows when each order came."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.came: dict[str, float] = {}
        self._pause_s = pause_s

    def place(self, session: Any, lines: Sequence[Line], **given: Any) -> Sequence[Outcome]:
        for line in lines:
            self.came[line.order.id] = time.monotonic()
        threading.Event().wait(self._pause_s)
        return super().place(session, lines, **given)


def test_a_halt_under_load_stops_everything_within_a_second(house: House) -> None:
    """Judged by the broker: at the answer whoever is to come has an attempt already, and comes at once."""
    broker = TimedBroker(0.01)
    desks = [house.desk(broker) for _ in range(4)]
    with house.store.unit() as unit:
        settings.change(unit, "orders_per_s_max", None, by="test")
    house.accept_many(30, 20)
    engines = [intake_engine(desk) for desk in desks[:2]]
    cancels = change_engine(desks[2])
    dispatchers = [house.dispatcher(desk) for desk in desks[2:]]
    outcomes = outcome_engine(desks[3])

    with running(
        *(lambda e=e: e.run("validate", "-") for e in engines),
        lambda: cancels.run("cancel", "-"),
        *(lambda d=d: d.pump("-") for d in dispatchers),
        lambda: outcomes.run("persist", "-"),
    ):
        eventually(lambda: len(broker.came) >= 100)
        switch(house.desk(), Mode.HALTED)
        answered = time.monotonic()
        begun = {row[0] for row in house.rows("select order_id from attempts")}
        aftermath.carry_out(house.desk())
        eventually(lambda: not house.rows("select 1 from orders where state in ('RECEIVED', 'HELD') limit 1"))
        took_s = time.monotonic() - answered
        eventually(lambda: all(dispatcher.is_idle for dispatcher in dispatchers))

    assert len(begun) < 600, "the halt came while there was work"
    assert set(broker.came) <= begun
    late_s = max((came - answered for came in broker.came.values()), default=0.0)
    print(f"no unsent order left {took_s:.3f} s after the answer; the last call began {late_s * 1000:.0f} ms after it")
    assert took_s < 1.0 * crowd()
    assert late_s < 0.25 * crowd()
    house.check()


def test_whoever_sends_is_done_before_the_answer_of_a_halt(house: House) -> None:
    """A gate that has let an order pass is waited for; the halt's answer comes after its attempt is committed."""
    works = Works(house, BookedBroker())
    works.received()
    works.clear()
    passed, go_on = threading.Event(), threading.Event()
    dispatcher = house.dispatcher(works.desk)
    prepare = dispatcher._prepare

    def slowly(*given: Any) -> Any:
        passed.set()
        assert go_on.wait(2)
        return prepare(*given)

    dispatcher._prepare = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as threads:
        sending = threads.submit(dispatcher.pump, "-")
        assert passed.wait(5)
        halting = threads.submit(switch, house.desk(), Mode.HALTED)
        eventually(
            lambda: house.rows("select 1 from pg_locks where locktype = 'advisory' and classid = 7302 and not granted")
        )
        assert not halting.done()
        go_on.set()
        assert sending.result(5) == 1
        halting.result(5)
    assert house.rows("select count(*) from attempts") == [(1,)]
