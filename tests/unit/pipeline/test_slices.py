"""Slices: nothing is lost in the cutting, and a parent says what its slices add up to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.lifecycle import AT_BROKER, TERMINAL, OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.reference import all_instruments
from pipeline.slices import Part, cut, sizes, sum_up

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
INFY = all_instruments(date(2026, 11, 23))["NSE:INFY"]
NIFTY = replace(INFY, lot_size=65, freeze_quantity=1_800)


def an_order(quantity: int, **terms) -> Order:
    known = {
        "id": "01a20457-a5b4-73bf-a61b-8b7ca3ee4636",
        "intent_id": "01a20457-a5b4-73bf-a61b-8b7bd5484c0e",
        "line": 0,
        "correlation_id": "leg-1",
        "user_id": "01a20457-a5b4-73bf-a61b-8b7bd5484c0f",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": quantity,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "price": Decimal("1121"),
        "accepted_at": NOW,
        "send_before": NOW,
    }
    return Order(**(known | terms))


def test_a_slice_has_whole_lots_up_to_the_freeze_quantity():
    assert sizes(65 * 60, NIFTY) == [1_755, 1_755, 390]


@given(st.integers(1, 270), st.integers(0, 10**12), st.integers(0, 10**12))
def test_slices_add_up_to_their_order_to_the_unit_and_the_paisa(lots, blocked, exposure):
    order = an_order(lots * 65, blocked_paise=blocked, exposure_paise=exposure)

    parts = [part for part, _ in cut(order, NIFTY, "OC", NOW)]

    assert sum(part.quantity for part in parts) == order.quantity
    assert sum(part.blocked_paise for part in parts) == blocked
    assert sum(part.exposure_paise for part in parts) == exposure
    assert all(part.quantity % 65 == 0 and part.quantity <= 1_800 for part in parts)
    assert len({part.broker_tag for part in parts} | {order.broker_tag}) == len(parts) + 1
    assert all(part.parent_id == order.id for part in parts)


def test_a_parent_is_filled_when_all_its_slices_are_at_their_mean_price():
    parent = an_order(300, slices=2, state=OrderState.OPEN)
    parts = [Part(OrderState.FILLED, 200, 200, Decimal(100)), Part(OrderState.FILLED, 100, 100, Decimal(103))]

    event = sum_up(parent, parts, NOW)

    assert event is not None
    assert (parent.state, parent.filled_quantity, parent.average_price) == (OrderState.FILLED, 300, Decimal("101.0000"))


@pytest.mark.parametrize(
    ("states", "filled", "expected"),
    [
        ([OrderState.REJECTED, OrderState.REJECTED], 0, OrderState.REJECTED),
        ([OrderState.FILLED, OrderState.REJECTED], 100, OrderState.CANCELLED),
        ([OrderState.REJECTED, OrderState.CANCELLED], 0, OrderState.CANCELLED),
        ([OrderState.UNKNOWN, OrderState.FILLED], 100, OrderState.PARTIALLY_FILLED),
        ([OrderState.UNKNOWN, OrderState.SENDING], 0, OrderState.UNKNOWN),
        ([OrderState.RECEIVED, OrderState.SUBMITTED], 0, OrderState.SUBMITTED),
    ],
)
def test_a_parents_state_follows_its_slices(states, filled, expected):
    parent = an_order(200, slices=2, state=OrderState.SENDING)
    parts = [
        Part(state, 100, filled if state is OrderState.FILLED else 0, Decimal(100) if filled else None)
        for state in states
    ]

    sum_up(parent, parts, NOW)

    assert parent.state is expected


@given(st.lists(st.lists(st.sampled_from(sorted(AT_BROKER | TERMINAL)), min_size=2, max_size=2), max_size=8))
def test_whatever_slices_do_a_parents_fills_never_fall_and_its_end_stays(steps):
    parent = an_order(200, slices=2, state=OrderState.SENDING)
    filled = [0, 0]
    for states in steps:
        before = (parent.state, parent.filled_quantity)
        filled = [max(old, 100 if state == OrderState.FILLED else old) for old, state in zip(filled, states, strict=True)]
        parts = [Part(OrderState(state), 100, done, Decimal(5)) for state, done in zip(states, filled, strict=True)]

        sum_up(parent, parts, NOW)

        assert parent.filled_quantity >= before[1]
        if before[0] in TERMINAL:
            assert parent.state is before[0]
