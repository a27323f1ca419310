"""Differences between the record and a broker: found without I/O, and counted only once a second look shows them again.

A broker's book lags behind what the broker did, and the record behind the book. So what one look shows proves nothing. What
a second one still shows, begun a while after the first, while the record's side hasn't moved in between, is a
difference: the book has had its time to show what the record knows, and the record its time to learn what the book showed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from brokers.base import Funds
from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState
from domain.modifies import terms_shown
from domain.money import Money
from domain.orders import Order, Product, Validity
from domain.outcomes import BookRow
from domain.positions import Position
from pipeline.dayends import DayEnd
from pipeline.stages.persist import state_after
from store.reconciliations import Trade, TradeKey

CENT = Decimal("0.01")  # averages are told with two digits by some


class Kind(StrEnum):
    ORDER = "ORDER"  # the record is past what the book shows, or a report didn't bring it there
    MISSING = "MISSING"  # live at the broker by the record, and not in its book
    DAY_OVER = "DAY_OVER"  # still live by the record, its book is gone, and nothing shows how it ended
    POSITION = "POSITION"  # other than what our trades add up to: somebody trades there as well, or we miss trades
    FUNDS = "FUNDS"  # the broker has much less in use than the record has blocked, or less than nothing left


UNFILLED_ENDS = {OrderState.CANCELLED, OrderState.EXPIRED}  # two words for one end


@dataclass(frozen=True, slots=True)
class Held:
    """One order as the record has it."""

    order: Order
    trades: Mapping[TradeKey, Trade]
    ends: DayEnd


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs in one thing. With a `row` the record can be brought up to it, by a report; else it is a finding.

    `stamp` stands for the record's side, or for both: while it is the same, the thing has not moved.
    """

    kind: Kind
    subject: str
    stamp: str
    ours: str
    theirs: str
    row: BookRow | None = None
    differs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.kind} {self.subject}"


