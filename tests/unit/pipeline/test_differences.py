"""What counts as a difference between the record and a broker, whatever lags, repeats or comes out of order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.base import Funds
from domain.events import Source
from domain.lifecycle import OrderState
from domain.money import Money
from domain.orders import Order, OrderType, Product, Side, Validity
from domain.outcomes import BookRow, Fill
from domain.positions import Position
from pipeline.batch import Batch
from pipeline.dayends import DayEnd
from pipeline.differences import (
    Difference,
    Held,
    Kind,
    Sight,
    Suspicion,
    compare_funds,
    compare_orders,
    compare_positions,
    judge,
    with_the_books,
)
from pipeline.stages.persist import apply_row

NOW = datetime(2026, 11, 25, 5, 0, tzinfo=UTC)
APART = timedelta(seconds=10)
ENDS = DayEnd(NOW + timedelta(hours=6), NOW + timedelta(hours=14))
QUANTITY = 10


def an_order(number: int = 0, **given: Any) -> Order:
    terms: dict[str, Any] = {
        "id": f"o{number}",
        "intent_id": "i",
        "line": 0,
        "correlation_id": "c",
        "user_id": "u",
        "instrument": "NSE:INFY",
        "side": Side.BUY,
        "quantity": QUANTITY,
        "product": Product.CNC,
        "order_type": OrderType.LIMIT,
        "validity": Validity.DAY,
        "broker": "upstox",
        "account_id": "A1",
        "broker_tag": f"T{number}",
        "broker_order_id": f"B{number}",
        "state": OrderState.OPEN,
        "accepted_at": NOW,
        "send_before": NOW + timedelta(minutes=2),
    }
    return Order(**{**terms, **given})


def held(order: Order, *fills: Fill) -> Held:
    return Held(order, {(fill.exchange, fill.trade_id): (fill.quantity, fill.price) for fill in fills}, ENDS)


def a_row(number: int = 0, *fills: Fill, state: OrderState | None = OrderState.OPEN, **given: Any) -> BookRow:
    filled = sum(fill.quantity for fill in set(fills))
    if state is OrderState.OPEN and filled:
        state = OrderState.PARTIALLY_FILLED if filled < QUANTITY else OrderState.FILLED
    average = Decimal(1500) if filled else None
    terms: dict[str, Any] = {"status": "open", "quantity": QUANTITY, "filled_quantity": filled, "average_price": average}
    return BookRow(f"B{number}", f"T{number}", state, fills=fills, **{**terms, **given})


def fill(number: int, quantity: int = 2) -> Fill:
    return Fill(f"T{number}", "NSE", quantity, Decimal(1500), NOW)


def compare(
    ours: Sequence[Held], rows: Sequence[BookRow], at: datetime = NOW, sights: Mapping[str, Sight] | None = None
) -> tuple[list[Difference], dict[str, Sight]]:
    shown = {f"o{row.broker_order_id[1:]}": row for row in rows}
    return compare_orders(ours, shown, began=at, sights=sights or {})


def kinds(differences: Sequence[Difference]) -> list[tuple[Kind, bool]]:
    return [(difference.kind, difference.row is not None) for difference in differences]


# ---- one comparison


def test_what_agrees_does_not_differ():
    order = an_order(state=OrderState.FILLED, filled_quantity=QUANTITY, average_price=Decimal("1500.004"))
    fills = [fill(number) for number in range(5)]

    assert compare([held(order, *fills)], [a_row(0, *fills, state=OrderState.FILLED)]) == ([], {})


@pytest.mark.parametrize(
    ("order", "row", "expected"),
    [
        ({}, a_row(0, fill(1)), (Kind.ORDER, True)),
        ({"state": OrderState.SUBMITTED}, a_row(), (Kind.ORDER, True)),
        ({"broker_order_id": None}, a_row(), (Kind.ORDER, True)),
        ({"state": OrderState.UNKNOWN}, a_row(state=None), (Kind.ORDER, True)),
        ({}, a_row(state=OrderState.CANCELLED), (Kind.ORDER, True)),
        ({"state": OrderState.CANCELLED}, a_row(), (Kind.ORDER, False)),
        ({"state": OrderState.PARTIALLY_FILLED, "filled_quantity": 4}, a_row(), (Kind.ORDER, False)),
        ({}, replace(a_row(), broker_order_id="C0"), (Kind.ORDER, False)),
    ],
)
def test_what_the_record_lacks_can_be_mended_and_what_it_is_past_is_told(
    order: dict[str, Any], row: BookRow, expected: tuple[Kind, bool]
):
    differences, _ = compare_orders([held(an_order(**order))], {"o0": row}, began=NOW, sights={})

    assert kinds(differences) == [expected]


def test_cancelled_and_expired_are_one_end():
    assert compare([held(an_order(state=OrderState.EXPIRED))], [a_row(state=OrderState.CANCELLED)]) == ([], {})


def test_an_unknown_or_unsent_order_that_is_not_in_the_book_is_no_concern_of_the_reconciler():
    states = (OrderState.UNKNOWN, OrderState.SENDING, OrderState.RECEIVED, OrderState.FILLED)

    assert compare([held(an_order(number, state=state)) for number, state in enumerate(states)], []) == ([], {})


@given(st.permutations([fill(number) for number in range(5)]), st.integers(0, 5), st.randoms())
def test_fills_in_any_order_and_repeated_are_the_same_fills(fills: list[Fill], known: int, chance: random.Random):
    ordered = sorted(fills, key=lambda one: one.trade_id)
    order = an_order(state=OrderState.PARTIALLY_FILLED, filled_quantity=2 * known) if known else an_order()
    ours = [held(order, *ordered[:known])]
    repeated = [*fills, *chance.sample(fills, 3)]

    once, again = (compare(ours, [a_row(0, *told)])[0] for told in (ordered, repeated))

    assert [(d.key, d.ours, d.theirs, d.differs) for d in once] == [(d.key, d.ours, d.theirs, d.differs) for d in again]
    traded = {("NSE:INFY", Product.CNC): 2 * known}
    assert with_the_books(traded, ours, {"o0": a_row(0, *repeated)}) == {("NSE:INFY", Product.CNC): QUANTITY}


# ---- looks in a row


@st.composite
def days(draw: st.DrawFn) -> list[tuple[int, bool]]:
    """What happens to an order at its broker, second by second: how much is filled by then, and whether it is cancelled."""
    filled, day = 0, []
    for _ in range(draw(st.integers(30, 90))):
        filled = min(QUANTITY, filled + draw(st.sampled_from([0, 0, 0, 0, 0, 1, 3])))
        day.append((filled, False))
    return [*day, *[(filled, filled < QUANTITY)] * 40]


@given(days(), st.lists(st.integers(0, 9), min_size=130, max_size=130), st.lists(st.integers(1, 20), min_size=12, max_size=12))
def test_a_book_and_a_record_that_only_lag_never_differ(
    day: list[tuple[int, bool]], lags: list[int], waits: list[int]
):
    """The book may be up to nine seconds behind, the record two behind the book: whatever the looks, nothing counts."""
    suspicions: Mapping[str, Suspicion] = {}
    at, seen = 0, 0
    for wait in waits:
        at = min(at + wait, len(day) - 1)
        shown_at = max(seen, at - lags[at])  # a book doesn't go back in time
        seen = shown_at
        known_at = max(0, at - 2)
        differences, _ = compare([_as_held(*day[known_at])], [_as_row(*day[shown_at])], NOW + timedelta(seconds=at))
        judged = judge(differences, suspicions, began=NOW + timedelta(seconds=at), apart=APART)
        suspicions = judged.suspicions

        assert (judged.reports, judged.findings) == ([], [])


def _as_held(filled: int, cancelled: bool) -> Held:
    fills = [fill(number, 1) for number in range(filled)]
    state = OrderState.CANCELLED if cancelled else OrderState.OPEN
    if not cancelled and filled:
        state = OrderState.FILLED if filled == QUANTITY else OrderState.PARTIALLY_FILLED
    average = Decimal(1500) if filled else None
    order = an_order(state=state, filled_quantity=filled, average_price=average, last_seq=2 * filled + cancelled)
    return held(order, *fills)


def _as_row(filled: int, cancelled: bool) -> BookRow:
    fills = [fill(number, 1) for number in range(filled)]
    return a_row(0, *fills, state=OrderState.CANCELLED if cancelled else OrderState.OPEN)


@given(st.integers(0, QUANTITY), st.integers(0, QUANTITY), st.booleans(), st.booleans())
def test_two_looks_end_a_difference_and_two_more_change_nothing(
    ours: int, theirs: int, we_cancelled: bool, they_cancelled: bool
):
    one = _as_held(ours, we_cancelled and ours < QUANTITY)
    row = _as_row(theirs, they_cancelled and theirs < QUANTITY)
    told: list[set[str]] = []
    suspicions: Mapping[str, Suspicion] = {}
    for look in range(6):
        began = NOW + look * APART
        judged = judge(compare([one], [row], began)[0], suspicions, began=began, apart=APART)
        suspicions = judged.suspicions
        for report in judged.reports:
            one = _applied(one, report)
        told.append({finding.key for finding in judged.findings})
        if look != 1:
            assert judged.reports == []

    assert told[0] == set()
    assert told[3] == told[4] == told[5]
    assert one.order.filled_quantity == max(ours, theirs)
    assert not told[5] or ours > theirs or one.order.state != row.state


def _applied(one: Held, report: Difference) -> Held:
    """As persist leaves the order and its trades."""
    from domain.commands import Command, CommandKind, CommandState

    batch = Batch(at=NOW)
    batch.hold(one.order)
    command = Command(
        order_id=one.order.id, seq=0, kind=CommandKind.PLACE, stage="notify", state=CommandState.DONE, due_at=NOW, fence=1
    )
    assert report.row is not None
    apply_row(one.order, command, report.row, Source.RECONCILE, batch, differs=report.differs)
    assert [event.detail["differs"] for event in batch.events] == [report.differs]
    fills = {(fill.exchange, fill.trade_id): (fill.quantity, fill.price) for _, fill in batch.fills}
    return replace(one, trades={**one.trades, **fills})


def test_a_report_that_mends_nothing_becomes_a_finding():
    one, row = held(an_order()), a_row(0, fill(1))
    suspicions: Mapping[str, Suspicion] = {}
    ends = []
    for look in range(4):
        began = NOW + look * APART
        judged = judge(compare([one], [row], began)[0], suspicions, began=began, apart=APART)
        suspicions = judged.suspicions
        ends.append((len(judged.reports), len(judged.findings), judged.waiting))

    assert ends == [(0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 1, 0)]


def test_a_look_too_soon_after_the_first_confirms_nothing():
    difference = Difference(Kind.MISSING, "o0", "1 0", "OPEN", "not in the book")
    first = judge([difference], {}, began=NOW, apart=APART)

    assert judge([difference], first.suspicions, began=NOW + APART - timedelta(milliseconds=1), apart=APART).findings == []
    assert judge([difference], first.suspicions, began=NOW + APART, apart=APART).findings == [difference]


def test_what_could_not_be_looked_at_stays_suspected():
    before = {"POSITION NSE:INFY CNC": Suspicion("0 3", NOW, 2), "MISSING o0": Suspicion("1 0", NOW)}

    judged = judge([], before, began=NOW + APART, apart=APART, unexamined={Kind.POSITION})

    assert judged.suspicions == {"POSITION NSE:INFY CNC": Suspicion("0 3", NOW, 2)}


# ---- the day's end


def test_an_order_seen_after_its_session_expires_with_its_book():
    after_close, next_day = ENDS.tells_from, ENDS.over_at
    assert after_close is not None
    differences, sights = compare([held(an_order())], [a_row()], after_close)
    assert (differences, list(sights)) == ([], ["o0"])

    # Its book may be cleared before the day is over: that alone says nothing.
    differences, sights = compare([held(an_order())], [], after_close + timedelta(hours=1), sights)
    assert (differences, list(sights)) == ([], ["o0"])
    (difference,), _ = compare([held(an_order())], [], next_day, sights)

    assert difference.row is not None
    assert (difference.kind, difference.row.state, difference.row.filled_quantity) == (Kind.DAY_OVER, OrderState.EXPIRED, 0)


@pytest.mark.parametrize(
    "order",
    [
        an_order(),
        an_order(state=OrderState.PARTIALLY_FILLED, filled_quantity=3),
        an_order(validity=Validity.IOC),
    ],
)
def test_without_a_sight_of_what_was_left_a_day_that_is_over_is_only_told(order: Order):
    sights = {} if order.filled_quantity == 0 and order.validity is Validity.DAY else {"o0": Sight(NOW, 0, "open")}
    differences, _ = compare([held(order)], [], ENDS.over_at, sights)

    assert kinds(differences) == [(Kind.DAY_OVER, False)]


def test_a_read_before_the_close_is_no_sight_of_what_was_left():
    assert compare([held(an_order())], [a_row()], NOW)[1] == {}


# ---- positions and funds


def test_positions_differ_by_instrument_and_product_and_only_by_what_was_traded_today():
    ours = {("NSE:INFY", Product.CNC): 10, ("NSE:TCS", Product.MIS): 0}
    theirs = [
        Position("NSE:INFY", "NSE_EQ|INE009A01021", Product.CNC, 15, 5, Decimal(1500)),
        Position("NSE:INFY", "NSE_EQ|INE009A01021", Product.MIS, -2, 0, Decimal(1500)),
        Position(None, "MCX_FO|1", Product.NRML, 1, 0, Decimal(1)),
        Position("NFO:NIFTY26DECFUT", "NSE_FO|9", Product.NRML, 75, 75, Decimal(1)),
    ]

    found = [(d.subject, d.ours, d.theirs) for d in compare_positions(ours, theirs)]

    assert found == [("MCX_FO|1 NRML", "+0", "+1"), ("NSE:INFY MIS", "+0", "-2")]


@pytest.mark.parametrize(
    ("blocked", "available", "used", "told"),
    [
        (100_000, 0, 90_000, []),
        (100_000, 0, 89_999, ["used"]),
        (0, 0, 5_000_000, []),
        (0, -10_000, 0, []),
        (0, -10_001, 0, ["available"]),
    ],
)
def test_funds_differ_beyond_the_tolerance_only(blocked: int, available: int, used: int, told: list[str]):
    found = compare_funds(Money(blocked), Funds(Money(available), Money(used)), tolerance=Money(10_000))

    assert [difference.subject for difference in found] == told
