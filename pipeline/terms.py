"""Terms follow the book: once a modify of an order was called for, its terms are what a read of its broker's book shows.

docs/decisions/0009-terms-follow-the-book.md says which rows are believed, and why late ones take nothing back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.changes import Change
from domain.events import EventType, Source, advance
from domain.lifecycle import TERMINAL
from domain.modifies import modified, terms_of, terms_shown
from domain.orders import Order
from domain.outcomes import BookRow
from pipeline.batch import Batch

HOLDS = "holds"  # in what a change wants: what its order holds without and with its terms, as [blocked, exposure] each

Weigh = Callable[[Order], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Read:
    """A complete, authenticated read of a book: a row of it was so at some moment between these two."""

    began: datetime
    ended: datetime

    def to_json(self) -> list[str]:
        return [self.began.isoformat(), self.ended.isoformat()]

    @classmethod
    def of(cls, told: object) -> Read | None:
        match told:
            case [str(began), str(ended)]:
                return cls(datetime.fromisoformat(began), datetime.fromisoformat(ended))
        return None


@dataclass(slots=True)
class Following:
    """What is known of orders whose modify was called for, while a batch applies what books show of them.

    `under_way` is the modify that was called for and isn't over, `taken` the end of the newest read that was believed,
    both by order id; `weigh` says what an order holds with the terms it has, as (blocked, exposure) in paise.
    """

    weigh: Weigh
    under_way: Mapping[str, Change] = field(default_factory=dict)
    taken: dict[str, datetime] = field(default_factory=dict)


def follow(order: Order, row: BookRow, source: Source, batch: Batch, read: Read | None, following: Following) -> None:
    """Give the order the terms that the row shows, where the row is to be believed."""
    taken = following.taken.get(order.id)
    if not is_believed(order, row, read, taken):
        return
    if read is not None:
        following.taken[order.id] = max(taken or read.ended, read.ended)
    change = following.under_way.get(order.id)
    wanted = terms_of(change.wanted) if change is not None else None
    terms = terms_shown(order, row, wanted)
    if not terms:
        return
    changes: dict[str, Any] = {**terms, "version": order.version + 1}
    if order.state not in TERMINAL:
        blocked, exposure = _holding(modified(order, terms), change, wanted, following)
        changes |= {"blocked_paise": blocked, "exposure_paise": exposure}
    because: dict[str, Any] = {"status": row.status}
    if read is not None:
        because["read"] = read.to_json()
    if change is not None:
        because["modify"] = change.seq
    batch.change(order, advance(order, EventType.MODIFIED, source, batch.at, changes=changes, because=because))
    batch.news.add(order.intent_id)


def is_believed(order: Order, row: BookRow, read: Read | None, taken: datetime | None) -> bool:
    """Whether what the row shows of terms is no older than what the order has. `taken` is when the newest read ended.

    An ended order's terms change no more, and one that has filled more than the order is for knows newer ones. Any
    other row has to come from a read that began after the one before had ended, and must not speak of a change under
    way. One that has filled less than the order is old.
    """
    if not row.quantity or max(row.filled_quantity, order.filled_quantity) > row.quantity:
        return False
    if row.filled_quantity < order.filled_quantity:
        return False
    if row.state in TERMINAL or row.filled_quantity > order.quantity:
        return True
    return row.state is not None and read is not None and (taken is None or read.began >= taken)


def _holding(
    target: Order, change: Change | None, wanted: Mapping[str, Any] | None, following: Following
) -> tuple[int, int]:
    """What the order holds with the terms it has now; while others are still asked for, no less than these need."""
    holds = change.wanted.get(HOLDS) if change is not None else None
    if holds is None or wanted is None:
        return following.weigh(target)
    _, (blocked, exposure) = holds
    if all(getattr(target, name) == value for name, value in wanted.items()):
        return blocked, exposure
    weight = following.weigh(target)
    return max(weight[0], blocked), max(weight[1], exposure)
