"""What the record knows of the orders that streams speak of, and which of their trades are still to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.lifecycle import OrderState
from store.unit import Unit, array, text_array

NEWEST = 2_000  # an owner's orders, among which one is looked for whose broker told no tag

_COLUMNS = "o.id, o.broker_tag, o.account_id, o.broker_order_id, o.state, o.quantity, o.filled_quantity, o.modifies, o.changing"


@dataclass(frozen=True, slots=True)
class Known:
    """An order as the record has it at this moment."""

    order_id: str
    tag: str
    account_id: str | None
    broker_order_id: str | None
    state: OrderState
    quantity: int
    filled_quantity: int
    modifies: int = 0  # calls that modify it
    changing: int = 0  # modifies and cancels of it that are under way


def by_tags(unit: Unit, tags: Sequence[str]) -> dict[str, Known]:
    """The orders with these tags, by tag."""
    if not tags:
        return {}
    rows = unit.rows(f"select {_COLUMNS} from orders o where o.broker_tag = any(%s)", (list(tags),))  # noqa: S608
    return {known.tag: known for known in map(_known, rows)}


def by_order_ids(unit: Unit, wanted: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], Known]:
    """The orders with these ids, by what they are asked for as: account and broker order id."""
    if not wanted:
        return {}
    rows = unit.rows(f"select {_COLUMNS} from orders o where o.id = any(%s::uuid[])", (array(list(wanted.values())),))  # noqa: S608
    known = {order.order_id: order for order in map(_known, rows)}
    return {key: known[order_id] for key, order_id in wanted.items() if order_id in known}


def by_broker_ids(unit: Unit, wanted: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], Known]:
    """Of (owner, account, broker order id) those that are among the owner's newest orders, by the latter two.

    No index leads from a broker's order id to the order: it would cost every order a second index write. Where a
    broker tells no tag, the newest orders are looked through instead, and older ones are left to a poll.
    """
    if not wanted:
        return {}
    rows = unit.rows(
        f"select {_COLUMNS} from (select distinct user_id from unnest(%s::uuid[]) as u (user_id)) u"  # noqa: S608
        " cross join lateral (select * from orders where user_id = u.user_id order by id desc limit %s) o"
        " join unnest(%s::text[], %s::text[]) as v (account_id, broker_order_id)"
        " on v.account_id = o.account_id and v.broker_order_id = o.broker_order_id",
        (
            array([user_id for user_id, _, _ in wanted]),
            NEWEST,
            text_array([account_id for _, account_id, _ in wanted]),
            text_array([broker_order_id for _, _, broker_order_id in wanted]),
        ),
    )
    found = map(_known, rows)
    return {(known.account_id or "", known.broker_order_id or ""): known for known in found}


def await_trades(unit: Unit, filled: Mapping[str, tuple[str, int]]) -> None:
    """Remember that a stream told of fills, which it has no trades of: (account, filled quantity) by order id."""
    if not filled:
        return
    ids = sorted(filled)
    unit.run(
        "insert into awaited_trades (order_id, account_id, filled) select * from unnest(%s::uuid[], %s::text[], %s::bigint[])"
        " on conflict (order_id) do update set filled = greatest(awaited_trades.filled, excluded.filled)",
        (array(ids), text_array([filled[id_][0] for id_ in ids]), array([filled[id_][1] for id_ in ids])),
    )


def forget_read_trades(unit: Unit) -> int:
    """Await no more what is there by now, or what no book shows any more, a day later; gives how many."""
    return unit.run(
        "delete from awaited_trades a where a.since < now() - interval '1 day'"
        " or a.filled <= (select coalesce(sum(t.quantity), 0) from trades t where t.order_id = a.order_id)"
    )


def _known(row: tuple[Any, ...]) -> Known:
    order_id, tag, account_id, broker_order_id, state, *figures = row
    return Known(order_id, tag, account_id, broker_order_id, OrderState(state), *figures)
