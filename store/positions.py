"""Positions as the record has them: what trades have made, and which orders can still move them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from domain.lifecycle import TERMINAL
from domain.orders import Product, Side
from domain.squareoff import Traded, UnderWay
from store.unit import Unit


def traded(unit: Unit, user_id: str, account_ids: Sequence[str], today: datetime) -> list[Traded]:
    """What the accounts' trades have made of each position; of intraday ones only the trades since `today` count."""
    rows = unit.rows(
        "select t.account_id, t.instrument, o.product, o.strategy,"
        " sum(case t.side when 'BUY' then t.quantity else -t.quantity end)::bigint"
        " from trades t join orders o on o.id = t.order_id"
        " where t.user_id = %s and t.account_id = any(%s) and (o.product <> 'MIS' or t.at >= %s)"
        " group by t.account_id, t.instrument, o.product, o.strategy",
        (user_id, list(account_ids), today),
    )
    return [Traded(account, key, Product(product), strategy, net) for account, key, product, strategy, net in rows]


_UNDER_WAY = """
select coalesce(o.account_id, o.wanted_account), coalesce(o.broker, o.wanted_broker), o.instrument, o.product, o.strategy,
    o.side, greatest(0, o.filled_quantity - t.traded), case when o.state = any(%s) then 0 else o.quantity - o.filled_quantity end
from orders o, lateral (select coalesce(sum(quantity), 0)::bigint as traded from trades where order_id = o.id) t
where o.user_id = %s and o.id >= %s::uuid and o.slices = 0
    and (o.state <> all(%s) or o.filled_quantity > t.traded)
    and (coalesce(o.account_id, o.wanted_account) is null or coalesce(o.account_id, o.wanted_account) = any(%s))
"""
_ENDED = [state.value for state in TERMINAL]


def under_way(unit: Unit, user_id: str, account_ids: Sequence[str], since: datetime) -> list[UnderWay]:
    """The orders accepted since then that have not ended, or whose trades are not all known; slices in place of parents."""
    first_id = str(UUID(int=int(since.timestamp() * 1000) << 80))  # of a version-7 id, the time comes first
    rows = unit.rows(_UNDER_WAY, (_ENDED, user_id, first_id, _ENDED, list(account_ids)))
    return [
        UnderWay(account, broker, key, Product(product), strategy, Side(side), untold, pending)
        for account, broker, key, product, strategy, side, untold, pending in rows
    ]


def open_orders(unit: Unit, user_id: str, places: Sequence[tuple[str, str, Product]], since: datetime) -> list[str]:
    """The orders of these (account, instrument, product) that have not ended; parents, and no slices."""
    first_id = str(UUID(int=int(since.timestamp() * 1000) << 80))
    rows = unit.rows(
        "select o.id from orders o join unnest(%s::text[], %s::text[], %s::text[]) as v (account, instrument, product)"
        " on coalesce(o.account_id, o.wanted_account) = v.account and o.instrument = v.instrument and o.product = v.product"
        " where o.user_id = %s and o.id >= %s::uuid and o.parent_id is null and o.state <> all(%s) order by o.id",
        (
            [place[0] for place in places], [place[1] for place in places], [place[2].value for place in places],
            user_id, first_id, _ENDED,
        ),
    )  # fmt: skip
    return [order_id for (order_id,) in rows]


