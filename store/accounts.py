"""Accounts: who they are, and what their live orders take of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.accounts import Account, Totals
from store.unit import Unit, array, text_array


def directory(unit: Unit) -> list[Account]:
    """Every account, without its credentials."""
    rows = unit.rows(
        "select id, user_id, broker, calendar, is_default, session, mode from accounts order by is_default desc, id"
    )
    return [
        Account(
            id=id_, user_id=user_id, broker=broker, calendar=calendar, is_default=default, session=session, mode=mode
        )
        for id_, user_id, broker, calendar, default, session, mode in rows
    ]


def lock(unit: Unit, account_ids: Sequence[str]) -> dict[str, Totals]:
    """The accounts' totals by id, their rows locked in the order of their ids.

    The totals are columns of the locked row, so that a lock that had to wait reads them as they are after the wait.
    """
    rows = unit.rows(
        "select id, limit_paise, blocked_paise, exposure_paise, open_orders, second, orders_this_second from accounts"
        " where id = any(%s) order by id for no key update",
        (list(account_ids),),
    )
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


def add(unit: Unit, deltas: Mapping[str, Delta]) -> None:
    """Add to the totals of accounts, locking them in the order of their ids."""
    ids = sorted(deltas)
    unit.run(
        "update accounts a set blocked_paise = a.blocked_paise + v.blocked, exposure_paise = a.exposure_paise"
        " + v.exposure, open_orders = a.open_orders + v.open_orders"
        " from (select v.* from unnest(%s::text[], %s::bigint[], %s::bigint[], %s::int[])"
        "       as v (id, blocked, exposure, open_orders)"
        "       join accounts l on l.id = v.id order by v.id for no key update of l) v where a.id = v.id",
        (
            text_array(ids),
            array([deltas[id_].blocked_paise for id_ in ids]),
            array([deltas[id_].exposure_paise for id_ in ids]),
            array([deltas[id_].open_orders for id_ in ids]),
        ),
    )


def count_seconds(unit: Unit, totals: Sequence[Totals]) -> None:
    """Write back the orders-per-second counters of locked accounts."""
    unit.run(
        "update accounts a set second = v.second, orders_this_second = v.count"
        " from unnest(%s::text[], %s::bigint[], %s::int[]) as v (id, second, count) where a.id = v.id",
        (
            text_array([total.account_id for total in totals]),
            array([total.second for total in totals]),
            array([total.orders_this_second for total in totals]),
        ),
    )


def credentials(unit: Unit) -> list[tuple[str, str, str, bytes]]:
    """(account, broker, calendar, sealed credentials) of every account."""
    return [tuple(row) for row in unit.rows("select id, broker, calendar, credentials from accounts")]


def with_live_orders(unit: Unit, broker: str) -> list[str]:
    rows = unit.rows("select id from accounts where broker = %s and open_orders > 0 order by id", (broker,))
    return [row[0] for row in rows]


def brokers_with_live_orders(unit: Unit) -> list[str]:
    return [row[0] for row in unit.rows("select distinct broker from accounts where open_orders > 0")]