@dataclass(frozen=True, slots=True)
class Sight:
    """An order that a book showed after its session's end: what was filled of it, and that it had not ended."""

    at: datetime
    filled: int
    status: str


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A difference that was seen: since when, and whether a second look has confirmed it, or even found it unmended."""

    stamp: str
    since: datetime
    times: int = 1


# Orders and their trades.


def compare_orders(
    held: Sequence[Held], shown: Mapping[str, BookRow], *, began: datetime, sights: Mapping[str, Sight]
) -> tuple[list[Difference], dict[str, Sight]]:
    """What differs between the record's orders and a complete book, and which orders rested after their session's end.

    Args:
        held: every live order of the account, and those ended ones that the book shows.
        shown: the book's row of each order that it shows, by order id.
        began: when the read of the book began.
        sights: what earlier reads showed of orders that rested then.
    """
    differences: list[Difference] = []
    resting: dict[str, Sight] = {}
    for one in held:
        order = one.order
        row = shown.get(order.id)
        if row is not None:
            differences.extend(of_row(one, row))
            if one.ends.tells_from and one.ends.tells_from <= began and is_resting(order, row):
                resting[order.id] = Sight(began, row.filled_quantity, row.status)
        elif order.state in AT_BROKER:
            sight = sights.get(order.id)
            if sight is not None:
                resting[order.id] = sight
            differences.extend(of_absence(one, began, sight))
    return differences, resting


def of_row(held: Held, row: BookRow) -> Iterator[Difference]:
    """At most one: what the record lacks comes first, and may mend what it seems to be past of."""
    lacking = lacks(held, row)
    beyond = {} if lacking else is_past(held, row)
    differs = lacking or beyond
    if differs:
        yield Difference(
            kind=Kind.ORDER,
            subject=held.order.id,
            stamp=_stamp(held),
            ours=_side(differs, 0),
            theirs=_side(differs, 1),
            row=row if lacking else None,
            differs=differs,
        )


def lacks(held: Held, row: BookRow) -> dict[str, Any]:
    """What the row has and the record hasn't, as [ours, theirs] by name: all of it can be taken over by persist's rules."""
    order = held.order
    sent = replace(order, state=OrderState.SENDING) if order.state in UNSENT else order
    terms = terms_shown(order, row, None) if order.modifies and row.state is not None else {}
    quantity = terms.get("quantity", order.quantity)
    filled = max(order.filled_quantity, min(row.filled_quantity, quantity))
    state = state_after(sent, row, filled)
    differs: dict[str, Any] = {}
    if state is not order.state:
        differs["state"] = [order.state.value, state.value]
    if filled != order.filled_quantity:
        differs["filled"] = [order.filled_quantity, filled]
    if terms and max(filled, order.filled_quantity) <= row.quantity:
        differs["terms"] = [_words(order, terms), _words(replace(order, **terms), terms)]
    if order.broker_order_id is None:
        differs["brokerOrderId"] = [None, row.broker_order_id]
    fresh = [f"{fill.exchange}:{fill.trade_id}" for fill in row.fills if (fill.exchange, fill.trade_id) not in held.trades]
    if fresh:
        differs["trades"] = [None, sorted(set(fresh))]
    return differs


def is_past(held: Held, row: BookRow) -> dict[str, Any]:
    """What the record has and the row contradicts, as [ours, theirs] by name: nothing takes that back."""
    order = held.order
    differs: dict[str, Any] = {}
    if order.state in TERMINAL and row.state not in (None, order.state) and {order.state, row.state} != UNFILLED_ENDS:
        differs["state"] = [order.state.value, str(row.state)]
    if order.broker_order_id != row.broker_order_id:
        differs["brokerOrderId"] = [order.broker_order_id, row.broker_order_id]
    if order.filled_quantity != row.filled_quantity:
        differs["filled"] = [order.filled_quantity, row.filled_quantity]
    elif _is_apart(order.average_price, row.average_price):
        differs["average"] = [str(order.average_price), str(row.average_price)]
    told = {(fill.exchange, fill.trade_id): (fill.quantity, fill.price) for fill in row.fills}
    other = [f"{key[0]}:{key[1]}" for key, trade in held.trades.items() if told.get(key) != trade]
    if other:
        differs["trades"] = [sorted(other), None]
    return differs


def of_absence(held: Held, began: datetime, sight: Sight | None) -> Iterator[Difference]:
    """A live order that a complete book doesn't show is missing, or ended with its day; of that its last sight may tell.

    One that was seen after its session's end may leave the book before the day is over: some brokers clear it early.
    """
    order = held.order
    ours = f"{order.state.value}, {order.filled_quantity} of {order.quantity} filled"
    if began < held.ends.over_at:
        if sight is None:
            yield Difference(Kind.MISSING, order.id, _stamp(held), ours, "not in the book")
        return
    if sight is None or sight.filled != order.filled_quantity or order.validity is not Validity.DAY:
        yield Difference(Kind.DAY_OVER, order.id, _stamp(held), ours, "its book is gone, and no read shows its end")
        return
    row = BookRow(
        broker_order_id=order.broker_order_id or "",
        tag=order.broker_tag,
        state=OrderState.EXPIRED,
        status=sight.status,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        average_price=order.average_price,
        message=f"its day is over; after its session's end, at {sight.at.isoformat(timespec='seconds')}, the book showed"
        f" it as {sight.status}, with {sight.filled} filled",
    )
    differs = {"state": [order.state.value, OrderState.EXPIRED.value]}
    yield Difference(Kind.DAY_OVER, order.id, _stamp(held), ours, "EXPIRED", row, differs)


def is_resting(order: Order, row: BookRow) -> bool:
    return order.state in AT_BROKER and row.state not in TERMINAL and row.filled_quantity == order.filled_quantity


# Positions and funds.


def with_the_books(
    traded: Mapping[tuple[str, Product], int], held: Sequence[Held], shown: Mapping[str, BookRow]
) -> dict[tuple[str, Product], int]:
    """What our trades add up to, with those that the book shows and the record still lacks: these are told as the orders'."""
    added = dict(traded)
    for one in held:
        row, order = shown.get(one.order.id), one.order
        fills = {(fill.exchange, fill.trade_id): fill.quantity for fill in row.fills} if row is not None else {}
        for key, quantity in fills.items():
            if key not in one.trades:
                at = (order.instrument, order.product)
                added[at] = added.get(at, 0) + (quantity if order.is_buy else -quantity)
    return added


