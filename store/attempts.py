"""Attempts: one row per order and broker call, committed before the call, its outcome written after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.outcomes import Accepted, NotSent, Outcome, Refused, Unknown
from store.json import dump
from store.unit import Unit, array, text_array

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


_INSERT = """
insert into attempts (order_id, number, call_id, broker, account_id, tag, fence, request, started_at, lease_until,
    kind)
select * from unnest(%s::uuid[], %s::int[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::int[], %s::json[],
                     %s::timestamptz[], %s::timestamptz[], %s::text[])
"""


def insert(unit: Unit, attempts: Sequence[Attempt]) -> None:
    unit.run(
        _INSERT,
        (
            array([attempt.order_id for attempt in attempts]),
            array([attempt.number for attempt in attempts]),
            array([attempt.call_id for attempt in attempts]),
            array([attempt.broker for attempt in attempts]),
            text_array([attempt.account_id for attempt in attempts]),
            array([attempt.tag for attempt in attempts]),
            array([attempt.fence for attempt in attempts]),
            text_array([dump(attempt.request) for attempt in attempts]),
            array([attempt.started_at.isoformat() for attempt in attempts]),
            array([attempt.lease_until.isoformat() for attempt in attempts]),
            array([attempt.kind for attempt in attempts]),
        ),
    )


_END = """
update attempts a set outcome = v.outcome, response = v.response, ended_at = v.ended_at
from unnest(%s::uuid[], %s::int[], %s::text[], %s::json[], %s::timestamptz[])
    as v (order_id, number, outcome, response, ended_at)
where a.order_id = v.order_id and a.number = v.number and a.outcome is null
"""


def end(unit: Unit, ends: Sequence[tuple[str, int, Outcome, datetime]]) -> None:
    """Write the outcomes of attempts, by (order, number), whatever their leases say."""
    unit.run(
        _END,
        (
            array([order_id for order_id, *_ in ends]),
            array([number for _, number, *_ in ends]),
            array([outcome_word(outcome) for *_, outcome, _ in ends]),
            text_array([dump(_response(outcome)) for *_, outcome, _ in ends]),
            array([at.isoformat() for *_, at in ends]),
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
    starts = {seconds: _window_start(seconds, now) for seconds in windows}
    rows = unit.rows(
        "select started_at from attempts where order_id >= first_id_at(%s) and account_id = %s and started_at >= %s"
        " and outcome is distinct from 'NOT_SENT'",
        (min(starts.values()) - timedelta(hours=1), account_id, min(starts.values())),
    )
    return {seconds: sum(at >= start for (at,) in rows) for seconds, start in starts.items()}


def _window_start(seconds: int, now: datetime) -> datetime:
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
