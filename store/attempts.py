"""Attempts: one row per order and broker call, committed before the call, its outcome written after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.outcomes import Accepted, NotSent, Outcome, Refused, Unknown
from store.json import dump
from store.rows import Rows
from store.unit import Unit, array

_IST_S = 19_800  # Indian time is so many seconds ahead of UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    order_id: str
    number: int
    call_id: str
    broker: str
    account_id: str
    tag: str
    fence: int
    request: dict[str, Any]
    started_at: datetime
    lease_until: datetime
    kind: str = "PLACE"  # the instruction that the call carries


_MADE = Rows(
    order_id="uuid",
    number="int",
    call_id="uuid",
    broker="word",
    account_id="text",
    tag="word",
    fence="int",
    request="json",
    started_at="timestamptz",
    lease_until="timestamptz",
    kind="word",
)
_INSERT = f"insert into attempts ({_MADE.names}) select * from {_MADE.sql}"  # noqa: S608 - our own names


def insert(unit: Unit, attempts: Sequence[Attempt]) -> None:
    unit.run(
        _INSERT,
        _MADE.parameters(
            [attempt.order_id for attempt in attempts],
            [attempt.number for attempt in attempts],
            [attempt.call_id for attempt in attempts],
            [attempt.broker for attempt in attempts],
            [attempt.account_id for attempt in attempts],
            [attempt.tag for attempt in attempts],
            [attempt.fence for attempt in attempts],
            [dump(attempt.request) for attempt in attempts],
            [attempt.started_at for attempt in attempts],
            [attempt.lease_until for attempt in attempts],
            [attempt.kind for attempt in attempts],
        ),
    )


_ENDED = Rows(order_id="uuid", number="int", outcome="word", response="json", ended_at="timestamptz")
_END = f"""
update attempts a set outcome = v.outcome, response = v.response, ended_at = v.ended_at from {_ENDED.sql}
where a.order_id = v.order_id and a.number = v.number and a.outcome is null
"""  # noqa: S608 - our own names


def end(unit: Unit, ends: Sequence[tuple[str, int, Outcome, datetime]]) -> None:
    """Write the outcomes of attempts, by (order, number), whatever their leases say."""
    unit.run(
        _END,
        _ENDED.parameters(
            [order_id for order_id, _, _, _ in ends],
            [number for _, number, _, _ in ends],
            [outcome_word(outcome) for _, _, outcome, _ in ends],
            [dump(_response(outcome)) for _, _, outcome, _ in ends],
            [at for _, _, _, at in ends],
        ),
    )


def newest(unit: Unit, keys: Sequence[tuple[str, int]]) -> dict[str, Outcome | None]:
    """The outcome of each order's attempt of the given number; None where nobody wrote one."""
    rows = unit.rows(
        "select a.order_id, a.outcome, a.response from unnest(%s::uuid[], %s::int[]) as v (order_id, number)"
        " join attempts a on a.order_id = v.order_id and a.number = v.number",
        (array([key[0] for key in keys]), array([key[1] for key in keys])),
    )
    return {order_id: outcome_from(word, response) for order_id, word, response in rows}


def brokers_tried(unit: Unit, order_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """By order, the brokers that calls for it were meant for."""
    rows = unit.rows(
        "select order_id, array_agg(distinct broker) from attempts where order_id = any(%s::uuid[]) group by order_id",
        (array(order_ids),),
    )
    return {order_id: frozenset(brokers) for order_id, brokers in rows}


def count_sent(unit: Unit, account_id: str, windows: Sequence[int], now: datetime) -> dict[int, int]:
    """How many calls the account has used in each of the calendar windows (seconds, counted in Indian time) under way.

    Reads only attempts of orders accepted since an hour before the longest window began: ids carry their time.
    """
    starts = {seconds: window_start(seconds, now) for seconds in windows}
    rows = unit.rows(
        "select started_at from attempts where order_id >= first_id_at(%s) and account_id = %s and started_at >= %s"
        " and outcome is distinct from 'NOT_SENT'",
        (min(starts.values()) - timedelta(hours=1), account_id, min(starts.values())),
    )
    return {seconds: sum(at >= start for (at,) in rows) for seconds, start in starts.items()}


def window_start(seconds: int, now: datetime) -> datetime:
    """When the calendar window of so many seconds, counted in Indian time, that is under way now began."""
    local = int(now.timestamp()) + _IST_S
    return datetime.fromtimestamp(local - local % seconds - _IST_S, UTC)


def outcome_word(outcome: Outcome) -> str:
    match outcome:
        case Accepted():
            return "ACCEPTED"
        case Refused():
            return "REFUSED"
        case NotSent():
            return "NOT_SENT"
        case Unknown():
            return "UNKNOWN"


def _response(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Accepted(broker_order_id):
            return {"brokerOrderId": broker_order_id}
        case Refused(code, message):
            return {"code": code, "message": message}
        case NotSent():
            return {"why": outcome.why, "retryAfterS": outcome.retry_after_s}
        case Unknown(why):
            return {"why": why}


def outcome_from(word: str | None, response: dict[str, Any] | None) -> Outcome | None:
    if word is None:
        return None
    said = response or {}
    match word:
        case "ACCEPTED":
            return Accepted(said["brokerOrderId"])
        case "REFUSED":
            return Refused(said["code"], said["message"])
        case "NOT_SENT":
            return NotSent(said["why"], said.get("retryAfterS"))
        case _:
            return Unknown(said.get("why", ""))
