"""Reports: what a broker's book says, in whatever order and however often, ends as the newest of it says."""

from __future__ import annotations

import logging
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from house import BROKER, FakeBroker, House, a_row, intake_engine, utc_now

from domain.events import Source
from domain.ids import broker_tag, new_id
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Outcome, Unknown, Unreadable
from pipeline.books import BookReader
from pipeline.reports import apply_due, to_body
from store import reports
from store.reports import Report


def sent(house: House, count: int = 1, outcome: Outcome | None = None, **terms: Any) -> list[str]:
    """Orders whose call has ended and whose outcome is their state."""
    ids = house.accept_many(count, **terms)
    desk = house.desk(FakeBroker((lambda _: outcome) if outcome else None))
    intake_engine(desk).run("validate")
    house.dispatcher(desk).pump()
    house.settled(ids)
    return ids


def reader(house: House, *rows: BookRow, account: str = "FK0001") -> tuple[BookReader, FakeBroker]:
    broker = FakeBroker()
    broker.books[account] = rows
    return BookReader(house.desk(broker), BROKER), broker


def row_of(house: House, order_id: str, **given: Any) -> BookRow:
    return a_row(house.order(order_id).broker_tag, **given)


def fill(number: int, quantity: int, price: str = "1500.00") -> Fill:
    return Fill(f"T{number}", "NSE", quantity, Decimal(price), utc_now().replace(microsecond=0))


def test_a_book_brings_an_order_from_submitted_to_filled(house: House) -> None:
    (order_id,) = sent(house)
    looking, broker = reader(house)
    fills = (fill(1, 4), fill(2, 6))
    states = []
    for row in (
        row_of(house, order_id, state=OrderState.OPEN),
        row_of(
            house, order_id, state=OrderState.OPEN, filled_quantity=4, average_price=Decimal("1500"), fills=fills[:1]
        ),
        row_of(
            house, order_id, state=OrderState.FILLED, filled_quantity=10, average_price=Decimal("1500"), fills=fills
        ),
    ):
        broker.books["FK0001"] = [row]
        assert looking.read() == 1
        assert apply_due(house.desk()) == 1
        states.append(house.order(order_id).state)
        house.check()

    assert states == ["OPEN", "PARTIALLY_FILLED", "FILLED"]
    assert house.rows("select trade_id, quantity from trades order by trade_id") == [("T1", 4), ("T2", 6)]


def test_the_same_book_again_changes_nothing(house: House) -> None:
    (order_id,) = sent(house)
    looking, broker = reader(house, row_of(house, order_id, state=OrderState.OPEN, fills=(fill(1, 4),)))

    assert [looking.read(), looking.read()] == [1, 0]
    assert BookReader(house.desk(broker), BROKER).read() == 0
    apply_due(house.desk())
    events = house.events(order_id)
    apply_due(house.desk())

    assert house.events(order_id) == events
    assert house.rows("select count(*) from trades") == [(1,)]


def test_an_average_with_all_the_digits_of_a_division_is_kept_as_the_row_keeps_it(house: House) -> None:
    (order_id,) = sent(house)
    row = row_of(
        house, order_id, state=OrderState.OPEN, filled_quantity=3, average_price=Decimal("1512.36666666666667")
    )
    reader(house, row)[0].read()

    apply_due(house.desk())

    assert house.order(order_id).average_price == Decimal("1512.3667")
    house.check()


def test_an_unknown_order_is_adopted_when_the_book_shows_it(house: House) -> None:
    (order_id,) = sent(house, outcome=Unknown("reset"))
    assert house.order(order_id).state == "UNKNOWN"
    reader(house, row_of(house, order_id, state=OrderState.OPEN))[0].read()

    apply_due(house.desk())

    assert (house.order(order_id).state, house.command(order_id).state) == ("OPEN", "DONE")
    house.check()


def test_the_book_may_speak_before_the_answer_does(house: House) -> None:
    (order_id,) = house.accept_many(1)
    tag = house.order(order_id).broker_tag

    def answer(_: Any) -> Outcome:
        reader(house, a_row(tag, broker_order_id="B1", state=OrderState.OPEN))[0].read()
        apply_due(house.desk())
        return Accepted("B1")

    desk = house.desk(FakeBroker(answer))
    intake_engine(desk).run("validate")
    house.dispatcher(desk).pump()
    house.settled([order_id])
    apply_due(desk)

    assert (house.order(order_id).state, house.order(order_id).broker_order_id) == ("OPEN", "B1")
    assert house.command(order_id).state == "DONE"
    house.check()


