"""What has stopped: stuck and unknown commands with their orders' main terms, their calls, and which are parked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.unit import Unit, array, text_array

STUCK, UNKNOWN = "STUCK", "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Narrows the list; None lets everything through."""

    states: tuple[str, ...] = (STUCK,)
    stage: str | None = None
    broker: str | None = None  # in lower case
    account: str | None = None
    error: str | None = None  # anywhere in the last error, in any case
    parked: bool | None = False


@dataclass(frozen=True, slots=True)
class StuckItem:
    """A command that has stopped, with what an operator wants to see of its order."""

    order_id: str
    seq: int
    kind: str
    stage: str
    work: str  # STUCK or UNKNOWN
    error: str | None
    attempts: int
    deaths: int
    since: datetime
    buried_at: datetime | None
    instrument: str
    side: str
    quantity: int
    filled_quantity: int
    broker: str | None
    account: str | None
    state: str
    broker_tag: str
    broker_order_id: str | None
    is_parked: bool
    parked_until: datetime | None
    parked_by: str | None
    parked_because: str | None


_FROM = """
from commands c join orders o on o.id = c.order_id
left join parkings p on p.order_id = c.order_id and p.state = c.state and p.fence = c.fence
where not c.live and c.done_at is null and c.state = any(%(states)s)
    and (%(stage)s::text is null or c.stage = %(stage)s)
    and (%(broker)s::text is null or coalesce(o.broker, o.wanted_broker) = %(broker)s)
    and (%(account)s::text is null or coalesce(o.account_id, o.wanted_account) = %(account)s)
    and (%(error)s::text is null or position(lower(%(error)s) in lower(c.error)) > 0)
    and (%(parked)s::boolean is null or (p.order_id is not null and (p.until is null or p.until > %(now)s)) = %(parked)s)
    and (%(after)s::uuid is null or c.order_id > %(after)s)
    and (%(only)s::uuid is null or c.order_id = %(only)s)
"""
_PAGE = f"""
select c.order_id, c.seq, c.kind, c.stage, c.state, c.error, c.attempts, c.deaths, c.due_at, c.buried_at, o.instrument,
    o.side, o.quantity, o.filled_quantity, coalesce(o.broker, o.wanted_broker),
    coalesce(o.account_id, o.wanted_account), o.state, o.broker_tag, o.broker_order_id,
    p.order_id is not null and (p.until is null or p.until > %(now)s), p.until, p.operator, p.reason
{_FROM} order by c.order_id, c.seq limit %(limit)s
"""


def page(
    unit: Unit, wanted: Wanted, now: datetime, *, limit: int, after: str | None = None, only: str | None = None
) -> list[StuckItem]:
    """What has stopped, oldest order first."""
    parameters = {**_parameters(wanted, now), "limit": limit, "after": after, "only": only}
    return [StuckItem(*row) for row in unit.rows(_PAGE, parameters)]


def count(unit: Unit, wanted: Wanted, now: datetime) -> int:
    rows = unit.rows(f"select count(*) {_FROM}", {**_parameters(wanted, now), "after": None, "only": None})
    return int(rows[0][0])


def _parameters(wanted: Wanted, now: datetime) -> dict[str, Any]:
    return {
        "states": list(wanted.states),
        "stage": wanted.stage,
        "broker": wanted.broker,
        "account": wanted.account,
        "error": wanted.error,
        "parked": wanted.parked,
        "now": now,
    }


def are_stuck(unit: Unit, keys: Sequence[tuple[str, int]], stage: str) -> set[tuple[str, int]]:
    """Those of the (order, seq) pairs that are stuck at the stage."""
    rows = unit.rows(
        "select order_id, seq from commands where (order_id, seq) in (select * from unnest(%s::uuid[], %s::int[]))"
        " and stage = %s and state = 'STUCK'",
        (array([key[0] for key in keys]), array([key[1] for key in keys]), stage),
    )
    return {(order_id, seq) for order_id, seq in rows}


@dataclass(frozen=True, slots=True)
class Called:
    """One call for an order, as far as an operator has to know; no outcome means that nobody wrote one."""

    number: int
    outcome: str | None
    ended_at: datetime | None
    lease_until: datetime
    broker_order_id: str | None


def calls_of(unit: Unit, order_ids: Sequence[str]) -> dict[str, list[Called]]:
    """The orders' calls, by order, in their sequence."""
    rows = unit.rows(
        "select order_id, number, outcome, ended_at, lease_until, response ->> 'brokerOrderId' from attempts"
        " where order_id = any(%s::uuid[]) order by order_id, number",
        (array(order_ids),),
    )
    calls: dict[str, list[Called]] = {}
    for order_id, *call in rows:
        calls.setdefault(order_id, []).append(Called(*call))
    return calls


def with_waiting_reports(unit: Unit, order_ids: Sequence[str]) -> set[str]:
    """Those of the orders of which a broker has said something that nobody has applied yet."""
    rows = unit.rows(
        "select distinct order_id from reports where order_id = any(%s::uuid[]) and applied_at is null",
        (array(order_ids),),
    )
    return {row[0] for row in rows}


def forget_burials(unit: Unit, order_ids: Sequence[str]) -> None:
    """What isn't stuck any more gets a letter of its own when it is stuck again."""
    unit.run(
        "update commands set buried_at = null where order_id = any(%s::uuid[]) and state <> 'STUCK'"
        " and buried_at is not null",
        (array(order_ids),),
    )


# Parking: out of the list for a time; what is parked stays what it is. It ends when the command moves on.


@dataclass(frozen=True, slots=True)
class Parking:
    order_id: str
    state: str  # of its command, with the number of its newest call: other ones end the parking
    fence: int
    until: datetime | None
    operator: str
    reason: str


def park(unit: Unit, parkings: Sequence[Parking], at: datetime) -> None:
    unit.run(
        "insert into parkings (order_id, state, fence, until, operator, reason, parked_at)"
        " select *, %s from unnest(%s::uuid[], %s::text[], %s::int[], %s::timestamptz[], %s::text[], %s::text[])"
        " on conflict (order_id) do update set state = excluded.state, fence = excluded.fence, until = excluded.until,"
        " operator = excluded.operator, reason = excluded.reason, parked_at = excluded.parked_at",
        (
            at,
            array([parking.order_id for parking in parkings]),
            array([parking.state for parking in parkings]),
            array([parking.fence for parking in parkings]),
            array([parking.until and parking.until.isoformat() for parking in parkings]),
            text_array([parking.operator for parking in parkings]),
            text_array([parking.reason for parking in parkings]),
        ),
    )


def unpark(unit: Unit, order_ids: Sequence[str]) -> None:
    unit.run("delete from parkings where order_id = any(%s::uuid[])", (array(order_ids),))
