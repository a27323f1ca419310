"""Reports: the inbox of what brokers tell us, and of what their books prove; applied by persist, each once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from domain.commands import Command
from domain.errors import StoreAway
from domain.events import Source
from domain.evidence import Search
from domain.lifecycle import OrderState
from domain.orders import Order, OrderType, Validity
from domain.outcomes import BookRow, Fill
from pipeline.batch import Batch
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.stage import announce
from pipeline.stages.persist import apply_absence, apply_row
from pipeline.terms import Following, Read
from pipeline.wayback import WayBack, way_back
from pipeline.weighing import weigher
from store import changes, commands, orders, reports
from store.reports import Report
from store.unit import Unit

log = logging.getLogger(__name__)

APPLY_MAX = 200
FOUR_DECIMALS = Decimal("0.0001")
DIFFERS = "differs"  # the field of a reconciler's report: what it found different, as [ours, theirs] by name
READ = "read"  # the field of a dated report, of an order whose modify was called for: when the read began and ended
ABSENT = "absentOf"  # the field of a proof: the number of the attempt that was not taken


def apply_due(desk: Desk) -> int:
    """Apply the reports that wait in the inbox; gives how many were looked at."""
    total = 0
    while not desk.stopping.is_set() and (looked_at := _apply_some(desk, APPLY_MAX)):
        total += looked_at
    return total


def _apply_some(desk: Desk, limit: int) -> int:
    """Apply the oldest reports together; where that fails, each alone, and those that fail alone wait."""
    waiting: list[tuple[str, bytes, str, dict[str, Any]]] = []
    try:
        _apply_together(desk, limit, waiting)
    except StoreAway:
        raise
    except Exception as error:
        if not waiting:
            raise
        if limit == 1:
            order_id, digest, *_ = waiting[0]
            log.exception("a report could not be applied; it stays in the inbox", extra={"order_id": order_id})
            with desk.store.unit() as unit:
                reports.set_aside(unit, order_id, digest, desk.now())
                crash("reports.set_aside.before_commit")
        else:
            log.warning("%d reports could not be applied together, each is tried alone: %s", len(waiting), error)
            for _ in waiting:
                _apply_some(desk, 1)
    return len(waiting)


def _apply_together(desk: Desk, limit: int, waiting: list[tuple[str, bytes, str, dict[str, Any]]]) -> None:
    with desk.store.unit() as unit:
        waiting.extend(reports.claim(unit, desk.now(), limit))
        if not waiting:
            return
        ids = sorted({order_id for order_id, *_ in waiting})
        held_commands = commands.lock(unit, ids)
        held = orders.lock(unit, ids)
        batch = Batch(at=desk.now())
        for order in held.values():
            batch.hold(order)
        way, following = way_back(desk), _following(unit, desk, held, batch.at)
        for order_id, digest, source, body in waiting:
            _apply(held[order_id], held_commands[order_id], Source(source), body, batch, way, following)
            batch.applied.append((order_id, digest))
        batch.record(unit)
        crash("reports.apply.before_commit")
    crash("reports.apply.after_commit")
    announce(desk, batch)


def _following(unit: Unit, desk: Desk, held: Mapping[str, Order], at: datetime) -> Following | None:
    """What it takes to have the orders' terms follow the book; nothing where no modify was ever called for."""
    modified = [order for order in held.values() if order.modifies]
    if not modified:
        return None
    changing = [order.id for order in modified if order.changing]
    newest = reports.newest_reads(unit, [order.id for order in modified])
    return Following(
        weigher(desk, at),
        changes.modifies_under_way(unit, changing, called=True) if changing else {},
        {order_id: read.ended for order_id, body in newest.items() if (read := Read.of(body.get(READ))) is not None},
    )


def _apply(
    order: Order,
    command: Command,
    source: Source,
    body: dict[str, Any],
    batch: Batch,
    way: WayBack,
    following: Following | None = None,
) -> None:
    if ABSENT in body:
        proof = {name: of for name, of in body.items() if name != ABSENT}
        apply_absence(order, command, body[ABSENT], proof, batch, way)
    else:
        account = (body["account"], body["broker"]) if body.get("account") else None
        apply_row(
            order,
            command,
            from_body(body),
            source,
            batch,
            account=account,
            differs=body.get(DIFFERS),
            read=Read.of(body.get(READ)),
            following=following,
        )


def late_answers(entries: Sequence[tuple[str, str]]) -> list[Report]:
    """Reports of accepted answers that came after their lease: (order id, broker order id)."""
    return [
        Report(order_id, Source.LATE_ANSWER, {"brokerOrderId": broker_order_id, "status": "accepted", "filled": 0})
        for order_id, broker_order_id in entries
    ]


def proof_of(search: Search, read_at: datetime) -> Report:
    """That an attempt was not taken, by the reads of its account's book."""
    body = {
        ABSENT: search.fence,
        "account": search.account_id,
        "cleanReads": search.clean_reads,
        "looks": search.looks,
        "provesFrom": search.proof_from.isoformat(),
        "readAt": read_at.isoformat(),
    }
    return Report(search.order_id, Source.EVIDENCE, body)


def dated(body: dict[str, Any], read: Read, modifies: int) -> dict[str, Any]:
    """The body with the time of its read, where terms may be taken from it."""
    return {**body, READ: read.to_json()} if modifies else body


def to_body(row: BookRow, account_id: str, broker: str) -> dict[str, Any]:
    """A row of an account's book as JSON; equal rows have equal bodies."""
    return {
        "account": account_id,
        "broker": broker,
        "brokerOrderId": row.broker_order_id,
        "status": row.status,
        "state": row.state,
        "quantity": row.quantity,
        "price": _text(row.price),
        "trigger": _text(row.trigger_price),
        "type": row.order_type,
        "validity": row.validity,
        "disclosed": row.disclosed_quantity,
        "filled": row.filled_quantity,
        "average": _text(row.average_price),
        "message": row.message,
        "exchangeOrderId": row.exchange_order_id,
        "at": row.at and row.at.astimezone(UTC).isoformat(),
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
        quantity=body.get("quantity") or 0,
        filled_quantity=body["filled"],
        average_price=_average(body.get("average")),
        price=_price(body.get("price")),
        trigger_price=_price(body.get("trigger")),
        order_type=OrderType(body["type"]) if body.get("type") else None,
        validity=Validity(body["validity"]) if body.get("validity") else None,
        disclosed_quantity=body.get("disclosed"),
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


def _price(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _average(value: str | None) -> Decimal | None:
    """As the record keeps it, with four decimals; some brokers tell all the digits of a division."""
    return None if value is None else Decimal(value).quantize(FOUR_DECIMALS, ROUND_HALF_UP)
