"""Strays: orders in brokers' books that should not be there. Twins of ours, and orphans that no row knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.json import dump
from store.unit import Unit, array, text_array

TWIN, ORPHAN = "TWIN", "ORPHAN"


@dataclass(frozen=True, slots=True)
class Stray:
    """A book row of one account with a tag of ours. `order_id` is None where no order has that tag."""

    account_id: str
    broker_order_id: str
    kind: str
    tag: str
    order_id: str | None
    body: dict[str, Any]


_TELL = """
insert into strays (account_id, broker_order_id, kind, tag, order_id, body, found_at, seen_at)
select v.*, %s, %s from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::uuid[], %s::json[])
    as v (account_id, broker_order_id, kind, tag, order_id, body)
on conflict (account_id, broker_order_id) do update set body = excluded.body, seen_at = excluded.seen_at,
    kind = excluded.kind, order_id = excluded.order_id
returning account_id, broker_order_id, found_at
"""


def tell(unit: Unit, strays: Sequence[Stray], at: datetime) -> list[tuple[str, str]]:
    """Write them down, or what the book shows of them now; gives (account, broker order id) of those that are new."""
    if not strays:
        return []
    rows = unit.rows(
        _TELL,
        (
            at,
            at,
            text_array([stray.account_id for stray in strays]),
            text_array([stray.broker_order_id for stray in strays]),
            array([stray.kind for stray in strays]),
            text_array([stray.tag for stray in strays]),
            array([stray.order_id for stray in strays]),
            text_array([dump(stray.body) for stray in strays]),
        ),
    )
    return [(account_id, broker_order_id) for account_id, broker_order_id, found_at in rows if found_at == at]


def open_twins(unit: Unit, account_id: str) -> list[tuple[str, datetime | None]]:
    """(broker order id, when a cancel was last asked for) of the account's twins that nobody has closed."""
    rows = unit.rows(
        "select broker_order_id, cancel_asked_at from strays where account_id = %s and kind = 'TWIN' and closed_at is null"
        " order by broker_order_id",
        (account_id,),
    )
    return [(broker_order_id, asked_at) for broker_order_id, asked_at in rows]


def ours_with_filled_twins(unit: Unit, account_id: str) -> list[str]:
    """Broker order ids of the account's live orders whose twin, in any account, was filled in whole or in part."""
    rows = unit.rows(
        "select distinct o.broker_order_id from strays s join orders o on o.id = s.order_id"
        " where o.account_id = %s and o.broker_order_id is not null and s.kind = 'TWIN'"
        " and (s.body ->> 'filled')::bigint > 0"
        " and o.state in ('SUBMITTED', 'OPEN', 'TRIGGER_PENDING', 'PARTIALLY_FILLED')",
        (account_id,),
    )
    return [row[0] for row in rows]


def mark_cancel(unit: Unit, account_id: str, broker_order_id: str, outcome: str | None, at: datetime) -> None:
    unit.run(
        "update strays set cancel_asked_at = %s, cancel_outcome = %s where account_id = %s and broker_order_id = %s",
        (at, outcome, account_id, broker_order_id),
    )


def close(unit: Unit, account_id: str, broker_order_ids: Sequence[str], by: str, at: datetime) -> None:
    unit.run(
        "update strays set closed_at = %s, closed_by = %s where account_id = %s and broker_order_id = any(%s)"
        " and closed_at is null",
        (at, by, account_id, list(broker_order_ids)),
    )


def still_open(unit: Unit) -> list[tuple[Any, ...]]:
    """(account, broker order id, kind, tag, order, body, found at, cancel outcome) of what nobody has closed."""
    return unit.rows(
        "select account_id, broker_order_id, kind, tag, order_id, body, found_at, cancel_outcome from strays"
        " where closed_at is null order by found_at limit 1000"
    )
