"""Changes as the world sees them: the lines of an intent that modifies or cancels, and its figures."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from domain.cancels import AtOnce
from domain.modifies import NAMES as MODIFIABLE
from readmodel.views import View, broker_text, decimal_text, moment_text, work_view

NOT_KNOWN = "NOT_KNOWN"  # in the counts: lines of which nobody can say yet what came of them
# What is shown of what was asked for; the rest is the stages' own.
_WANTED = frozenset({*MODIFIABLE, "base_version", "mode", "policy", "code", "reason"})

# What a line is told that was answered at once; `{intent}` is the one that cancels the order already.
_AT_ONCE = {
    AtOnce.NOT_FOUND: "there is no such order that this key may see",
    AtOnce.ALREADY_ENDED: "it had ended before",
    AtOnce.ALREADY_CANCELLING: "intent {intent} is cancelling it already",
    AtOnce.SKIPPED: "a line before it failed, and nothing after it is tried",
}


class Count(NamedTuple):
    """So many lines of an intent with this result. `marked`: to be cancelled in their own time, nobody waits for them."""

    intent_id: str
    result: str | None
    marked: bool
    done: bool | None  # it has come to what was asked for
    lines: int


def changes_summary(intent_id: str, kind: str, accepted_at: datetime, counts: Iterable[Count]) -> View:
    """How far an intent is. A marked line counts as settled: nothing more of it is waited for."""
    told: dict[str, int] = {}
    waited_for = marked = done = 0
    for count in counts:
        told[count.result or NOT_KNOWN] = told.get(count.result or NOT_KNOWN, 0) + count.lines
        done += count.lines if count.done else 0
        if count.result is None and count.marked:
            marked += count.lines
        elif count.result is None:
            waited_for += count.lines
    total = sum(told.values())
    return {
        "intentId": intent_id,
        "kind": kind,
        "status": _status(total, waited_for, marked, done),
        "acceptedAt": moment_text(accepted_at),
        "settled": total - waited_for,
        "total": total,
        "counts": dict(sorted(told.items())),
    }


def _status(total: int, waited_for: int, marked: int, done: int) -> str:
    """RUNNING while a line is waited for, MARKED while one is marked only; then whether all, some or none came about."""
    if waited_for:
        return "RUNNING"
    if marked:
        return "MARKED"
    return "DONE" if done == total else "PARTIAL" if done else "NONE"


def change_view(row: Any) -> View:
    """One line: what came of it, beside how its order stands. Of an order that may not be seen there is only the id."""
    return {
        "line": row.line,
        "orderId": row.order_id,
        "correlationId": row.correlation_id,
        "intentId": row.intent_id,
        "kind": row.kind,
        "wanted": {_camel(name): value for name, value in (row.wanted or {}).items() if name in _WANTED},
        "result": row.result,
        "told": row.told,
        "toldDetail": row.told_detail,
        "reason": _reason(row) if row.reason_code is not None else None,
        "askedAt": moment_text(row.asked_at),
        "settledAt": moment_text(row.settled_at) if row.settled_at is not None else None,
        "work": work_view(row),
        "state": row.state,
        "version": row.version,
        "instrument": row.instrument,
        "side": row.side,
        "quantity": row.quantity,
        "filledQuantity": row.filled_quantity,
        "averagePrice": decimal_text(row.average_price),
        "broker": broker_text(row.broker),
        "account": row.account_id,
    }


def _reason(row: Any) -> View:
    known = _AT_ONCE.get(row.reason_code, "") if row.reason is None else row.reason
    return {"code": row.reason_code, "text": known.format(intent=row.by_intent) if row.by_intent else known}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