def compare_positions(ours: Mapping[tuple[str, Product], int], theirs: Sequence[Position]) -> list[Difference]:
    """Where what our trades of the day add up to isn't what the broker counts for the day."""
    told: dict[tuple[str, str], int] = {(p.instrument or p.name, p.product or "?"): p.of_today for p in theirs}
    added: dict[tuple[str, str], int] = {(instrument, product): net for (instrument, product), net in ours.items()}
    differences = []
    for instrument, product in sorted(told.keys() | added.keys()):
        us, them = added.get((instrument, product), 0), told.get((instrument, product), 0)
        if us != them:
            stamp = f"{us} {them}"
            differences.append(Difference(Kind.POSITION, f"{instrument} {product}", stamp, f"{us:+d}", f"{them:+d}"))
    return differences


def compare_funds(blocked: Money, funds: Funds, *, tolerance: Money) -> list[Difference]:
    """Whether the broker has less in use than the record has blocked for its open orders there, or less than nothing left.

    More in use than blocked says nothing: positions use funds, too.
    """
    differences = []
    if blocked - funds.used > tolerance:
        differences.append(Difference(Kind.FUNDS, "used", "", f"{blocked} blocked", f"{funds.used} in use"))
    if -funds.available > tolerance:
        differences.append(Difference(Kind.FUNDS, "available", "", f"{blocked} blocked", f"{funds.available} available"))
    return differences


# What counts.


@dataclass(frozen=True, slots=True)
class Judged:
    """What a look proves together with the looks before it: what to report, and what to tell.

    `waiting` differences are for another look to confirm, or to find mended.
    """

    reports: Sequence[Difference]
    findings: Sequence[Difference]
    waiting: int
    suspicions: Mapping[str, Suspicion]


def judge(
    shown: Sequence[Difference],
    before: Mapping[str, Suspicion],
    *,
    began: datetime,
    apart: timedelta,
    unexamined: Collection[Kind] = (),
) -> Judged:
    """What of the differences a look shows counts by now.

    The second sight of one that stayed as it was makes a report, where one can mend it, and a finding else. A third one says
    that the report didn't mend it: a finding, too. `unexamined` kinds stay as they were.
    """
    reports, findings = [], []
    after = {key: kept for key, kept in before.items() if key.partition(" ")[0] in unexamined}
    for difference in shown:
        suspicion = before.get(difference.key)
        if suspicion is None or suspicion.stamp != difference.stamp:
            suspicion = Suspicion(difference.stamp, began)
        elif began - suspicion.since >= apart:
            suspicion = Suspicion(difference.stamp, began, min(suspicion.times + 1, 3))
            if suspicion.times == 2 and difference.row is not None:
                reports.append(difference)
        if suspicion.times > (1 if difference.row is None else 2):
            findings.append(difference)
        after[difference.key] = suspicion
    return Judged(reports, findings, len(shown) - len(findings), after)


def _words(order: Order, names: Collection[str]) -> list[str]:
    return [f"{name} {getattr(order, name)}" for name in names]


def _stamp(held: Held) -> str:
    return f"{held.order.last_seq} {len(held.trades)}"


def _side(differs: Mapping[str, Any], side: int) -> str:
    return ", ".join(f"{name} {_said(values[side])}" for name, values in differs.items())


def _said(value: Any) -> str:
    return "none" if value is None else " ".join(value) if isinstance(value, list) else str(value)


def _is_apart(ours: Decimal | None, theirs: Decimal | None) -> bool:
    return ours is not None and theirs is not None and abs(ours - theirs) > CENT
