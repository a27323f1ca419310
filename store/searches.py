"""Searches: orders that are looked for in their account's book, one row each while nobody knows what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from domain.evidence import Search
from store.unit import Unit, array, text_array

_COLUMNS = "order_id, account_id, fence, asked_at, proof_from, next_at, looks, clean_reads, clean_at"

_BEGIN = """
insert into searches (order_id, account_id, fence, asked_at, proof_from, next_at)
select v.order_id, v.account_id, v.fence, coalesce(a.started_at, v.asked_at), v.proof_from, v.next_at
from unnest(%s::uuid[], %s::text[], %s::int[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
    as v (order_id, account_id, fence, asked_at, proof_from, next_at)
left join attempts a on a.order_id = v.order_id and a.number = v.fence
on conflict (order_id) do update set account_id = excluded.account_id, fence = excluded.fence,
    asked_at = excluded.asked_at, proof_from = excluded.proof_from, next_at = excluded.next_at,
    looks = 0, clean_reads = 0, clean_at = null, told_at = null
where searches.fence <> excluded.fence
"""


def begin(unit: Unit, searches: Sequence[Search]) -> None:
    """Look for these orders from now on; when they were asked for is read off their attempts.

    One that is looked for already, for the same attempt, goes on as it is.
    """
    if not searches:
        return
    unit.run(
        _BEGIN,
        (
            array([search.order_id for search in searches]),
            text_array([search.account_id for search in searches]),
            array([search.fence for search in searches]),
            array([search.asked_at.isoformat() for search in searches]),
            array([search.proof_from.isoformat() for search in searches]),
            array([search.next_at.isoformat() for search in searches]),
        ),
    )


def of_account(unit: Unit, account_id: str) -> list[tuple[Search, str]]:
    """The account's searches with their orders' tags, their rows locked, for commands that are still unknown.

    Searches of others than these are over, and are taken away.
    """
    unit.run(
        "delete from searches s where account_id = %s and not exists (select from commands c where c.order_id = s.order_id"
        " and c.seq = 0 and c.state = 'UNKNOWN' and c.fence = s.fence offset 0)",
        (account_id,),
    )
    rows = unit.rows(
        f"select {', '.join('s.' + name for name in _COLUMNS.split(', '))}, o.broker_tag from searches s"  # noqa: S608
        " join orders o on o.id = s.order_id where s.account_id = %s order by s.order_id for update of s",
        (account_id,),
    )
    return [(_search(row[:-1]), row[-1]) for row in rows]


def save(unit: Unit, searches: Sequence[Search]) -> None:
    """Write back locked searches."""
    unit.run(
        "update searches s set next_at = v.next_at, looks = v.looks, clean_reads = v.clean_reads, clean_at = v.clean_at"
        " from unnest(%s::uuid[], %s::timestamptz[], %s::int[], %s::int[], %s::timestamptz[])"
        " as v (order_id, next_at, looks, clean_reads, clean_at) where s.order_id = v.order_id",
        (
            array([search.order_id for search in searches]),
            array([search.next_at.isoformat() for search in searches]),
            array([search.looks for search in searches]),
            array([search.clean_reads for search in searches]),
            array([search.clean_at and search.clean_at.isoformat() for search in searches]),
        ),
    )


def overdue(unit: Unit, before: datetime) -> list[tuple[str, str, datetime, bool]]:
    """(order, account, asked at, told already) of what should have been proven, one way or the other, by then."""
    rows = unit.rows(
        "select s.order_id, s.account_id, s.asked_at, s.told_at is not null from searches s"
        " where s.proof_from < %s and exists (select from commands c where c.order_id = s.order_id and c.seq = 0"
        " and c.state = 'UNKNOWN' offset 0) order by s.asked_at limit 1000",
        (before,),
    )
    return [(order_id, account_id, asked_at, told) for order_id, account_id, asked_at, told in rows]


def mark_told(unit: Unit, order_ids: Sequence[str], at: datetime) -> None:
    unit.run("update searches set told_at = %s where order_id = any(%s::uuid[])", (at, array(order_ids)))


def _search(row: tuple[Any, ...]) -> Search:
    order_id, account_id, fence, asked_at, proof_from, next_at, looks, clean_reads, clean_at = row
    return Search(
        order_id=order_id,
        account_id=account_id,
        fence=fence,
        asked_at=asked_at,
        proof_from=proof_from,
        next_at=next_at,
        looks=looks,
        clean_reads=clean_reads,
        clean_at=clean_at,
    )
