"""Rows of a record that nobody else sees, for the tests of the read side."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, insert

from domain.ids import new_id
from readmodel.asking import Scope
from store.tables import changes, commands, intents, orders, trades, users

AT = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)


def a_user(record: Connection, name: str) -> Scope:
    user_id = new_id()
    record.execute(insert(users).values(id=user_id, name=name))
    return Scope(user_id)


def an_order(record: Connection, owner: Scope, intent_id: str | None = None, **fields) -> str:
    order_id = new_id()
    known = {
        "id": order_id, "intent_id": intent_id or new_id(), "line": 0, "correlation_id": "leg-1",
        "user_id": owner.user_id, "instrument": "NSE:INFY", "side": "BUY", "quantity": 10, "product": "CNC",
        "order_type": "LIMIT", "validity": "DAY", "price": Decimal("1512.50"), "disclosed_quantity": 0,
        "broker_tag": order_id[-19:], "state": "OPEN", "last_seq": 0, "version": 3, "filled_quantity": 4,
        "blocked_paise": 0, "exposure_paise": 0, "cancel_requested": False, "slices": 0, "accepted_at": AT,
        "send_before": AT, "updated_at": AT,
    }  # fmt: skip
    record.execute(insert(orders).values(known | fields))
    return order_id


def an_intent(record: Connection, owner: Scope, *states: str) -> tuple[str, list[str]]:
    intent_id = new_id()
    lines = [an_order(record, owner, intent_id, line=number, state=state) for number, state in enumerate(states)]
    record.execute(
        insert(intents).values(
            id=intent_id,
            user_id=owner.user_id,
            key_id=new_id(),
            kind="PLACE",
            idempotency_key=intent_id,
            fingerprint=b"x",
            order_ids=lines,
            accepted_at=AT,
            window_until=AT,
        )
    )
    return intent_id, lines


def a_command(record: Connection, order_id: str, **fields) -> None:
    known = {
        "order_id": order_id, "seq": 0, "kind": "PLACE", "stage": "dispatch.upstox", "state": "READY", "due_at": AT,
        "attempts": 2, "deaths": 0, "fence": 0, "error": "slow",
    }  # fmt: skip
    record.execute(insert(commands).values(known | fields))


def a_trade(record: Connection, owner: Scope, order_id: str, number: int, **fields) -> None:
    known = {
        "order_id": order_id, "exchange": "NSE", "trade_id": f"T{number}", "user_id": owner.user_id,
        "broker": "upstox", "account_id": "UP1", "instrument": "NSE:INFY", "side": "BUY", "quantity": 1,
        "price": Decimal("1512.5"), "at": AT + timedelta(microseconds=number),
    }  # fmt: skip
    record.execute(insert(trades).values(known | fields))


def a_cancel(record: Connection, owner: Scope, *, answer: dict | None = None, kind: str = "CANCEL") -> str:
    """An intent that changes orders, without its lines."""
    intent_id = new_id()
    record.execute(
        insert(intents).values(
            id=intent_id,
            user_id=owner.user_id,
            key_id=new_id(),
            kind=kind,
            idempotency_key=intent_id,
            fingerprint=b"x",
            order_ids=[],
            accepted_at=AT,
            window_until=AT,
            answer=answer or {"matched": 0, "answered": []},
        )
    )
    return intent_id


def a_change(record: Connection, order_id: str, intent_id: str, line: int, *, kind: str = "CANCEL", **fields) -> None:
    """A change, and its command at the first stage, or done where it has a result."""
    is_done = fields.get("result") is not None
    known = {"order_id": order_id, "seq": 1, "intent_id": intent_id, "line": line, "wanted": {"mode": "HARD"}}
    row = known | {"asked_at": AT, "settled_at": AT if is_done else None} | fields
    record.execute(insert(changes).values(row))
    done = {"stage": "notify", "state": "DONE", "live": False, "done_at": AT}
    a_command(record, order_id, seq=row["seq"], kind=kind, **(done if is_done else {"stage": kind.lower()}))


def at_once(line: int, order_id: str, code: str, **fields) -> dict:
    """A line of an intent's answer."""
    return {"line": line, "order_id": order_id, "code": code, "state": None, "intent_id": None} | fields
