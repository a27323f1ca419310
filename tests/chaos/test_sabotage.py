"""The harness can fail: each deliberate bug is caught, and by the invariant that is about it; without it all is well.

`tests/chaos/sabotaged.py` has the bugs. A scenario is the smallest one in which the bug has something to spoil.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from house import BROKER, House, eventually, intake_engine

import pipeline.pump
from brokers.base import Line
from domain.outcomes import Accepted, NotSent, Outcome, Unknown
from pipeline.calls import Answer, Call, make_call
from pipeline.settling import settle_answers
from pipeline.steps import STEPS
from tests.chaos.invariants import find_violations
from tests.chaos.office import PLACE, Office
from tests.chaos.sabotaged import BUGS, sabotage
from tests.chaos.toy import ToyBroker, Truth

ROOT = Path(__file__).parents[2]
LOST = Unknown("no whole answer in time")

Scenario = Callable[[House, Truth], Office]


@pytest.fixture
def offices() -> Iterator[list[Office]]:
    opened: list[Office] = []
    yield opened
    for office in opened:
        office.close()


def cleared(house: House, truth: Truth, after: Callable[[Line, str], Outcome] | None = None, orders: int = 1) -> Office:
    """An office with so many orders that are ready to be sent."""
    office = Office(house, ToyBroker(truth, after), truth)
    house.accept_many(orders, **PLACE)
    intake_engine(office.desk, *STEPS).run("validate", "-")
    return office


def started(office: Office) -> list[Call]:
    """The attempts are committed; nothing was called yet."""
    office.dispatcher._since = pipeline.pump._BEGINNING  # time has been moved past where it looked last
    return office.dispatcher._first_step(8, [], office.dispatcher._claim)


def called_and_died(house: House, truth: Truth) -> Office:
    """A dispatcher dies when its broker has the order, and before it could write that down; its lease ends."""
    office = cleared(house, truth)
    for call in started(office):
        make_call(office.desk, BROKER, call, None)
    office.pass_time(timedelta(seconds=20))
    office.sweep.run()
    office._handlers[f"dispatch.{BROKER}"]("-")
    return office


def woken_too_late(house: House, truth: Truth) -> Office:
    """A dispatcher is stopped before its call. Its lease ends, the order is proven absent and sent again. While that
    call is under way, the first one wakes up, sends nothing, and says so."""
    office = cleared(house, truth)
    (late,) = started(office)
    again: list[Call] = []
    for _ in range(20):
        office.pass_time(timedelta(seconds=20))
        office.sweep.run()
        office.reader.read()
        office._handlers["persist"]("-")
        if again := started(office):
            break
    answers = [make_call(office.desk, BROKER, call, None) for call in again]
    settle_answers(office.desk, [Answer(late, (NotSent("the lease was over before the call"),), office.desk.now())], {})
    office.pass_time(timedelta(seconds=5))
    office._handlers[f"dispatch.{BROKER}"]("-")
    settle_answers(office.desk, answers, {})
    return office


def nobody_was_told(house: House, truth: Truth) -> Office:
    """The message that should wake validate is lost."""
    office = Office(house, ToyBroker(truth), truth)
    house.accept_many(1, **PLACE)
    return office


def shown_late(house: House, truth: Truth) -> Office:
    """The broker takes an order after its client has given up, and shows it half a minute later."""
    late: list[str] = []

    def take_late(line: Line, broker_order_id: str) -> Outcome:
        if late:
            return Accepted(broker_order_id)
        late.append(line.order.broker_tag)
        truth.taken.clear()  # not yet
        return LOST

    office = cleared(house, truth, take_late)
    office.round()
    for _ in range(6):
        office.round()
    truth.take("FK0001", late[0])
    return office


def two_dispatchers_at_once(house: House, truth: Truth) -> Office:
    """Two processes look for due orders in the same moment."""
    office = cleared(house, truth, orders=1)  # of two, each could hold the row that the other waits for
    other = Office(house, ToyBroker(truth), truth)
    meeting = threading.Barrier(2)

    def wait_for_the_other(point: str) -> None:
        if point == "dispatch.after_claim":
            with suppress(threading.BrokenBarrierError):
                meeting.wait(1.0)

    before = pipeline.pump.crash
    pipeline.pump.crash = wait_for_the_other
    try:
        threads = [threading.Thread(target=_pump, args=(each,)) for each in (office, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        pipeline.pump.crash = before
    other.close()
    return office


def _pump(office: Office) -> None:
    office.dispatcher.pump("-")
    eventually(lambda: office.dispatcher.is_idle)


def died_before_the_commit(house: House, truth: Truth) -> Office:
    """A worker dies with everything written and nothing committed."""
    office = Office(house, ToyBroker(truth), truth)
    house.accept_many(1, **PLACE)

    class Died(BaseException): ...

    def die(point: str) -> None:
        if point == "validate.before_commit":
            raise Died

    before = pipeline.stage.crash
    pipeline.stage.crash = die
    try:
        with suppress(Died):
            intake_engine(office.desk, *STEPS).run("validate", "-")
    finally:
        pipeline.stage.crash = before
    return office


def committed_out_of_order(house: House, truth: Truth) -> Office:
    """An order with a later number is committed, and seen, before one with an earlier number is."""
    office = Office(house, ToyBroker(truth), truth)
    first, second = house.accept_many(2, **PLACE)
    house.run("update commands set stage = 'away', due_at = due_at - interval '3 seconds' where order_id = %s", first)
    office._handlers["validate"]("-")
    assert house.command(second).stage != "validate"
    house.run("update commands set stage = 'validate' where order_id = %s", first)
    return office


def lost_and_refused(house: House, truth: Truth) -> Office:
    """The broker has the order, and its answer is lost."""
    return cleared(house, truth, lambda line, broker_order_id: LOST)


def ended_at_the_broker(house: House, truth: Truth) -> Office:
    """An order is cancelled at its broker."""
    office = cleared(house, truth)
    office.settle()
    truth.end(truth.taken[0]["id"])
    office.reader.read()
    office._handlers["persist"]("-")
    return office


CAUGHT: dict[str, tuple[Scenario, str]] = {
    "call_again": (called_and_died, "never twice"),
    "no_fence": (woken_too_late, "never twice"),
    "no_sweep": (nobody_was_told, "nothing waits for ever"),
    "short_proof": (shown_late, "never twice"),
    "no_compare_and_set": (two_dispatchers_at_once, "never twice"),
    "event_outside": (died_before_the_commit, "events in line"),
    "commit_order_cursor": (committed_out_of_order, "nothing waits for ever"),
    "rejected_by_timer": (lost_and_refused, "book and record agree"),
    "margin_kept": (ended_at_the_broker, "totals are sums"),
}
BY_A_TEST = {"stale_ack": "tests/integration/engine/test_queue.py::test_an_ack_after_a_reconnect_removes_nothing"}


def found(bug: str, house: House, truth: Truth, offices: list[Office]) -> Sequence[str]:
    """The invariants that are broken in the end, by name."""
    scenario, _ = CAUGHT[bug]
    office = scenario(house, truth)
    offices.append(office)
    try:
        scene = office.settle()
    except psycopg.Error:  # the bug has the database refuse to go on
        scene = office.scene()
    return sorted({violation.invariant for violation in find_violations(scene)})


@pytest.mark.parametrize("bug", CAUGHT)
def test_the_bug_is_caught_by_its_invariant(bug: str, house: House, truth: Truth, offices: list[Office]) -> None:
    with sabotage(bug):
        broken = found(bug, house, truth, offices)

    assert CAUGHT[bug][1] in broken


@pytest.mark.parametrize("bug", CAUGHT)
def test_without_the_bug_all_is_well(bug: str, house: House, truth: Truth, offices: list[Office]) -> None:
    assert found(bug, house, truth, offices) == []
    assert truth.book


@pytest.mark.parametrize(("bug", "passes"), [("none", True), ("stale_ack", False)])
def test_an_acknowledgement_on_the_wrong_channel_is_caught_by_a_test(bug: str, passes: bool) -> None:
    command = [sys.executable, "-m", "tests.chaos.sabotaged", bug, "pytest", "-q", "-p", "no:randomly", BY_A_TEST["stale_ack"]]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    if "skipped" in ran.stdout:
        pytest.skip("the servers can't be started here")
    assert (ran.returncode == 0) is passes, ran.stdout
    assert ("FAILED" in ran.stdout) is not passes


def test_every_bug_has_something_that_catches_it() -> None:
    assert {*CAUGHT, *BY_A_TEST} == set(BUGS)
