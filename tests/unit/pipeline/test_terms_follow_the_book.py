"""Reads of a book whose order is modified and fills meanwhile, told late, again and out of order, end with the broker's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.changes import Change, Told
from domain.commands import Command, CommandKind, CommandState
from domain.events import EventType, Source
from domain.lifecycle import TERMINAL, OrderState
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.outcomes import BookRow, Fill
from pipeline.batch import Batch
from pipeline.reports import READ, dated, from_body, to_body
from pipeline.stages.persist import apply_row
from pipeline.terms import HOLDS, Following, Read, is_believed

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
PRICE = Decimal("1500.0000")
SECOND = timedelta(seconds=1)


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
        "price": PRICE,
        "broker": "upstox",
        "account_id": "A1",
        "broker_order_id": "B1",
        "state": OrderState.OPEN,
        "accepted_at": NOW,
        "send_before": NOW,
        "modifies": 1,
        "blocked_paise": 10 * 1500,
        "exposure_paise": 10 * 1500,
    }
    return Order(**{**terms, **given})


def a_command() -> Command:
    return Command(order_id="0190", seq=0, kind=CommandKind.PLACE, stage="notify", state=CommandState.DONE, due_at=NOW)


def weigh(order: Order) -> tuple[int, int]:
    amount = int(order.quantity * (order.price or 0))
    return amount, amount


@dataclass(frozen=True)
class Sight:
    """A row as the broker had it at a moment, and the read that showed it."""

    row: BookRow
    read: Read


def row_of(quantity: int, price: Decimal, filled: int, state: OrderState | None = None) -> BookRow:
    fills = tuple(Fill(f"T{number}", "NSE", 1, PRICE, NOW) for number in range(filled))
    if state is None:
        state = OrderState.PARTIALLY_FILLED if filled else OrderState.OPEN
    if filled == quantity:
        state = OrderState.FILLED
    return BookRow(
        "B1", None, state, state.lower(), quantity, filled, PRICE if filled else None, price=price,
        order_type=OrderType.LIMIT, validity=Validity.DAY, fills=fills,
    )  # fmt: skip


@st.composite
def days(draw: st.DrawFn) -> list[Sight]:
    """What a book has shown of an order, oldest first; each row for a second, and read in it."""
    quantity, price, filled, at = 10, PRICE, 0, NOW
    sights = [Sight(row_of(quantity, price, filled), Read(at, at + SECOND))]
    for _ in range(draw(st.integers(0, 6))):
        at += 2 * SECOND
        match draw(st.sampled_from(["modify", "modify", "fill", "nothing"])):
            case "modify":
                quantity = draw(st.integers(filled + 1, 20))
                price = PRICE + draw(st.integers(-5, 5))
            case "fill":
                filled += draw(st.integers(1, quantity - filled))
        sights.append(Sight(row_of(quantity, price, filled), Read(at, at + SECOND)))
        if filled == quantity:
            return sights
    if draw(st.booleans()):
        at += 2 * SECOND
        sights.append(Sight(replace(row_of(quantity, price, filled), state=OrderState.CANCELLED), Read(at, at + SECOND)))
    return sights


def applied(order: Order, sights: Sequence[Sight], following: Following | None = None) -> Batch:
    batch = Batch(at=NOW)
    batch.hold(order)
    following = following or Following(weigh)
    for sight in sights:
        apply_row(order, a_command(), sight.row, Source.POLL, batch, read=sight.read, following=following)
    return batch


@settings(deadline=None)
@given(days(), st.data())
def test_in_any_order_and_told_again_the_newest_read_counts(day: list[Sight], data: st.DataObject) -> None:
    told = data.draw(st.permutations(day + data.draw(st.lists(st.sampled_from(day), max_size=4))))
    last = day[-1].row

    order = an_order()
    batch = applied(order, told)

    assert (order.quantity, order.price, order.filled_quantity) == (last.quantity, last.price, last.filled_quantity)
    assert order.state is last.state
    held = 0 if order.state in TERMINAL else weigh(order)[0]
    assert (order.blocked_paise, order.exposure_paise) == (held, held)
    moves = [event for event in batch.events if event.event_type is EventType.MODIFIED]
    assert order.version == 1 + len(moves)


@settings(deadline=None)
@given(days(), st.data())
def test_filled_is_never_cut_to_an_old_quantity(day: list[Sight], data: st.DataObject) -> None:
    order = an_order()
    following = Following(weigh)
    for sight in data.draw(st.permutations(day)):
        applied(order, [sight], following)
        assert order.filled_quantity >= sight.row.filled_quantity
        assert order.filled_quantity <= order.quantity


@settings(deadline=None)
@given(days())
def test_a_stream_tells_no_terms_but_those_of_an_end_or_of_more_than_the_order_was_for(day: list[Sight]) -> None:
    for sight in day:
        order, batch = an_order(), Batch(at=NOW)
        batch.hold(order)
        apply_row(order, a_command(), sight.row, Source.STREAM, batch, following=Following(weigh))
        knows = sight.row.state in TERMINAL or sight.row.filled_quantity > 10
        expected = (sight.row.quantity, sight.row.price) if knows else (10, PRICE)
        assert (order.quantity, order.price) == expected


@settings(deadline=None)
@given(days())
def test_nothing_moves_the_terms_of_an_order_that_was_never_modified(day: list[Sight]) -> None:
    order = an_order(modifies=0)
    applied(order, day)

    assert (order.quantity, order.price, order.version) == (10, PRICE, 1)


def sight(quantity: int, *, at: int, until: int | None = None, **given: Any) -> Sight:
    until = at + 1 if until is None else until
    return Sight(replace(row_of(quantity, PRICE, 0), **given), Read(NOW + at * SECOND, NOW + until * SECOND))


def test_a_read_that_overlaps_the_one_before_takes_nothing_back() -> None:
    order = an_order()
    applied(order, [sight(15, at=0, until=10), sight(10, at=5, until=6)])

    assert order.quantity == 15


def test_terms_that_came_and_went_again_stay_gone() -> None:
    first, between, last = sight(10, at=0), sight(15, at=2), sight(10, at=4)

    for told in ([last, between, first], [between, last, first], [last, first, between, last]):
        order = an_order()
        applied(order, told)
        assert order.quantity == 10


def test_a_word_between_two_states_shows_no_terms() -> None:
    order = an_order()
    applied(order, [sight(15, at=0, state=None, status="modify pending")])

    assert order.quantity == 10


def test_a_row_with_less_filled_than_is_known_is_old() -> None:
    assert not is_believed(an_order(filled_quantity=3), row_of(15, PRICE, 2), Read(NOW, NOW), None)
    assert is_believed(an_order(filled_quantity=3), row_of(15, PRICE, 3), Read(NOW, NOW), None)


def asked_for(quantity: int) -> Change:
    holds = [[15_000, 15_000], [quantity * 1500, quantity * 1500]]
    wanted = {"quantity": quantity, "base_version": 1, HOLDS: holds}
    return Change(order_id="0190", seq=1, intent_id="i", line=0, wanted=wanted, asked_at=NOW, told=Told.UNKNOWN)


def test_what_was_asked_for_holds_what_it_was_judged_to_need() -> None:
    order = an_order(blocked_paise=22_500, exposure_paise=22_500)
    applied(order, [sight(15, at=0)], Following(lambda _: (1, 1), {"0190": asked_for(15)}))

    assert (order.quantity, order.blocked_paise, order.exposure_paise) == (15, 22_500, 22_500)


def test_other_terms_than_those_asked_for_hold_no_less_than_these_may_need() -> None:
    order = an_order(blocked_paise=22_500, exposure_paise=22_500)
    applied(order, [sight(12, at=0)], Following(weigh, {"0190": asked_for(15)}))

    assert (order.quantity, order.blocked_paise) == (12, 22_500)


def test_a_dated_report_comes_back_as_it_was_and_only_where_terms_are_taken() -> None:
    body = to_body(row_of(15, PRICE, 3), "A1", "fake")
    read = Read(NOW, NOW + SECOND)

    assert from_body(dated(body, read, 1)) == row_of(15, PRICE, 3)
    assert Read.of(dated(body, read, 1)[READ]) == read
    assert dated(body, read, 0) == body
    assert Read.of(body.get(READ)) is None


def test_a_report_from_before_terms_were_told_is_read_as_ever() -> None:
    body = to_body(row_of(15, PRICE, 3), "A1", "fake")
    old = {name: value for name, value in body.items() if name not in ("quantity", "price", "trigger", "type", "validity", "disclosed")}

    order = an_order()
    apply_row(order, a_command(), from_body(old), Source.POLL, Batch(at=NOW), following=Following(weigh))

    assert (order.quantity, order.filled_quantity, order.state) == (10, 3, OrderState.PARTIALLY_FILLED)
