"""Strays: which rows of a book with tags of ours are the orders they should be, and which must not be there.

At most one row in all books may be live or filled for a tag. One more is a twin: something was sent twice, by us or by
somebody else. A tag of our form that no order has is an orphan: the record has forgotten it, after a restore perhaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.lifecycle import UNSENT, OrderState
from domain.outcomes import BookRow


@dataclass(frozen=True, slots=True)
class Known:
    """What the record says of the order with a tag."""

    order_id: str
    broker_order_id: str | None
    account_id: str | None
    state: OrderState
    modifies: int = 0  # calls that modify it


@dataclass(frozen=True, slots=True)
class Sorted:
    """A book's rows with our tags: `ours` by order id, and what is too many."""

    ours: Mapping[str, BookRow]
    twins: Sequence[tuple[Known, BookRow]]
    orphans: Sequence[BookRow]


def sort_out(account_id: str, rows: Mapping[str, Sequence[BookRow]], known: Mapping[str, Known]) -> Sorted:
    """Sort one account's rows, by tag, into ours, twins and orphans."""
    ours: dict[str, BookRow] = {}
    twins: list[tuple[Known, BookRow]] = []
    orphans: list[BookRow] = []
    for tag, told in rows.items():
        shown = list({row.broker_order_id: row for row in told}.values())  # a row that is repeated is no second order
        order = known.get(tag)
        if order is None:
            orphans.extend(shown)
            continue
        row = ours_of(shown, order) if is_its_account(order, account_id) else None
        if row is not None:
            ours[order.order_id] = row
        twins.extend((order, other) for other in shown if other is not row and is_live_or_filled(other))
    return Sorted(ours, twins, orphans)


def is_its_account(order: Known, account_id: str) -> bool:
    """Whether a row in this account may be the order: it was sent there, or waits to be sent to another and may not."""
    return order.account_id == account_id or order.state in UNSENT


def ours_of(shown: Sequence[BookRow], order: Known) -> BookRow:
    """The row whose id the broker told us, else the first that lives or filled, else the first."""
    for row in shown:
        if row.broker_order_id == order.broker_order_id:
            return row
    in_order = sorted(shown, key=lambda row: (len(row.broker_order_id), row.broker_order_id))
    return next((row for row in in_order if is_live_or_filled(row)), in_order[0])


def is_live_or_filled(row: BookRow) -> bool:
    return row.filled_quantity > 0 or is_open(row)


def is_open(row: BookRow) -> bool:
    """Whether it may still fill; an interim word says that it may."""
    return row.state not in (OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED)
