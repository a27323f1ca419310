"""Events: whatever an order goes through, folding its events gives the order as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import FOLDED, TERMS, Event, EventType, IllegalMove, Source, advance, fold
from domain.lifecycle import MOVES, TERMINAL, OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from store.json import dump

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


def an_order(**given: Any) -> Order:
    terms: dict[str, Any] = {
        "id": "0190",
        "intent_id": "0190",
        "line": 0,
        "correlation_id": "c",
        "user_id": "u",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": 10,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "price": Decimal("1500.1000"),
        "accepted_at": NOW,
        "send_before": NOW + timedelta(minutes=2),
    }
    return Order(**{**terms, **given})


def first_event(order: Order) -> Event:
    terms = {name: getattr(order, name) for name in TERMS}
    return Event(order.id, 0, EventType.RECEIVED, None, OrderState.RECEIVED, Source.CLIENT, NOW, {"set": terms})


def as_read(event: Event) -> tuple[int, str, str | None, str, dict[str, Any]]:
    """The event as it comes back from the database."""
    return event.seq, event.event_type, event.prev_state, event.new_state, orjson.loads(dump(event.detail))


def folded(events: list[Event]) -> dict[str, Any]:
    return fold(map(as_read, events))


def columns(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in FOLDED}


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "account_id": st.sampled_from(["A1", "A2"]),
        "broker": st.sampled_from(["upstox", "zerodha"]),
        "broker_order_id": st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=5),
        "filled_quantity": st.integers(0, 10),
        "average_price": st.none() | st.decimals(0, 10**6, places=4),
        "price": st.none() | st.decimals(0, 10**6, places=4),
        "version": st.integers(1, 30),
        "blocked_paise": st.integers(0, 10**15),
        "exposure_paise": st.integers(0, 10**15),
        "reason": st.none() | st.sampled_from(["margin ₹1,000 short", 'said "no"']),
    },
)


@given(st.data())
def test_folding_an_orders_events_gives_its_row(data: st.DataObject) -> None:
    order = an_order()
    events = [first_event(order)]
    for number in range(data.draw(st.integers(0, 12), label="how many events")):
        moves = sorted(MOVES[order.state])
        state = data.draw(st.none() | st.sampled_from(moves), label="to") if moves else None
        changes = data.draw(CHANGES, label="changes")
        events.append(
            advance(order, EventType.OPENED, Source.POLL, NOW + timedelta(seconds=number), state=state, changes=changes)
        )

        assert folded(events) == columns(order)

    assert [event.seq for event in events] == list(range(len(events)))
    assert order.last_seq == len(events) - 1


@given(st.sampled_from(list(OrderState)), st.sampled_from(list(OrderState)))
def test_a_move_that_is_not_in_the_table_raises_and_changes_nothing(before: OrderState, after: OrderState) -> None:
    order = an_order(state=before, account_id="A1")
    untouched = replace(order)
    if after in MOVES[before] or after is before:
        advance(order, EventType.OPENED, Source.POLL, NOW, state=after)
        assert order.state is after
        return

    with pytest.raises(IllegalMove):
        advance(order, EventType.OPENED, Source.POLL, NOW, state=after, changes={"filled_quantity": 3})
    assert order == untouched


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_whatever_ends_an_order_frees_what_it_held(end: OrderState) -> None:
    order = an_order(state=OrderState.SUBMITTED, account_id="A1", blocked_paise=5, exposure_paise=7)

    event = advance(order, EventType.OPENED, Source.POLL, NOW, state=end)

    assert (order.blocked_paise, order.exposure_paise) == (0, 0)
    assert event.detail["set"] == {"blocked_paise": 0, "exposure_paise": 0}


def test_an_event_without_a_change_still_counts() -> None:
    order = an_order()

    event = advance(order, EventType.STUCK, Source.PIPELINE, NOW, because={"stage": "risk"})

    assert (event.seq, event.prev_state, event.new_state, event.detail) == (
        1,
        "RECEIVED",
        "RECEIVED",
        {"stage": "risk"},
    )


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_event_is_noticed(gone: int) -> None:
    order = an_order()
    events = [first_event(order)]
    events.append(advance(order, EventType.SENDING, Source.PIPELINE, NOW, state=OrderState.SENDING))
    events.append(advance(order, EventType.UNKNOWN, Source.PIPELINE, NOW, state=OrderState.UNKNOWN))
    events.append(advance(order, EventType.SUBMITTED, Source.POLL, NOW, state=OrderState.SUBMITTED))
    del events[gone]

    with pytest.raises(ValueError, match=f"event {gone} is missing"):
        folded(events)


def test_an_event_that_begins_elsewhere_is_noticed() -> None:
    order = an_order()
    events = [first_event(order)]
    advance(order, EventType.SENDING, Source.PIPELINE, NOW, state=OrderState.SENDING)
    events.append(replace(advance(order, EventType.OPENED, Source.POLL, NOW, state=OrderState.OPEN), seq=1))

    with pytest.raises(ValueError, match="begins in SENDING"):
        folded(events)
