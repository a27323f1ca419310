"""A book's reports of one order, repeated and out of order, end where the newest alone would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commands import Command, CommandKind, CommandState
from domain.events import Source
from domain.lifecycle import TERMINAL, OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Outcome, Refused, Unknown
from pipeline.batch import Batch
from pipeline.reports import from_body, to_body
from pipeline.stages.persist import apply_row, settle
from pipeline.wayback import WayBack

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
QUANTITY = 10
PRICE = Decimal("1500.1250")


def an_order(state: OrderState, **given: Any) -> Order:
    terms: dict[str, Any] = {
        "id": "0190",
        "intent_id": "0190",
        "line": 0,
        "correlation_id": "c",
        "user_id": "u",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": QUANTITY,
        "product": Product.CNC,
        "order_type": OrderType.SL,
        "validity": Validity.DAY,
        "price": PRICE,
        "broker": "upstox",
        "account_id": "A1",
        "state": state,
        "accepted_at": NOW,
        "send_before": NOW + timedelta(minutes=2),
    }
    return Order(**{**terms, **given})


def a_command(state: CommandState) -> Command:
    return Command(
        order_id="0190", seq=0, kind=CommandKind.PLACE, stage="dispatch.upstox", state=state, due_at=NOW, fence=1
    )


def a_report(state: OrderState | None, filled: int = 0, **given: Any) -> BookRow:
    fills = tuple(Fill(f"T{number}", "NSE", 1, PRICE, NOW) for number in range(filled))
    average = PRICE + filled if filled else None  # any function of what is filled
    status = state or "validation pending"
    terms: dict[str, Any] = {"tag": None, "quantity": 0, "message": None, "fills": fills}
    return BookRow(
        "B1", state=state, status=status, filled_quantity=filled, average_price=average, **{**terms, **given}
    )


@st.composite
def runs(draw: st.DrawFn) -> list[BookRow]:
    """What a book shows of an order in the course of a day, oldest first."""
    run = [a_report(None)] * draw(st.integers(0, 1))
    if draw(st.booleans()):
        run.append(a_report(OrderState.TRIGGER_PENDING))
    run.append(a_report(OrderState.OPEN))
    filled = 0
    for more in draw(st.lists(st.integers(1, 4), max_size=4)):
        if filled + more < QUANTITY:
            filled += more
            run.append(a_report(OrderState.OPEN, filled))
    match draw(st.sampled_from(["open", "filled", "cancelled", "rejected", "expired"])):
        case "filled":
            run.append(a_report(OrderState.FILLED, QUANTITY))
        case "cancelled":
            run.append(a_report(OrderState.CANCELLED, filled, message="by the client"))
        case "rejected" if not filled:
            run.append(a_report(OrderState.REJECTED, message="RMS: margin"))
        case "expired":
            run.append(a_report(OrderState.EXPIRED, filled))
    return run


def applied(order: Order, command: Command, reports: Sequence[BookRow]) -> tuple[Batch, set[str]]:
    batch = Batch(at=NOW)
    batch.hold(order)
    for report in reports:
        apply_row(order, command, report, Source.POLL, batch)
    return batch, {fill.trade_id for _, fill in batch.fills}


STARTS = st.sampled_from(
    [
        (OrderState.SUBMITTED, CommandState.DONE),
        (OrderState.UNKNOWN, CommandState.UNKNOWN),
        (OrderState.SENDING, CommandState.SENDING),
        (OrderState.RECEIVED, CommandState.READY),
    ]
)


@given(runs(), STARTS, st.data())
def test_any_order_and_any_repetition_ends_as_the_newest_alone(
    run: list[BookRow], start: tuple[OrderState, CommandState], data: st.DataObject
) -> None:
    state, command_state = start
    expected, expected_command = an_order(state), a_command(command_state)
    applied(expected, expected_command, run[-1:])
    repeated = run + data.draw(st.lists(st.sampled_from(run), max_size=5), label="told again")
    shuffled = data.draw(st.permutations(repeated), label="as they came")

    order, command = an_order(state), a_command(command_state)
    batch, trades = applied(order, command, shuffled)

    assert replace(order, last_seq=0) == replace(expected, last_seq=0)
    assert command.state is expected_command.state is CommandState.DONE
    assert trades == {fill.trade_id for report in run for fill in report.fills}
    assert [event.seq for event in batch.events] == list(range(1, order.last_seq + 1))


@given(runs(), st.data())
def test_filled_never_falls_and_an_end_is_an_end(run: list[BookRow], data: st.DataObject) -> None:
    order, command = an_order(OrderState.SUBMITTED), a_command(CommandState.DONE)
    batch = Batch(at=NOW)
    batch.hold(order)
    for report in data.draw(st.permutations(run), label="as they came"):
        before = replace(order)
        apply_row(order, command, report, Source.POLL, batch)
        assert order.filled_quantity >= before.filled_quantity
        assert before.state not in TERMINAL or order.state is before.state


OUTCOMES = st.sampled_from([Accepted("B1"), Refused("X", "no"), NotSent("no connection"), Unknown("reset")])


@given(OUTCOMES, st.lists(st.sampled_from([a_report(OrderState.OPEN, 3), a_report(OrderState.FILLED, 10)]), max_size=3))
def test_what_a_book_showed_before_the_answer_stands(outcome: Outcome, reports: list[BookRow]) -> None:
    order, command = an_order(OrderState.SENDING), a_command(CommandState.SENDING)
    batch, _ = applied(order, command, reports)
    seen = order.state
    settle(order, command, outcome, batch, WayBack())

    if reports:
        assert (order.state, command.state) == (seen, CommandState.DONE)
    assert order.broker_order_id in (None, "B1")


def test_more_than_was_ordered_is_never_recorded() -> None:
    order = an_order(OrderState.SUBMITTED)
    applied(order, a_command(CommandState.DONE), [a_report(OrderState.OPEN, 12)])

    assert order.filled_quantity == QUANTITY


def test_a_row_of_a_twin_changes_nothing() -> None:
    order, command = an_order(OrderState.UNKNOWN), a_command(CommandState.UNKNOWN)
    ours, twins = a_report(OrderState.OPEN, 3), replace(a_report(OrderState.FILLED, QUANTITY), broker_order_id="B2")
    batch, trades = applied(order, command, [ours, twins])

    assert (order.broker_order_id, order.state, order.filled_quantity) == ("B1", OrderState.PARTIALLY_FILLED, 3)
    assert len(trades) == 3
    assert len(batch.events) == 1


def test_a_state_the_broker_does_not_know_itself_is_a_receipt() -> None:
    order = an_order(OrderState.UNKNOWN)
    applied(order, a_command(CommandState.UNKNOWN), [a_report(None)])

    assert order.state is OrderState.SUBMITTED


def test_a_rejection_keeps_the_brokers_own_words() -> None:
    order = an_order(OrderState.SUBMITTED)
    applied(order, a_command(CommandState.DONE), [a_report(OrderState.REJECTED, message="RMS: margin of ₹10 short")])

    assert (order.reason_code, order.reason) == ("BROKER_REJECTED", "RMS: margin of ₹10 short")


@pytest.mark.parametrize("outcome", [Accepted("B1"), Refused("X", "no"), NotSent("no"), Unknown("reset")])
def test_an_outcome_told_twice_is_settled_once(outcome: Outcome) -> None:
    order, command, batch = an_order(OrderState.SENDING), a_command(CommandState.SENDING), Batch(at=NOW)
    batch.hold(order)
    settle(order, command, outcome, batch, WayBack())
    state = order.state
    if isinstance(outcome, (Accepted, Refused)):
        settle(order, command, outcome, batch, WayBack())
        assert len(batch.events) == 1
    assert order.state is state


@given(runs())
def test_a_row_comes_back_from_the_inbox_as_it_was_told(run: list[BookRow]) -> None:
    for row in run:
        assert from_body(to_body(row, "A1", "fake")) == row
        assert to_body(from_body(to_body(row, "A1", "fake")), "A1", "fake") == to_body(row, "A1", "fake")


def test_what_is_stuck_after_its_call_is_over_once_the_book_shows_it():
    order, command, batch = an_order(OrderState.SENDING), a_command(CommandState.STUCK), Batch(at=NOW)

    apply_row(order, command, a_report(OrderState.OPEN), Source.POLL, batch)

    assert (order.state, command.state) == (OrderState.OPEN, CommandState.DONE)
