"""The unknown: it is looked for, found or proven absent, sent again or elsewhere; and never by time alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from house import BROKER, FakeBroker, House, a_row, eventually, intake_engine, outcome_engine

from brokers.base import Line
from domain.evidence import APART
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, BookRow, NotSent, Outcome, Unknown, Unreadable
from pipeline.books import BookReader
from pipeline.desk import Desk
from pipeline.reports import apply_due
from pipeline.stages.dispatch import Dispatcher
from store import settings, user_settings
from store.unit import Unit

OTHER = "other"
LOST = Unknown("no whole answer in time")
PROOF = timedelta(seconds=60)


class Clock:
    """A clock that a test moves, for the desks that are given it."""

    def __init__(self, house: House) -> None:
        self._house, self.ahead = house, timedelta()

    def desk(self, *brokers: FakeBroker) -> Desk:
        desk = self._house.desk(*brokers)
        real = desk.now
        desk.now = lambda: real() + self.ahead  # type: ignore[method-assign]
        return desk


@pytest.fixture
def clock(house: House) -> Clock:
    return Clock(house)


def change(house: House, name: str, value: object) -> None:
    with house.store.unit() as unit:
        settings.change(unit, name, value, by="test")


def unknown(house: House, desk: Desk, **terms: Any) -> str:
    """An order whose call was lost."""
    (order_id,) = house.accept_many(1, **terms)
    intake_engine(desk).run("validate", "-")
    house.dispatcher(desk).pump("-")
    eventually(lambda: house.order(order_id).state is OrderState.UNKNOWN)
    return order_id


def look(desk: Desk, broker: str = BROKER) -> None:
    BookReader(desk, broker).read()
    apply_due(desk)


def prove(desk: Desk, clock: Clock) -> None:
    """Two reads that prove an absence where there is one."""
    clock.ahead += PROOF + timedelta(seconds=1)
    look(desk)
    clock.ahead += APART
    look(desk)


def lost(_line: Line) -> Outcome:
    return LOST


def test_an_unknown_order_is_looked_for_and_keeps_what_it_holds(house: House, clock: Clock):
    desk = clock.desk(FakeBroker(lost))
    order_id = unknown(house, desk)

    ((account, fence, proof_s, is_due_soon),) = house.rows(
        "select s.account_id, s.fence, extract(epoch from s.proof_from - a.ended_at)::int, s.next_at < now() + interval '5 s'"
        " from searches s join attempts a on a.order_id = s.order_id where s.order_id = %s",
        order_id,
    )
    assert (account, fence, proof_s, is_due_soon) == ("FK0001", 1, 60, True)
    assert house.rows("select open_orders from accounts where id = 'FK0001'") == [(1,)]
    house.check()


def test_what_is_proven_absent_is_sent_again_with_the_same_tag(house: House, clock: Clock):
    answers = iter([LOST, Accepted("B7")])
    broker = FakeBroker(lambda _line: next(answers))
    desk = clock.desk(broker)
    order_id = unknown(house, desk)

    prove(desk, clock)
    assert (house.order(order_id).state, house.command(order_id).stage) == ("RECEIVED", f"dispatch.{BROKER}")
    house.due_now()
    house.dispatcher(desk).pump("-")
    eventually(lambda: house.order(order_id).state is OrderState.SUBMITTED)

    assert house.events(order_id)[2:] == ["SENDING", "UNKNOWN", "PROVEN_ABSENT", "SENDING", "SUBMITTED"]
    assert broker.tags == [house.order(order_id).broker_tag] * 2
    house.check()


def test_reads_before_the_proof_time_prove_nothing(house: House, clock: Clock):
    desk = clock.desk(FakeBroker(lost))
    order_id = unknown(house, desk)

    for _ in range(5):
        clock.ahead += timedelta(seconds=9)
        look(desk)

    assert house.order(order_id).state == "UNKNOWN"
    assert house.rows("select looks, clean_reads from searches") == [(5, 0)]


def test_an_hour_of_unreadable_books_moves_nothing(house: House, clock: Clock):
    broker = FakeBroker(lost)
    desk = clock.desk(broker)
    order_id = unknown(house, desk)
    broker.books["FK0001"] = Unreadable("502")

    for _ in range(12):
        clock.ahead += timedelta(minutes=5)
        look(desk)
        outcome_engine(desk).run("persist", "-")

    assert (house.order(order_id).state, house.command(order_id).state) == ("UNKNOWN", "UNKNOWN")
    assert house.rows("select clean_reads from searches") == [(0,)]


def test_the_book_of_the_next_day_proves_nothing(house: House, clock: Clock):
    desk = clock.desk(FakeBroker(lost))
    order_id = unknown(house, desk)

    clock.ahead += timedelta(days=1)
    for _ in range(4):
        clock.ahead += timedelta(minutes=1)
        look(desk)

    assert house.order(order_id).state == "UNKNOWN"


def test_what_the_book_shows_is_adopted_and_the_search_ends(house: House, clock: Clock):
    broker = FakeBroker(lost)
    desk = clock.desk(broker)
    order_id = unknown(house, desk)
    broker.books["FK0001"] = [a_row(house.order(order_id).broker_tag, state=OrderState.OPEN)]

    look(desk)
    look(desk)

    assert (house.order(order_id).state, house.command(order_id).state) == ("OPEN", "DONE")
    assert house.rows("select 1 from searches") == []
    house.check()


def test_what_stands_in_the_book_is_not_proven_absent_by_reads_without_it(house: House, clock: Clock):
    """A book that lags shows it, hides it, and shows it again."""
    broker = FakeBroker(lost)
    desk = clock.desk(broker)
    order_id = unknown(house, desk)
    rows: list[BookRow] = [a_row(house.order(order_id).broker_tag)]

    clock.ahead += PROOF + timedelta(seconds=1)
    for book in ([], rows, []):
        broker.books["FK0001"] = book
        look(desk)
        clock.ahead += APART

    assert house.order(order_id).state == "SUBMITTED"
    assert "PROVEN_ABSENT" not in house.events(order_id)


def test_a_late_answer_stands_against_a_proof_that_waits(house: House, clock: Clock):
    desk = clock.desk(FakeBroker(lost))
    order_id = unknown(house, desk)
    clock.ahead += PROOF + timedelta(seconds=1)
    reader = BookReader(desk, BROKER)
    reader.read()
    clock.ahead += APART
    reader.read()
    house.run("update orders set state = 'SUBMITTED' where id = %s", order_id)
    house.run("update commands set state = 'DONE', stage = 'notify', live = false, done_at = now() where order_id = %s", order_id)

    apply_due(desk)

    assert house.order(order_id).state == "SUBMITTED"


def test_what_was_not_sent_goes_to_the_next_account_when_failover_is_on(house: House, clock: Clock, two: list[str]):
    change(house, "broker_failover_enabled", True)
    first, second = FakeBroker(lambda _: NotSent("no connection")), FakeBroker(name=OTHER)
    desk = clock.desk(first, second)
    (order_id,) = house.accept_many(1, account=None)
    route(house, desk, order_id)

    order = house.order(order_id)
    assert (order.state, order.broker, order.account_id) == ("SUBMITTED", OTHER, two[1])
    assert house.events(order_id) == ["RECEIVED", "CLEARED", "SENDING", "NOT_SENT", "CLEARED", "SENDING", "SUBMITTED"]
    assert (len(first.calls), len(second.calls)) == (1, 1)
    assert house.rows("select account_id from watches where until > now()") == [(two[0],)]
    house.check()


@pytest.mark.parametrize(
    "terms",
    [
        {"account": "FK0001"},
        {"account": None, "broker": BROKER.upper()},
        {"account": None, "side": "SELL"},
        {"account": None, "product": "MIS"},
    ],
)
def test_what_may_not_go_elsewhere_is_sent_again_where_it_was(
    house: House, clock: Clock, two: list[str], terms: dict[str, Any]
):
    change(house, "broker_failover_enabled", True)
    answers = iter([NotSent("no connection"), Accepted("B7")])
    first, second = FakeBroker(lambda _: next(answers)), FakeBroker(name=OTHER)
    desk = clock.desk(first, second)
    (order_id,) = house.accept_many(1, **terms)
    route(house, desk, order_id)

    assert (house.order(order_id).broker, house.order(order_id).state) == (BROKER, "SUBMITTED")
    assert (len(first.calls), len(second.calls)) == (2, 0)
    house.check()


def test_without_failover_nothing_goes_elsewhere(house: House, clock: Clock, two: list[str]):
    answers = iter([NotSent("no connection"), Accepted("B7")])
    first, second = FakeBroker(lambda _: next(answers)), FakeBroker(name=OTHER)
    desk = clock.desk(first, second)
    (order_id,) = house.accept_many(1, account=None)
    route(house, desk, order_id)

    assert (len(first.calls), len(second.calls)) == (2, 0)


def test_an_unknown_order_never_goes_elsewhere_before_it_is_proven_absent(house: House, clock: Clock, two: list[str]):
    change(house, "broker_failover_enabled", True)
    first, second = FakeBroker(lost), FakeBroker(name=OTHER)
    desk = clock.desk(first, second)
    order_id = unknown(house, desk, account=None)
    for _ in range(3):
        outcome_engine(desk).run("persist", "-")
        intake_engine(desk).run("validate", "-")
        look(desk)
    assert (house.order(order_id).state, second.calls) == ("UNKNOWN", [])

    prove(desk, clock)
    route(house, desk, order_id)

    assert (house.order(order_id).broker, len(first.calls), len(second.calls)) == (OTHER, 1, 1)
    house.check()


def test_an_order_that_turns_up_where_it_was_proven_absent_is_a_twin_and_is_cancelled(
    house: House, clock: Clock, two: list[str]
):
    change(house, "broker_failover_enabled", True)
    first, second = FakeBroker(lost), FakeBroker(name=OTHER)
    cancelled: list[tuple[str, str]] = []
    desk = clock.desk(first, second)

    def cancel(session: Any, broker_order_id: str, **_: Any) -> Outcome:
        cancelled.append((session.account_id, broker_order_id))
        return Accepted(broker_order_id)

    first.cancel = cancel  # type: ignore[method-assign]
    order_id = unknown(house, desk, account=None)
    prove(desk, clock)
    route(house, desk, order_id)
    tag = house.order(order_id).broker_tag
    first.books[two[0]] = [a_row(tag, broker_order_id="late", state=OrderState.OPEN)]

    look(desk)
    look(desk)

    assert house.rows("select account_id, broker_order_id, kind, order_id, cancel_outcome from strays") == [
        (two[0], "late", "TWIN", order_id, "Accepted")
    ]
    assert cancelled == [(two[0], "late")]
    assert (house.order(order_id).state, house.order(order_id).broker) == ("SUBMITTED", OTHER)
    first.books[two[0]] = [a_row(tag, broker_order_id="late", state=OrderState.CANCELLED)]
    look(desk)
    assert house.rows("select closed_by from strays") == [("the book",)]
    house.check()


def test_a_tag_of_ours_that_no_order_has_is_told(house: House, clock: Clock):
    broker = FakeBroker(lost)
    desk = clock.desk(broker)
    unknown(house, desk)
    broker.books["FK0001"] = [a_row("OC00000000000000000", broker_order_id="B0", state=OrderState.OPEN)]

    look(desk)

    assert house.rows("select broker_order_id, kind, order_id from strays") == [("B0", "ORPHAN", None)]


def test_a_user_who_wants_no_retry_is_told_that_it_was_not_sent(house: House, clock: Clock):
    with house.store.unit() as unit:
        user_settings.change(unit, house.user_id, "auto_retry_on_network_failure", False, by="test")
    broker = FakeBroker(lambda _: NotSent("no connection"))
    desk = clock.desk(broker)
    (order_id,) = house.accept_many(1)
    intake_engine(desk).run("validate", "-")
    house.dispatcher(desk).pump("-")

    eventually(lambda: house.order(order_id).state is OrderState.REJECTED)
    assert house.order(order_id).reason_code == "NOT_SENT"
    assert len(broker.calls) == 1
    house.check()


def test_a_dead_session_is_marked_and_looked_at_again_until_it_lives(house: House, clock: Clock):
    broker = FakeBroker(lambda _: NotSent("log in again", session_dead=True))
    desk = clock.desk(broker)
    (order_id,) = house.accept_many(1)
    intake_engine(desk).run("validate", "-")
    house.dispatcher(desk).pump("-")
    eventually(lambda: house.rows("select session from accounts where id = 'FK0001'") == [("DEAD",)])
    assert house.order(order_id).state == "RECEIVED"

    BookReader(desk, BROKER).read()

    assert house.rows("select session from accounts where id = 'FK0001'") == [("ALIVE",)]


def route(house: House, desk: Desk, order_id: str) -> None:
    """Bring an order through intake and dispatch until a broker has it."""
    dispatchers = [house.dispatcher(desk)]
    if OTHER in desk.adapters:
        other = Dispatcher(desk, OTHER)
        house._closing.append(lambda: other.stop(2.0))
        dispatchers.append(other)

    def is_there() -> bool:
        house.due_now()
        intake_engine(desk).run("validate", "-")
        for dispatcher in dispatchers:
            dispatcher.pump("-")
        return house.order(order_id).state is OrderState.SUBMITTED

    eventually(is_there)


@pytest.fixture
def two(house: House) -> list[str]:
    """A default account at the first broker, and one at another."""
    change(house, "fallback_brokers", [BROKER, OTHER])

    def furnish(unit: Unit) -> None:
        unit.run("update accounts set broker = %s where id = 'FK0002'", (OTHER,))
        unit.run("update accounts set is_default = (id = 'FK0001')")

    with house.store.unit() as unit:
        furnish(unit)
    return ["FK0001", "FK0002"]
