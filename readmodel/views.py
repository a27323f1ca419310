"""Rows as the world sees them: camelCase words, decimals and times as text, ready to be rendered as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from domain.lifecycle import TERMINAL, OrderState
from domain.money import PAISE_PER_RUPEE

View = dict[str, Any]

# An order is settled when no more news of its placing is to come: it has ended, or the exchange has confirmed it.
SETTLED = frozenset(
    state.value for state in TERMINAL | {OrderState.OPEN, OrderState.TRIGGER_PENDING, OrderState.PARTIALLY_FILLED}
)
_TERMINAL = frozenset(state.value for state in TERMINAL)
_REJECTED = OrderState.REJECTED.value


def decimal_text(value: Decimal | None) -> str | None:
    """Without an exponent, and without idle zeros beyond two decimals: 1512.5000 is "1512.50", 83.0025 stays."""
    if value is None:
        return None
    text = format(value, "f")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def moment_text(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds and a Z."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def paise_text(paise: int) -> str:
    sign = "-" if paise < 0 else ""
    rupees, rest = divmod(abs(paise), PAISE_PER_RUPEE)
    return f"{sign}{rupees}.{rest:02d}"


def broker_text(broker: str | None) -> str | None:
    return broker.upper() if broker is not None else None


def order_view(row: Any) -> View:
    """One order; the row has the order's columns and, as `work_…`, those of its place command where it has one."""
    state = row.state
    return {
        "orderId": row.id,
        "intentId": row.intent_id,
        "parentId": row.parent_id,
        "slices": row.slices,
        "line": row.line,
        "correlationId": row.correlation_id,
        "policy": row.policy,
        "after": row.after,
        "state": state,
        "version": row.version,
        "instrument": row.instrument,
        "side": row.side,
        "quantity": row.quantity,
        "product": row.product,
        "orderType": row.order_type,
        "validity": row.validity,
        "price": decimal_text(row.price),
        "triggerPrice": decimal_text(row.trigger_price),
        "disclosedQuantity": row.disclosed_quantity,
        "marketProtection": decimal_text(row.market_protection),
        "broker": broker_text(row.broker or row.wanted_broker),
        "account": row.account_id or row.wanted_account,
        "strategy": row.strategy,
        "tag": row.tag,
        "brokerTag": row.broker_tag,
        "brokerOrderId": row.broker_order_id,
        "filledQuantity": row.filled_quantity,
        "pendingQuantity": 0 if state in _TERMINAL else row.quantity - row.filled_quantity,
        "averagePrice": decimal_text(row.average_price),
        "reason": {"code": row.reason_code, "text": row.reason or ""} if row.reason_code is not None else None,
        "work": work_view(row),
        "changing": row.changing,
        "acceptedAt": moment_text(row.accepted_at),
        "updatedAt": moment_text(row.updated_at),
        "sendBefore": moment_text(row.send_before),
    }


def work_view(row: Any) -> View | None:
    if row.work_stage is None:
        return None
    return {
        "stage": row.work_stage,
        "state": row.work_state,
        "attempts": row.work_attempts,
        "notBefore": moment_text(row.work_due_at),
        "error": row.work_error,
    }


def intent_view(lines: Sequence[Any]) -> View:
    """An intent with its lines: rows as `order_view` takes them, in their order, with the intent's own `asked_…`."""
    first = lines[0]
    summary = intent_summary(first.asked_id, first.asked_kind, first.asked_at, [row.state for row in lines])
    return {**summary, "orders": [order_view(row) for row in lines]}


def intent_summary(intent_id: str, kind: str, accepted_at: datetime, states: Sequence[str]) -> View:
    return {
        "intentId": intent_id,
        "kind": kind,
        "status": intent_status(states),
        "acceptedAt": moment_text(accepted_at),
        "settled": count_settled(states),
        "total": len(states),
    }


def intent_status(states: Sequence[str]) -> str:
    """RUNNING until every line is settled; then REJECTED (all were), PARTIAL (some were) or DONE."""
    if count_settled(states) < len(states):
        return "RUNNING"
    rejected = sum(state == _REJECTED for state in states)
    if rejected == 0:
        return "DONE"
    return "REJECTED" if rejected == len(states) else "PARTIAL"


def count_settled(states: Iterable[str]) -> int:
    return sum(state in SETTLED for state in states)


def event_view(row: Any) -> View:
    return {
        "seq": row.seq,
        "type": row.event_type,
        "prevState": row.prev_state,
        "state": row.new_state,
        "source": row.source,
        "at": moment_text(row.at),
        "detail": row.detail,
    }


def call_view(row: Any) -> View:
    """One call to a broker for one order; without an outcome nobody has written down how it ended."""
    return {
        "number": row.number,
        "kind": row.kind,
        "callId": row.call_id,
        "broker": broker_text(row.broker),
        "account": row.account_id,
        "tag": row.tag,
        "lines": (row.request or {}).get("lines"),
        "startedAt": moment_text(row.started_at),
        "leaseUntil": moment_text(row.lease_until),
        "endedAt": moment_text(row.ended_at) if row.ended_at is not None else None,
        "outcome": row.outcome,
        "answer": row.response,
    }


def trade_view(row: Any) -> View:
    return {
        "tradeId": row.trade_id,
        "orderId": row.order_id,
        "instrument": row.instrument,
        "exchange": row.exchange,
        "side": row.side,
        "quantity": row.quantity,
        "price": decimal_text(row.price),
        "broker": broker_text(row.broker),
        "account": row.account_id,
        "at": moment_text(row.at),
    }


def account_view(row: Any) -> View:
    return {
        "account": row.id,
        "calendar": row.calendar,
        "session": row.session,
        "openOrders": row.open_orders,
        "blocked": paise_text(row.blocked_paise),
        "limit": paise_text(row.limit_paise),
    }