def test_what_the_book_shows_is_not_sent_again_whatever_the_answer_was(house: House) -> None:
    (order_id,) = sent(house, outcome=NotSent("rate limit"))
    assert house.order(order_id).state == "RECEIVED"
    reader(house, row_of(house, order_id, state=OrderState.OPEN))[0].read()

    apply_due(house.desk())
    house.due_now()
    broker = FakeBroker()
    sent_again = house.dispatcher(house.desk(broker)).pump("-")

    assert (house.order(order_id).state, sent_again) == ("OPEN", 0)
    assert broker.calls == []
    house.check()


def test_one_report_that_cannot_be_applied_keeps_no_other_back(house: House) -> None:
    ids = sent(house, 3)
    bad = fill(1, 0)  # a trade of nothing: the record refuses it
    rows = [
        row_of(house, order_id, state=OrderState.OPEN, fills=(bad,) if order_id == ids[0] else ()) for order_id in ids
    ]
    reader(house, *rows)[0].read()

    apply_due(house.desk())

    assert house.states(ids) == ["SUBMITTED", "OPEN", "OPEN"]
    assert house.rows("select due_at > received_at from reports where applied_at is null") == [(True,)]
    assert apply_due(house.desk()) == 0
    house.check()


def test_one_account_whose_book_cannot_be_read_keeps_no_other_back(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = [sent(house, account=account)[0] for account in ("FK0001", "FK0002", "FK0003")]
    looking, broker = reader(house)
    broker.books = {"FK0001": Unreadable("html"), "FK0003": [row_of(house, third, state=OrderState.OPEN)]}
    book = broker.book

    def raising(session: Any, *, timeout_s: float) -> Any:
        if session.account_id == "FK0002":
            raise RuntimeError("a defect")
        return book(session, timeout_s=timeout_s)

    broker.book = raising  # type: ignore[method-assign]
    looking.read()
    apply_due(house.desk())

    assert house.states([first, second, third]) == ["SUBMITTED", "SUBMITTED", "OPEN"]


def test_an_order_with_our_tag_that_no_row_knows_is_told_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    sent(house)
    stranger = broker_tag("OC", new_id())
    looking, _ = reader(house, a_row(stranger), a_row("ANOTHER0CLIENTS0TAG"), a_row(None))

    with caplog.at_level(logging.ERROR):
        looking.read()
        looking.read()

    told = [record for record in caplog.records if "no row knows" in record.message]
    assert [record.tag for record in told] == [stranger]  # type: ignore[attr-defined]


def test_a_second_order_of_one_tag_is_told_and_not_mixed_in(house: House, caplog: pytest.LogCaptureFixture) -> None:
    (order_id,) = sent(house)
    ours = row_of(house, order_id, state=OrderState.OPEN)
    twin = row_of(
        house, order_id, broker_order_id="TWIN", state=OrderState.FILLED, filled_quantity=10, average_price=Decimal(9)
    )
    looking, _ = reader(house, twin, ours)

    with caplog.at_level(logging.ERROR):
        looking.read()
    apply_due(house.desk())

    assert (house.order(order_id).state, house.order(order_id).filled_quantity) == ("OPEN", 0)
    assert any("more than once" in record.message for record in caplog.records)


def test_what_was_read_is_forgotten_with_the_accounts_last_live_order(house: House) -> None:
    (order_id,) = sent(house)
    looking, _ = reader(house, row_of(house, order_id, state=OrderState.FILLED, filled_quantity=10))
    looking.read()
    apply_due(house.desk())

    looking.read()

    assert looking._seen == {}


def test_a_report_that_returns_to_an_earlier_state_at_a_later_time_is_news(house: House) -> None:
    (order_id,) = sent(house, orderType="SL", triggerPrice="1490.00")
    looking, broker = reader(house)
    now = utc_now()
    for number, state in enumerate((OrderState.TRIGGER_PENDING, None, OrderState.TRIGGER_PENDING)):
        broker.books["FK0001"] = [row_of(house, order_id, state=state, at=now + timedelta(seconds=number))]
        assert looking.read() == 1


def test_two_processes_apply_each_report_once(house: House) -> None:
    import threading

    ids = sent(house, 12)
    looking, _ = reader(house, *(row_of(house, order_id, state=OrderState.OPEN) for order_id in ids))
    looking.read()
    applied: list[int] = []
    threads = [threading.Thread(target=lambda: applied.append(apply_due(house.desk()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(applied) == 12
    assert set(house.states(ids)) == {"OPEN"}
    assert all(house.events(order_id).count("OPENED") == 1 for order_id in ids)
    house.check()


def test_the_digest_is_the_facts_own(house: House) -> None:
    (order_id,) = sent(house)
    body = to_body(row_of(house, order_id, state=OrderState.OPEN), "FK0001", BROKER)
    with house.store.unit() as unit:
        told = [
            reports.insert(unit, [Report(order_id, source, body)], utc_now()) for source in (Source.POLL, Source.STREAM)
        ]

    assert told == [1, 0]
