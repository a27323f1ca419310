"""Accounts: who they are, and what their live orders take of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.accounts import Account, Totals
from store.unit import Unit, array, text_array


def directory(unit: Unit) -> list[Account]:
    """Every account, without its credentials."""
    rows = unit.rows(
        "select id, user_id, broker, calendar, is_default, session from accounts order by is_default desc, id"
    )
    return [
        Account(id=id_, user_id=user_id, broker=broker, calendar=calendar, is_default=default, session=session)
        for id_, user_id, broker, calendar, default, session in rows
    ]


_TOTALS = (
    "select id, limit_paise, blocked_paise, exposure_paise, open_orders, second, orders_this_second from accounts"
    " where id = any(%s) order by id"
)


def lock(unit: Unit, account_ids: Sequence[str]) -> dict[str, Totals]:
    """The accounts' totals by id, their rows locked in the order of their ids.

    The totals are columns of the locked row, so that a lock that had to wait reads them as they are after the wait.
    """
    return _totals_of(unit.rows(f"{_TOTALS} for no key update", (list(account_ids),)))


def look(unit: Unit, account_ids: Sequence[str]) -> dict[str, Totals]:
    """The accounts' totals by id as they were a moment ago; nobody is kept from changing them."""
    return _totals_of(unit.rows(_TOTALS, (list(account_ids),)))


def _totals_of(rows: Sequence[tuple[Any, ...]]) -> dict[str, Totals]:
    return {
        row[0]: Totals(
            account_id=row[0],
            limit_paise=row[1],
            blocked_paise=row[2],
            exposure_paise=row[3],
            open_orders=row[4],
            second=row[5],
            orders_this_second=row[6],
        )
        for row in rows
    }


@dataclass(slots=True)
class Delta:
    """What a batch adds to an account's totals."""

    blocked_paise: int = 0
    exposure_paise: int = 0
    open_orders: int = 0


def add(unit: Unit, deltas: Mapping[str, Delta], counted: Sequence[Totals] = ()) -> None:
    """Add to the totals of accounts, locking them in the order of their ids.

    `counted` are locked already; their orders-per-second counters are written back as they are.
    """
    seconds = {total.account_id: total for total in counted}
    ids = sorted({*deltas, *seconds})
    added = [deltas.get(id_) or Delta() for id_ in ids]
    unit.run(
        _ADD,
        (
            text_array(ids),
            array([delta.blocked_paise for delta in added]),
            array([delta.exposure_paise for delta in added]),
            array([delta.open_orders for delta in added]),
            array([seconds[id_].second if id_ in seconds else None for id_ in ids]),
            array([seconds[id_].orders_this_second if id_ in seconds else None for id_ in ids]),
        ),
    )


_ADD = """
update accounts a set blocked_paise = a.blocked_paise + v.blocked, exposure_paise = a.exposure_paise + v.exposure,
    open_orders = a.open_orders + v.open_orders, second = coalesce(v.second, a.second),
    orders_this_second = coalesce(v.count, a.orders_this_second)
from (select v.* from unnest(%s::text[], %s::bigint[], %s::bigint[], %s::int[], %s::bigint[], %s::int[])
      as v (id, blocked, exposure, open_orders, second, count)
      join accounts l on l.id = v.id order by v.id for no key update of l) v
where a.id = v.id
"""


def credentials(unit: Unit) -> list[tuple[str, str, str, bytes]]:
    """(account, broker, calendar, sealed credentials) of every account."""
    return [tuple(row) for row in unit.rows("select id, broker, calendar, credentials from accounts")]


@dataclass(frozen=True, slots=True)
class ToRead:
    """An account whose book tells something, and what is asked of it beside what changed."""

    account_id: str
    is_alive: bool  # its session
    is_searched: bool  # an order of it is looked for
    has_twins: bool  # an order with the tag of another was seen, there or anywhere
    is_changing: bool  # a modify or a cancel waits for what the book shows


def to_read(unit: Unit, broker: str, now: datetime) -> list[ToRead]:
    """The broker's accounts with live orders, with one that went elsewhere, or with fills whose trades aren't read."""
    rows = unit.rows(
        "select a.id, a.session = 'ALIVE', exists (select from searches s where s.account_id = a.id),"
        " exists (select from strays t where t.closed_at is null and t.kind = 'TWIN'),"
        " exists (select from commands c join orders o on o.id = c.order_id"
        "         where c.seq > 0 and c.done_at is null and o.account_id = a.id)"
        " from accounts a left join watches w on w.account_id = a.id and w.until > %s"
        " where a.broker = %s and (a.open_orders > 0 or w.account_id is not null"
        " or exists (select from awaited_trades t where t.account_id = a.id)) order by a.id",
        (now, broker),
    )
    return [ToRead(*row) for row in rows]


def brokers_to_read(unit: Unit, now: datetime) -> list[str]:
    rows = unit.rows(
        "select distinct a.broker from accounts a left join watches w on w.account_id = a.id and w.until > %s"
        " where a.open_orders > 0 or w.account_id is not null"
        " or exists (select from awaited_trades t where t.account_id = a.id)",
        (now,),
    )
    return [row[0] for row in rows]


def watch(unit: Unit, until: Mapping[str, datetime]) -> None:
    """Read these accounts' books until then, whether they have live orders or not."""
    unit.run(
        "insert into watches (account_id, until) select * from unnest(%s::text[], %s::timestamptz[])"
        " on conflict (account_id) do update set until = greatest(watches.until, excluded.until)",
        (text_array(list(until)), array([at.isoformat() for at in until.values()])),
    )


def mark_sessions(unit: Unit, account_ids: Collection[str], session: str) -> int:
    """Say whether the accounts' sessions at their brokers are ALIVE or DEAD; gives how many that changed."""
    return unit.run(
        "update accounts a set session = %s from (select id from accounts where id = any(%s) and session <> %s"
        " order by id for no key update) v where a.id = v.id",
        (session, sorted(account_ids), session),
    )
