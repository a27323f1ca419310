"""What becomes of a stream's update: a report only where a poll would make the same, else a look into the book, or nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from domain.events import Source
from domain.lifecycle import OrderState
from domain.outcomes import BookRow
from pipeline.reports import to_body
from pipeline.updates import Judged, Update, tells_something
from store.stream_updates import Known

TAG = "OC00000000000000001"
KNOWN = Known("0190", TAG, "A1", "B1", OrderState.SUBMITTED, 10, 0)


def a_row(state: OrderState | None = OrderState.OPEN, **given: Any) -> BookRow:
    terms: dict[str, Any] = {
        "broker_order_id": "B1",
        "tag": TAG,
        "state": state,
        "status": "open",
        "quantity": 10,
        "filled_quantity": 0,
        "average_price": None,
    }
    return BookRow(**{**terms, **given})


def judged(row: BookRow, order: Known | None = KNOWN, account_id: str = "A1") -> Judged:
    found = Judged()
    found.add(Update(account_id, row), "upstox", order, "OC")
    return found


def test_an_order_the_record_knows_gets_the_report_that_a_poll_would_make() -> None:
    row = a_row()
    found = judged(row)

    assert [(report.order_id, report.source, report.body) for report in found.reports] == [
        ("0190", Source.STREAM, to_body(row, "A1", "upstox"))
    ]
    assert (found.hints, found.fills) == (set(), {})


def test_fills_are_reported_and_their_trades_are_to_be_read() -> None:
    found = judged(a_row(OrderState.FILLED, filled_quantity=10, average_price=Decimal(1500)))

    assert len(found.reports) == 1
    assert (found.hints, found.fills) == ({"upstox"}, {"0190": ("A1", 10)})


def test_no_more_trades_are_awaited_than_were_ordered() -> None:
    assert judged(a_row(filled_quantity=12)).fills == {"0190": ("A1", 10)}


def test_a_modified_order_may_have_more_of_them_than_the_record_knows() -> None:
    order = replace(KNOWN, modifies=1)

    assert judged(a_row(filled_quantity=12, quantity=15), order).fills == {"0190": ("A1", 12)}


def test_whatever_a_stream_says_of_a_changing_order_makes_its_book_be_read() -> None:
    order = replace(KNOWN, state=OrderState.OPEN, changing=1)
    found = judged(a_row(quantity=15), order)

    assert (found.reports, found.hints) == ([], {"upstox"})


@pytest.mark.parametrize(("row", "order"), [
    (a_row(tag=None), None),  # without a tag, and no order has the broker's id yet
    (a_row(), None),  # our tag, which no row has
    (a_row(broker_order_id="B2"), KNOWN),  # a twin, perhaps
    (a_row(), replace(KNOWN, account_id="A2")),  # the order went elsewhere
    (a_row(), replace(KNOWN, account_id=None, broker_order_id=None, state=OrderState.RECEIVED)),
    (a_row(tag="OC00000000000000002"), KNOWN),
])  # fmt: skip
def test_what_cannot_be_joined_is_a_hint(row: BookRow, order: Known | None) -> None:
    found = judged(row, order)

    assert (found.reports, found.hints, found.fills) == ([], {"upstox"}, {})


@pytest.mark.parametrize("tag", ["mktp", "XX00000000000000001", "OC1", "oc00000000000000001"])
def test_another_clients_order_is_nothing_to_us(tag: str) -> None:
    found = judged(a_row(tag=tag), None)

    assert (found.reports, found.hints) == ([], set())


@pytest.mark.parametrize(("row", "order", "tells"), [
    (a_row(OrderState.SUBMITTED), KNOWN, False),
    (a_row(None), KNOWN, False),
    (a_row(OrderState.OPEN), replace(KNOWN, state=OrderState.OPEN), False),
    (a_row(OrderState.OPEN), KNOWN, True),
    (a_row(None, filled_quantity=4), KNOWN, True),
    (a_row(OrderState.CANCELLED), replace(KNOWN, state=OrderState.PARTIALLY_FILLED, filled_quantity=4), True),
    (a_row(OrderState.OPEN, filled_quantity=2), replace(KNOWN, state=OrderState.FILLED, filled_quantity=10), False),
    (a_row(OrderState.CANCELLED), replace(KNOWN, state=OrderState.FILLED, filled_quantity=10), False),
    (a_row(OrderState.FILLED, filled_quantity=10), replace(KNOWN, state=OrderState.CANCELLED, filled_quantity=4), True),
    # Its call is under way: a mere receipt says no more than the answer will
    (a_row(OrderState.SUBMITTED), replace(KNOWN, state=OrderState.SENDING, broker_order_id=None), False),
    (a_row(OrderState.REJECTED), replace(KNOWN, state=OrderState.SENDING, broker_order_id=None), True),
    # Nobody knows: any sight of it is worth more than an answer
    (a_row(OrderState.SUBMITTED), replace(KNOWN, state=OrderState.UNKNOWN, broker_order_id=None), True),
    (a_row(None), replace(KNOWN, state=OrderState.UNKNOWN, broker_order_id=None), True),
    # Taken for unsent, and at the broker after all: it must not go out again
    (a_row(OrderState.SUBMITTED), replace(KNOWN, state=OrderState.RECEIVED, broker_order_id=None), True),
])  # fmt: skip
def test_a_row_that_moves_nothing_is_no_report(row: BookRow, order: Known, tells: bool) -> None:
    assert tells_something(row, order) is tells
