"""Standings: an account's net in one instrument and product, and what its live orders may still fill."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, time
from uuid import UUID

from domain.lifecycle import TERMINAL, UNSENT
from domain.market import IST
from domain.orders import Product
from domain.reducing import Place, Standing
from store.unit import Unit, array, text_array

_ENDED, _UNSENT = array(sorted(TERMINAL)), array(sorted(TERMINAL | UNSENT))

# Fills by the orders' own figures: they are there before their trades are read, and of settled orders that have none.
_STANDINGS = """
select v.place, coalesce(sum(case o.side when 'BUY' then o.filled_quantity else -o.filled_quantity end), 0)::bigint,
    coalesce(sum(l.quantity - o.filled_quantity) filter (where o.side = 'BUY'), 0)::bigint,
    coalesce(sum(l.quantity - o.filled_quantity) filter (where o.side = 'SELL'), 0)::bigint
from unnest(%(places)s::int[], %(users)s::uuid[], %(accounts)s::text[], %(instruments)s::text[], %(products)s::text[], %(since)s::uuid[])
    as v (place, user_id, account_id, instrument, product, since)
join lateral (
    select * from orders where user_id = v.user_id and instrument = v.instrument and product = v.product and id >= v.since
        and product in ('MIS', 'NRML', 'MTF') and account_id = v.account_id and slices = 0
    offset 0
) o on true
left join lateral (
    select greatest(o.quantity, (
        select max((h.wanted ->> 'quantity')::bigint) from commands c join changes h on h.order_id = c.order_id and h.seq = c.seq
        where o.changing > 0 and c.order_id = o.id and c.seq > 0 and c.done_at is null and c.kind = 'MODIFY'
            and h.told <> 'NOT_SENT'
    )) as quantity
    where o.state <> all(%(over)s::text[]) and o.id <> all(%(without)s::uuid[])
) l on true
group by v.place
"""


def read(
    unit: Unit, places: Collection[Place], now: datetime, *, without: Collection[str] = (), sent_only: bool = False
) -> dict[Place, Standing]:
    """The standings of these places, read under their accounts' locks.

    Every fill counts. Under way is what live orders may still fill, with the larger quantity of a modify that was called
    for; but for those of `without`, and with `sent_only` those that weren't sent yet. MIS counts from the start of the
    Indian day: it is closed every day.
    """
    wanted = sorted(places)
    standings = {place: Standing() for place in wanted}
    if not wanted:
        return standings
    today = datetime.combine(now.astimezone(IST).date(), time(), IST)
    rows = unit.rows(
        _STANDINGS,
        {
            "over": _UNSENT if sent_only else _ENDED,
            "places": array(range(len(wanted))),
            "users": array([place.user_id for place in wanted]),
            "accounts": text_array([place.account_id for place in wanted]),
            "instruments": text_array([place.instrument for place in wanted]),
            "products": array([place.product for place in wanted]),
            "since": array([_first_id(today if place.product is Product.MIS else None) for place in wanted]),
            "without": array(sorted(without)),
        },
    )
    for number, net, buying, selling in rows:
        standings[wanted[number]] = Standing(net, buying, selling)
    return standings


def _first_id(moment: datetime | None) -> str:
    """The least version-7 id of that millisecond, or of all."""
    return str(UUID(int=int(moment.timestamp() * 1000) << 80 if moment is not None else 0))
