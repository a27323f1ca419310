"""The sweep: what makes progress certain where a message was lost, a worker died, or nobody is at work."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pika
import pytest
from dramatiq.common import dq_name, xq_name
from dramatiq.worker import Worker
from house import SECRET, FakeBroker, House, NotedWakeups, eventually, intake_engine
from proxies import Proxy
from shared_services import SharedServices

import pipeline.chain
from domain.errors import StoreAway
from domain.ids import new_id
from domain.outcomes import Accepted
from domain.verdicts import Proceed
from ops import clock
from pipeline.chain import queue_of
from pipeline.desk import Desk
from pipeline.queueview import QueueView
from pipeline.rabbit import connect
from pipeline.sweep import Sweep
from pipeline.wakeups import Wakeups
from pipeline.worker import _declare, _engine_handler

logging.getLogger("pika").setLevel(logging.CRITICAL)
Mortal = Callable[..., int]
DYING = Path(__file__).with_name("dying_worker.py")


@pytest.fixture
def channel(queue_url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(queue_url))
    yield connection.channel()
    connection.close()


@pytest.fixture
def queue(house: House, queue_url: str, monkeypatch: pytest.MonkeyPatch, channel: Any) -> Iterator[str]:
    """The house's queue, with queues of this test's own."""
    monkeypatch.setattr(pipeline.chain, "QUEUE_PREFIX", f"test.{new_id()[-12:]}.")
    house.queue_url = queue_url
    yield queue_url
    house.close()
    for stage in ("validate", "risk", "margin", "route", "persist", "dispatch.fake", "reports.fake"):
        for name in (queue_of(stage), dq_name(queue_of(stage)), xq_name(queue_of(stage))):
            channel.queue_delete(name)


@pytest.fixture
def wire(queue_url: str) -> Iterator[Proxy]:
    proxy = Proxy(queue_url)
    yield proxy
    proxy.close()


def sweep_of(house: House, desk: Desk) -> Sweep:
    sweep = Sweep(desk)
    house._closing.append(sweep.close)
    return sweep


def overdue(house: House) -> None:
    house.run("update commands set due_at = now() - interval '2 seconds' where state = 'READY'")
    house.run("update commands set lease_until = now() - interval '2 seconds' where lease_until is not null")
    house.run("update claims set opened_at = opened_at - interval '1 minute'")


class Processes:
    """A clock and a worker of the intake group, as threads with everything else real."""

    def __init__(self, house: House, queue_url: str) -> None:
        self.desk = with_wakeups(house.desk(), queue_url)
        self._stopping = threading.Event()
        self._broker = connect(queue_url)
        group = intake_engine(self.desk)._group
        for stage in group.policies:
            _declare(self._broker, stage, _engine_handler(self.desk, group, stage))
        self._worker = Worker(self._broker, worker_threads=1, worker_timeout=50)
        self._clock = threading.Thread(target=clock.tick_until, args=(self._stopping, self.desk))

    def __enter__(self) -> Processes:
        self._worker.start()
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._clock.join()
        self._worker.stop(timeout=2000)
        self._broker.close()


def with_wakeups(desk: Desk, queue_url: str) -> Desk:
    desk.environment = replace(desk.environment, queue_url=queue_url)
    desk.wakeups = Wakeups(queue_url)
    desk.wakeups.start()
    return desk


def test_a_lost_wakeup_costs_two_seconds_and_no_order(house: House, queue: str) -> None:
    with Processes(house, queue):
        (first,) = house.accept_many(1)  # whose wake-ups go nowhere
        eventually(lambda: house.command(first).stage == "dispatch.fake")
        started = time.monotonic()
        (second,) = house.accept_many(1)
        eventually(lambda: house.command(second).stage == "dispatch.fake")
        took = time.monotonic() - started

    assert took < 4.0  # two, on a machine with nothing else to do


def test_orders_are_accepted_while_the_queue_is_away_and_run_when_it_is_back(
    house: House, queue: str, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.05)
    with Processes(house, wire.url) as processes:
        wire.cut()
        ids = [line.order_id for line in house.accept(3, desk=processes.desk).lines]
        assert {house.command(order_id).stage for order_id in ids} == {"validate"}
        wire.mend()

        eventually(lambda: {house.command(order_id).stage for order_id in ids} == {"dispatch.fake"})


def test_the_sweep_wakes_overdue_stages_and_piles_nothing_up(house: House, queue: str) -> None:
    house.accept_many(3)
    desk = with_wakeups(house.desk(), queue)
    sweep, view = sweep_of(house, desk), QueueView(queue)
    sweep.run()
    assert view.depth(queue_of("validate")) == (0, 0)  # not overdue yet

    overdue(house)
    for _ in range(3):
        sweep.run()
        eventually(lambda: view.depth(queue_of("validate")) == (1, 0))
    view.close()

    assert sweep.alarms["validate"] == "work waits and nobody consumes"


def test_one_clock_sweeps_and_when_it_dies_the_other_does(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[Desk] = []
    monkeypatch.setattr(Sweep, "run", lambda self: swept.append(self._desk))
    monkeypatch.setattr(clock, "TICK_S", 0.05)
    wire = Proxy(house.database_url)
    stopping = threading.Event()
    desks = [house.desk(database_url=wire.url), house.desk()]
    threads = [threading.Thread(target=clock.tick_until, args=(stopping, desk)) for desk in desks]
    threads[0].start()
    eventually(lambda: len(swept) > 3)
    threads[1].start()
    eventually(lambda: len(swept) > 10)
    assert {id(desk) for desk in swept} == {id(desks[0])}

    wire.cut()

    eventually(lambda: desks[1] in swept)
    swept.clear()
    eventually(lambda: len(swept) > 5)
    assert {id(desk) for desk in swept} == {id(desks[1])}
    stopping.set()
    for thread in threads:
        thread.join()
    wire.close()


def test_partitions_that_cannot_be_made_do_not_stop_the_sweep(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []
    stopping = threading.Event()
    monkeypatch.setattr(Sweep, "run", lambda self: swept.append(1))
    monkeypatch.setattr(clock, "TICK_S", 0.01)
    monkeypatch.setattr(clock, "_make_partitions", lambda desk: 1 // 0)
    thread = threading.Thread(target=clock.tick_until, args=(stopping, house.desk()))
    thread.start()

    eventually(lambda: len(swept) > 3)
    stopping.set()
    thread.join()


def test_a_part_of_the_sweep_that_fails_keeps_no_other_back(
    house: House, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (order_id,) = house.accept_many(1)
    house.run("update commands set state = 'STUCK', live = false")
    sweep = sweep_of(house, with_wakeups(house.desk(), queue))

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sweep, "_find_dead_workers", broken)
    sweep.run()

    assert house.rows("select buried_at is not null from commands where order_id = %s", order_id) == [(True,)]


# Poison


@pytest.fixture(scope="module")
def mortal(services: SharedServices, furnished: str) -> Iterator[Mortal]:
    """Runs a worker that dies of an order, or at a crash point; gives the signal that ended it, or 0."""
    path = os.pathsep.join([str(DYING.parents[3]), str(DYING.parent)])
    command = [sys.executable, DYING, services.database_url("app", furnished)]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answer = process.stdin, process.stdout

        def run(poison: str, point: str, group: str = "intake") -> int:
            ask.write(f"{group} {poison} {point}\n")
            ask.flush()
            return int(answer.readline())

        yield run
        ask.close()


def test_an_order_that_kills_its_worker_is_stuck_after_three_deaths_alone_and_nobody_else_is(
    house: House, queue: str, mortal: Mortal
) -> None:
    ids = house.accept_many(5)
    poison, desk = ids[2], with_wakeups(house.desk(), queue)
    sweep = sweep_of(house, desk)
    deaths = []
    for _ in range(5):
        ended = mortal(poison, "-")
        overdue(house)
        sweep.run()
        deaths.append((ended, house.command(poison).deaths, house.command(poison).state.value))

    killed = signal.SIGKILL
    assert deaths == [
        (killed, 1, "READY"),  # with its neighbours
        (killed, 2, "READY"),  # alone, three times
        (killed, 3, "READY"),
        (killed, 4, "STUCK"),
        (0, 4, "STUCK"),
    ]
    neighbours = [house.command(order_id) for order_id in ids if order_id != poison]
    assert {(command.stage, command.deaths) for command in neighbours} == {("dispatch.fake", 0)}
    assert house.events(poison) == ["RECEIVED", "STUCK"]
    assert house.rows("select count(*) from claims") == [(0,)]
    house.check()


def test_an_order_that_kills_its_dispatcher_is_stuck_and_was_never_sent(
    house: House, queue: str, mortal: Mortal
) -> None:
    ids = house.accept_many(3)
    intake_engine(house.desk()).run("validate")
    poison, desk = ids[1], with_wakeups(house.desk(), queue)
    sweep = sweep_of(house, desk)
    deaths = []
    for _ in range(5):
        ended = mortal(poison, "-", "dispatch")
        overdue(house)
        sweep.run()
        deaths.append((ended, house.command(poison).deaths, house.command(poison).state.value))

    killed = signal.SIGKILL
    assert deaths == [
        (killed, 1, "READY"),  # with its neighbours
        (killed, 2, "READY"),  # alone, three times
        (killed, 3, "READY"),
        (killed, 4, "STUCK"),
        (0, 4, "STUCK"),
    ]
    assert [house.order(order_id).state for order_id in ids] == ["SUBMITTED", "RECEIVED", "SUBMITTED"]
    assert house.events(poison) == ["RECEIVED", "CLEARED", "STUCK"]
    assert house.rows("select 1 from attempts where order_id = %s", poison) == []
    assert house.rows("select count(*) from claims") == [(0,)]
    house.check()


@pytest.mark.parametrize("point", ["validate.after_claim", "validate.before_commit", "validate.after_commit"])
def test_a_worker_killed_at_any_step_loses_nothing(house: House, mortal: Mortal, point: str) -> None:
    ids = house.accept_many(3)
    assert mortal("-", point) == signal.SIGKILL

    intake_engine(house.desk()).run("validate", "-")

    assert {house.command(order_id).stage for order_id in ids} == {"dispatch.fake"}
    assert all(house.events(order_id) == ["RECEIVED", "CLEARED"] for order_id in ids)
    house.check()


def test_where_the_queue_cannot_be_looked_at_work_is_woken_all_the_same(house: House) -> None:
    """What can be published may be: RabbitMQ takes messages of one connection while another one is not let in."""
    house.accept_many(1)
    overdue(house)
    desk = house.desk()  # whose queue is at a port where nobody listens

    sweep_of(house, desk).run()

    assert "validate" in desk.wakeups.woken  # type: ignore[attr-defined]


def test_who_is_at_work_is_not_taken_for_dead(house: House, queue: str) -> None:
    house.accept_many(2)
    reached, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> Proceed:
        reached.set()
        assert go_on.wait(10)
        return Proceed()

    worker = threading.Thread(target=lambda: intake_engine(house.desk(), validate=slow).run("validate"))
    worker.start()
    assert reached.wait(10)
    overdue_claims(house)
    sweep_of(house, with_wakeups(house.desk(), queue)).run()
    go_on.set()
    worker.join()

    assert house.rows("select sum(deaths) from commands") == [(0,)]
    assert house.rows("select count(*) from claims") == [(0,)]
    assert house.rows("select distinct stage from commands") == [("dispatch.fake",)]


@pytest.mark.parametrize("how", ["rolled back", "the database is lost", "told to stop"])
def test_what_did_not_kill_it_is_no_death(house: House, queue: str, how: str) -> None:
    ids = house.accept_many(2)
    wire = Proxy(house.database_url)
    desk = house.desk(database_url=wire.url)
    desk.claim_store = house.desk().store  # the other connection, as to the same server

    def judge(*_: Any) -> Proceed:
        match how:
            case "rolled back":
                raise ValueError
            case "the database is lost":
                wire.cut()
            case _:
                desk.stopping.set()
        return Proceed()

    try:
        intake_engine(desk, validate=judge).run("validate")
    except StoreAway:
        assert how == "the database is lost"
    overdue(house)
    sweep_of(house, with_wakeups(house.desk(), queue)).run()
    wire.close()

    assert {house.command(order_id).deaths for order_id in ids} == {0}
    assert house.rows("select count(*) from claims") == [(0,)]
    house.check()


def test_a_worker_told_to_stop_ends_what_is_under_way_and_counts_as_no_death(
    house: House, queue_url: str, redis_url: str, channel: Any, tmp_path: Path
) -> None:
    house.queue_url = queue_url
    ready = tmp_path / "ready"
    given = {
        "DATABASE_URL": house.database_url,
        "RABBITMQ_URL": queue_url,
        "REDIS_URL": redis_url,
        "COORDINATOR_SECRET": SECRET,
        "READY_FILE": str(ready),
        "PYTHONPATH": str(DYING.parents[3]),
    }
    with subprocess.Popen([sys.executable, "-m", "pipeline.worker", "intake"], env=os.environ | given) as worker:
        eventually(ready.exists, within_s=40)
        wakeups = with_wakeups(house.desk(), queue_url).wakeups
        ids = [order_id for _ in range(4) for order_id in house.accept_many(20, 10)]
        wakeups.wake("validate", deep=True)
        eventually(lambda: house.rows("select 1 from commands where stage <> 'validate' limit 1"))
        worker.terminate()
        assert worker.wait(15) == 0

    done = house.rows("select count(*) from commands where stage <> 'validate'")[0][0]
    assert 0 < done <= len(ids)
    assert house.rows("select count(*) from claims") == [(0,)]
    intake_engine(house.desk()).run("validate", "-")
    assert house.rows("select sum(deaths) from commands") == [(0,)]
    assert house.rows("select count(*) from commands where stage = 'validate'") == [(0,)]
    house.check()
    for stage in ("validate", "risk", "margin", "route", "dispatch.fake", "reports.fake"):
        for name in (queue_of(stage), dq_name(queue_of(stage)), xq_name(queue_of(stage))):
            channel.queue_delete(name)


# Leases, and dead letters


def test_leases_that_ended_without_an_outcome_go_to_persist(house: House, queue: str) -> None:
    (order_id,) = house.accept_many(1)
    intake_engine(house.desk()).run("validate")
    hold = threading.Event()

    def answer(_line: Any) -> Accepted:
        hold.wait(10)
        return Accepted("B1")

    dispatcher = house.dispatcher(house.desk(FakeBroker(answer)))
    dispatcher.pump()
    overdue(house)
    desk = house.desk()
    desk.environment = replace(desk.environment, queue_url=queue)
    sweep_of(house, desk).run()

    assert house.command(order_id).stage == "persist"
    assert isinstance(desk.wakeups, NotedWakeups)
    assert "persist" in desk.wakeups.woken
    hold.set()


def letters(channel: Any, stage: str) -> list[dict[str, Any]]:
    found = []
    while True:
        method, _, body = channel.basic_get(xq_name(queue_of(stage)))
        if method is None:
            break
        found.append(orjson.loads(body))
    channel.basic_recover(requeue=True)
    return found


def stuck(house: House, count: int = 1) -> list[str]:
    ids = house.accept_many(count)

    def judge(*_: Any) -> Proceed:
        raise ValueError("a rule that can't be read")

    engine = intake_engine(house.desk(), risk=judge)
    for _ in range(3):
        house.due_now()
        engine.run("validate", "-")
    assert {house.command(order_id).state for order_id in ids} == {"STUCK"}
    return ids


def test_each_stuck_order_has_one_dead_letter_in_its_stages_queue(house: House, queue: str, channel: Any) -> None:
    ids = stuck(house, 3)
    sweep = sweep_of(house, with_wakeups(house.desk(), queue))

    for _ in range(3):
        sweep.run()

    found = letters(channel, "validate")
    assert sorted(letter["orderId"] for letter in found) == sorted(ids)
    assert {(letter["stage"], letter["error"]) for letter in found} == {
        ("validate", "ValueError: a rule that can't be read")
    }


def overdue_claims(house: House) -> None:
    house.run("update claims set opened_at = opened_at - interval '1 minute'")
