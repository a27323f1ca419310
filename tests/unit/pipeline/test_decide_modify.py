"""What a read of the book proves of a modify whose answer was lost, with nothing but the order, the change and the row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from domain.changes import Change, Result, Told
from domain.commands import Command, CommandKind, CommandState
from domain.lifecycle import OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.outcomes import BookRow
from domain.settings import Settings
from pipeline.batch import Batch
from pipeline.modifying_stage import Facts, decide_modify
from pipeline.permits import Permits
from pipeline.reports import dated, to_body
from pipeline.stages import modify
from pipeline.terms import Read

NOW = datetime(2026, 11, 25, 5, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
PRICE = Decimal("1500.0000")
LATER, AT_ITS_PROOF = Read(NOW + SECOND, NOW + 2 * SECOND), Read(NOW, NOW + 2 * SECOND)


def an_order() -> Order:
    return Order(
        id="o1",
        intent_id="i0",
        line=0,
        correlation_id="c",
        user_id="u",
        instrument="NSE:INFY",
        side=Side.BUY,
        quantity=10,
        filled_quantity=3,
        product=Product.CNC,
        order_type=OrderType.LIMIT,
        validity=Validity.DAY,
        price=PRICE,
        state=OrderState.PARTIALLY_FILLED,
        broker="upstox",
        account_id="A1",
        broker_order_id="B1",
        modifies=1,
        changing=1,
        accepted_at=NOW,
        send_before=NOW,
    )


def a_row(**given: Any) -> BookRow:
    """As the order was before."""
    row = BookRow("B1", None, OrderState.PARTIALLY_FILLED, "open", 10, 3, PRICE, price=PRICE, order_type=OrderType.LIMIT)
    return replace(row, **given)


def result_of(wanted: dict[str, Any], row: BookRow, read: Read = LATER) -> Result | None:
    order, at = an_order(), NOW + 3 * SECOND
    body = dated(to_body(row, "A1", "upstox"), read, order.modifies)
    facts = Facts(Settings(), Permits({}), (), cast(modify.Facts, None), lambda _: (0, 0), (), {order.id: body})
    change = Change(
        order_id="o1", seq=1, intent_id="i1", line=0, wanted=wanted, asked_at=NOW, told=Told.UNKNOWN, proof_from=NOW
    )
    command = Command(
        order_id="o1", seq=1, kind=CommandKind.MODIFY, stage="modify", state=CommandState.READY, due_at=NOW
    )
    batch = Batch(at=at)
    batch.hold(order)
    decide_modify(order, command, change, facts, batch)
    assert (change.result is None) == (command.due_at > at)
    return change.result


@pytest.mark.parametrize("row", [a_row(), a_row(quantity=14), a_row(filled_quantity=4)], ids=["as it was", "others", "filled"])
def test_other_terms_prove_that_it_was_not_applied(row: BookRow) -> None:
    assert result_of({"quantity": 12}, row) is Result.NOT_APPLIED


@pytest.mark.parametrize(
    "row",
    [a_row(filled_quantity=2), a_row(quantity=12), a_row(state=None, status="modify pending"), a_row(quantity=0)],
    ids=["less filled than known", "the terms asked for", "a word on the way", "no terms"],
)
def test_what_is_old_or_shows_the_terms_asked_for_or_none_proves_nothing(row: BookRow) -> None:
    assert result_of({"quantity": 12}, row) is None


def test_a_read_that_did_not_begin_after_the_proof_time_proves_nothing() -> None:
    assert result_of({"quantity": 12}, a_row(), AT_ITS_PROOF) is None


def test_a_limit_that_the_order_had_is_no_market_protection_and_another_one_may_be() -> None:
    to_market = {"order_type": "MARKET", "price": None}

    assert result_of(to_market, a_row()) is Result.NOT_APPLIED
    assert result_of(to_market, a_row(price=Decimal("1545.00"))) is None
