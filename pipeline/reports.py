"""Reports: what brokers' books say of our orders, written to the inbox by whoever reads them, applied by persist."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from domain.events import Source
from domain.ids import is_our_tag
from domain.lifecycle import OrderState
from domain.outcomes import BookRow, Fill, Unreadable
from pipeline.batch import Batch
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.news import tell
from pipeline.stages.persist import apply_row
from store import accounts, commands, orders, reports
from store.reports import Report

log = logging.getLogger(__name__)

APPLY_MAX = 200


class BookReader:
    """Reads the books of one broker's accounts that have live orders, and passes on what has changed in them."""

    def __init__(self, desk: Desk, broker: str) -> None:
        self._desk, self._broker = desk, broker
        self._seen: dict[tuple[str, str], dict[str, Any]] = {}  # what was passed on, by (account, broker order id)

    def read(self) -> int:
        """Read every such account's book once; gives how many reports were new."""
        with self._desk.store.unit() as unit:
            live = accounts.with_live_orders(unit, self._broker)
        return sum(self._read_account(account_id) for account_id in live)

    def _read_account(self, account_id: str) -> int:
        adapter = self._desk.adapters[self._broker]
        timeout_s = self._desk.settings().read_timeout_s
        book = adapter.book(self._desk.session(account_id), timeout_s=timeout_s)
        if isinstance(book, Unreadable):
            log.warning("a book could not be read", extra={"account": account_id, "why": book.why})
            return 0
        return self._pass_on(account_id, book)

    def _pass_on(self, account_id: str, book: Iterable[BookRow]) -> int:
        installation = self._desk.environment.installation
        changed = {}
        for row in book:
            if row.tag is not None and is_our_tag(installation, row.tag):
                body = to_body(row)
                if self._seen.get((account_id, row.broker_order_id)) != body:
                    changed[row.broker_order_id] = (row.tag, body)
        if not changed:
            return 0
        with self._desk.store.unit() as unit:
            ids = orders.ids_by_tag(unit, [tag for tag, _ in changed.values()])
            unknown = [tag for tag, _ in changed.values() if tag not in ids]
            if unknown:
                log.error("a book shows orders of ours that no row knows", extra={"account": account_id, "tags": unknown})
            found = [Report(ids[tag], Source.POLL, body) for tag, body in changed.values() if tag in ids]
            new = reports.insert(unit, found, self._desk.now())
            crash("reports.before_commit")
        for broker_order_id, (tag, body) in changed.items():
            if tag in ids:
                self._seen[account_id, broker_order_id] = body
        if new:
            self._desk.wakeups.wake("persist")
        return new


def apply_due(desk: Desk) -> int:
    """Apply the reports that wait in the inbox; gives how many were applied."""
    total = 0
    while applied := _apply_some(desk):
        total += applied
    return total


def _apply_some(desk: Desk) -> int:
    with desk.store.unit() as unit:
        waiting = reports.claim(unit, APPLY_MAX)
        if not waiting:
            return 0
        ids = sorted({order_id for order_id, *_ in waiting})
        held_commands = commands.lock(unit, ids)
        held = orders.lock(unit, ids)
        batch = Batch(at=desk.now())
        for order in held.values():
            batch.hold(order)
        for order_id, digest, source, body in waiting:
            try:
                apply_row(held[order_id], held_commands[order_id], from_body(body), Source(source), batch)
            except Exception:
                log.exception("a report could not be applied; it stays in the inbox", extra={"order_id": order_id})
                raise
            batch.applied.append((order_id, digest))
        batch.record(unit)
        crash("reports.apply.before_commit")
    tell(desk, batch.news)
    return len(waiting)


def late_answers(entries: Sequence[tuple[str, str]]) -> list[Report]:
    """Reports of accepted answers that came after their lease: (order id, broker order id)."""
    return [
        Report(order_id, Source.LATE_ANSWER, {"brokerOrderId": broker_order_id, "status": "accepted", "filled": 0})
        for order_id, broker_order_id in entries
    ]


def to_body(row: BookRow) -> dict[str, Any]:
    """A book row as JSON; equal rows have equal bodies."""
    return {
        "brokerOrderId": row.broker_order_id,
        "status": row.status,
        "state": row.state,
        "filled": row.filled_quantity,
        "average": _text(row.average_price),
        "message": row.message,
        "exchangeOrderId": row.exchange_order_id,
        "fills": [
            {
                "id": fill.trade_id,
                "exchange": fill.exchange,
                "quantity": fill.quantity,
                "price": _text(fill.price),
                "at": fill.at.astimezone(UTC).isoformat(),
            }
            for fill in row.fills
        ],
    }


def from_body(body: dict[str, Any]) -> BookRow:
    state = body.get("state")
    return BookRow(
        broker_order_id=body["brokerOrderId"],
        tag=None,
        state=OrderState(state) if state else None,
        status=body["status"],
        quantity=0,
        filled_quantity=body["filled"],
        average_price=_decimal(body.get("average")),
        message=body.get("message"),
        exchange_order_id=body.get("exchangeOrderId"),
        fills=tuple(
            Fill(
                trade_id=fill["id"],
                exchange=fill["exchange"],
                quantity=fill["quantity"],
                price=Decimal(fill["price"]),
                at=datetime.fromisoformat(fill["at"]),
            )
            for fill in body.get("fills", ())
        ),
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
