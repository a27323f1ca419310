"""Positions as the record has them: what trades have made, and which orders can still move them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from domain.lifecycle import TERMINAL
from domain.orders import Product, Side
from domain.squareoff import Traded, UnderWay
from store.unit import Unit

# An index bounds each: of MIS today's trades are read, of another product its orders. One statement for both has neither bound.
_TODAY = """
select t.account_id, t.instrument, o.strategy, sum(case t.side when 'BUY' then t.quantity else -t.quantity end)::bigint
from trades t, lateral (select instrument, strategy, product from orders where id = t.order_id offset 0) o
where t.user_id = %(user)s and t.at >= %(today)s and t.account_id = any(%(accounts)s) and o.product = 'MIS'
"""
_EVER = """
select o.account_id, o.instrument, o.strategy, sum(case o.side when 'BUY' then o.filled_quantity else -o.filled_quantity end)::bigint
from orders o
where o.user_id = %(user)s and o.account_id = any(%(accounts)s) and o.slices = 0 and o.filled_quantity > 0 and o.product =
"""


def traded(
    unit: Unit,
    user_id: str,
    account_ids: Sequence[str],
    today: datetime,
    products: Collection[Product],
    instrument: str | None = None,
) -> list[Traded]:
    """What was traded in the accounts of each position in these products: of MIS the trades since `today`.

    Of the others it is what their orders say they were filled, since ever, as `standings` counts it: of an order that was
    settled by hand there are no trades.
    """
    asked = {"user": user_id, "accounts": list(account_ids), "today": today, "instrument": instrument}
    narrower = "" if instrument is None else " and o.instrument = %(instrument)s"
    found = []
    for product in sorted(products):
        sql = (_TODAY if product is Product.MIS else f"{_EVER} '{product.value}'") + narrower + " group by 1, 2, 3"
        found += [Traded(account, key, product, strategy, net) for account, key, strategy, net in unit.rows(sql, asked)]
    return found


# Only trades of MIS can be untold: others count by their orders. Yesterday's MIS was closed yesterday.
_UNDER_WAY = """
select coalesce(o.account_id, o.wanted_account), coalesce(o.broker, o.wanted_broker), o.instrument, o.product, o.strategy,
    o.side, t.untold, case when o.state = any(%(ended)s) then 0 else o.quantity - o.filled_quantity end
from orders o, lateral (
    select case when o.product = 'MIS' and o.filled_quantity > 0 then greatest(0, o.filled_quantity
        - (select coalesce(sum(quantity), 0)::bigint from trades where order_id = o.id)) else 0 end as untold) t
where o.user_id = %(user)s and o.id >= %(since)s::uuid and o.slices = 0 and o.product = any(%(products)s)
    and (o.state <> all(%(ended)s) or (o.product = 'MIS' and o.id >= %(today)s::uuid and o.filled_quantity > 0))
    and (o.state <> all(%(ended)s) or t.untold > 0)
    and (coalesce(o.account_id, o.wanted_account) is null or coalesce(o.account_id, o.wanted_account) = any(%(accounts)s))
"""
_ENDED = [state.value for state in TERMINAL]


def under_way(
    unit: Unit,
    user_id: str,
    account_ids: Sequence[str],
    since: datetime,
    today: datetime,
    products: Collection[Product],
) -> list[UnderWay]:
    """The orders accepted since then that have not ended, or are MIS of today whose trades are not all known.

    Slices in place of parents.
    """
    rows = unit.rows(
        _UNDER_WAY,
        {
            "ended": _ENDED,
            "user": user_id,
            "since": _first_id(since),
            "today": _first_id(today),
            "products": sorted(products),
            "accounts": list(account_ids),
        },
    )
    return [
        UnderWay(account, broker, key, Product(product), strategy, Side(side), untold, pending)
        for account, broker, key, product, strategy, side, untold, pending in rows
    ]


def open_orders(unit: Unit, user_id: str, places: Sequence[tuple[str, str, Product]], since: datetime) -> list[str]:
    """The orders of these (account, instrument, product) that have not ended; parents, and no slices."""
    rows = unit.rows(
        "select o.id from orders o join unnest(%s::text[], %s::text[], %s::text[]) as v (account, instrument, product)"
        " on coalesce(o.account_id, o.wanted_account) = v.account and o.instrument = v.instrument and o.product = v.product"
        " where o.user_id = %s and o.id >= %s::uuid and o.parent_id is null and o.state <> all(%s) order by o.id",
        (
            [place[0] for place in places], [place[1] for place in places], [place[2].value for place in places],
            user_id, _first_id(since), _ENDED,
        ),
    )  # fmt: skip
    return [order_id for (order_id,) in rows]


def _first_id(moment: datetime) -> str:
    """The least version-7 id of that millisecond: the time comes first in it."""
    return str(UUID(int=int(moment.timestamp() * 1000) << 80))
