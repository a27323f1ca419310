"""Updates: what an order stream says becomes a report, a hint to read the book, or nothing. It does no more than a poll could.

A report only where the record already knows the order at that account, by its tag or by the broker's id, and only if
it moves something. Whatever can't be joined, might be a twin, or tells of fills, makes the book be read: a stream has
no trades, no complete view, and no memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from domain.events import Source
from domain.ids import is_our_tag
from domain.lifecycle import TERMINAL, OrderState
from domain.outcomes import BookRow
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.reports import to_body
from store import reports, stream_updates
from store.reports import Report
from store.stream_updates import Known

JOINED_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Update:
    """An order as the stream of an account showed it."""

    account_id: str
    row: BookRow


@dataclass(slots=True)
class Judged:
    """What comes of some updates."""

    reports: list[Report] = field(default_factory=list)
    hints: set[str] = field(default_factory=set)  # brokers whose books are to be read
    fills: dict[str, tuple[str, int]] = field(default_factory=dict)  # by order id: whose trades are to be read

    def add(self, update: Update, broker: str, order: Known | None, installation: str) -> None:
        row = update.row
        if order is None:
            if row.tag is None or is_our_tag(installation, row.tag):
                self.hints.add(broker)
            return
        if not is_the_order(update, order):
            self.hints.add(broker)
            return
        if order.changing:
            self.hints.add(broker)  # what comes of a change is a book's to say
        if not tells_something(row, order):
            return
        self.reports.append(Report(order.order_id, Source.STREAM, to_body(row, update.account_id, broker)))
        if row.filled_quantity > order.filled_quantity:
            self.hints.add(broker)
            most = max(order.quantity, row.quantity) if order.modifies else order.quantity  # it may have more by now
            self.fills[order.order_id] = (update.account_id, min(row.filled_quantity, most))


def is_the_order(update: Update, order: Known) -> bool:
    """Whether the row is the order, as far as the record knows: in its account, and not another one with its tag."""
    return (
        order.account_id == update.account_id
        and order.broker_order_id in (None, update.row.broker_order_id)
        and update.row.tag in (None, order.tag)
    )


def tells_something(row: BookRow, order: Known) -> bool:
    """Whether applying the row would move the order. An order only moves on, so what wouldn't now, never will."""
    if row.filled_quantity > order.filled_quantity:
        return True
    if order.state is OrderState.SENDING:
        # A mere receipt: its answer is on the way, and where that gets lost, the order is looked for.
        return row.state not in (None, OrderState.SUBMITTED)
    if order.broker_order_id is None or order.state is OrderState.UNKNOWN:
        return True
    return order.state not in TERMINAL and row.state not in (None, OrderState.SUBMITTED, order.state)


class Inbox:
    """Writes updates down, many at a time. For one thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._joined: OrderedDict[tuple[str, str], str] = OrderedDict()  # order id by account and broker order id

    def write(self, updates: Sequence[Update]) -> set[str]:
        """Write down what they say, in one transaction; gives the brokers whose books are to be read. Raises StoreAway."""
        desk = self._desk
        accounts = desk.directory().by_id
        updates = [update for update in updates if update.account_id in accounts]
        judged = Judged()
        with desk.store.unit() as unit:
            tags = {u.row.tag for u in updates if u.row.tag and is_our_tag(desk.environment.installation, u.row.tag)}
            by_tag = stream_updates.by_tags(unit, sorted(tags))
            untagged = {(u.account_id, u.row.broker_order_id) for u in updates if u.row.tag is None}
            by_id = stream_updates.by_order_ids(
                unit, {key: self._joined[key] for key in untagged & self._joined.keys()}
            )
            unjoined = sorted(untagged - by_id.keys())
            by_id |= stream_updates.by_broker_ids(unit, [(accounts[key[0]].user_id, *key) for key in unjoined])
            for update in updates:
                row = update.row
                order = by_tag.get(row.tag) if row.tag else by_id.get((update.account_id, row.broker_order_id))
                judged.add(update, accounts[update.account_id].broker, order, desk.environment.installation)
            new = reports.insert(unit, judged.reports, desk.now())
            stream_updates.await_trades(unit, judged.fills)
            crash("updates.before_commit")
        crash("updates.after_commit")
        self._remember(by_tag, by_id)
        if new:
            desk.wakeups.wake("persist")
        return judged.hints

    def _remember(self, by_tag: Mapping[str, Known], by_id: Mapping[tuple[str, str], Known]) -> None:
        for known in (*by_tag.values(), *by_id.values()):
            if known.account_id is not None and known.broker_order_id is not None:
                self._joined[known.account_id, known.broker_order_id] = known.order_id
        while len(self._joined) > JOINED_MAX:
            self._joined.popitem(last=False)
