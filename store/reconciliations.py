"""Reconciliations: which account is compared to its broker when, by whom, and the record's side of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.ids import new_id
from domain.orders import Order, Product
from store.json import dump
from store.orders import COLUMNS, from_row
from store.unit import Unit, array

TradeKey = tuple[str, str]  # exchange, trade id
Trade = tuple[int, Decimal]  # quantity, price


@dataclass(frozen=True, slots=True)
class Run:
    """One look at one account: nobody else looks at it until the lease is over."""

    account_id: str
    run_id: str
    asked: int
    memory: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the comparison of one account is. `suspected` differences wait for a second look."""

    account_id: str
    broker: str
    asked: int
    answered: int
    running: bool
    due_at: datetime
    ended_at: datetime | None
    looks: int
    outcome: str | None
    detail: str | None
    suspected: int


_ADD_NEW = """
insert into reconciliations (account_id, due_at) select id, %s from accounts where broker = %s order by id
on conflict do nothing
"""

_CLAIM = """
with picked as (
    select r.account_id from reconciliations r join accounts a on a.id = r.account_id
    where a.broker = %s and r.due_at <= %s and (r.lease_until is null or r.lease_until <= %s)
    order by r.due_at, r.account_id limit 1 for update of r skip locked)
update reconciliations r set run_id = %s, lease_until = %s, began_at = %s from picked
where r.account_id = picked.account_id returning r.account_id, r.run_id, r.asked, r.memory
"""


def claim(unit: Unit, broker: str, now: datetime, lease_until: datetime) -> Run | None:
    """The account of the broker that is due longest and that nobody is at; None where there is none."""
    unit.run(_ADD_NEW, (now, broker))
    rows = unit.rows(_CLAIM, (broker, now, now, new_id(), lease_until, now))
    return Run(*rows[0]) if rows else None


def finish(
    unit: Unit,
    run: Run,
    now: datetime,
    *,
    due_at: datetime,
    outcome: str,
    detail: str | None,
    memory: dict[str, Any],
    suspected: int,
) -> bool:
    """Write down what came of a look; False where the lease was over and another took the account."""
    return bool(
        unit.run(
            "update reconciliations set run_id = null, lease_until = null, ended_at = %s, looks = looks + 1, answered = %s,"
            " outcome = %s, detail = %s, memory = %s::json, suspected = %s,"
            " due_at = case when asked > %s then %s else %s end where account_id = %s and run_id = %s",
            (
                now, run.asked, outcome, detail, dump(memory), suspected, run.asked, now, due_at, run.account_id, run.run_id,
            ),
        )
    )  # fmt: skip


def ask(unit: Unit, account_ids: Sequence[str], now: datetime) -> None:
    """Have these accounts looked at now."""
    unit.run(
        "insert into reconciliations (account_id, due_at, asked) select id, %s, 1 from unnest(%s::text[]) as v (id)"
        " on conflict (account_id) do update set asked = reconciliations.asked + 1,"
        " due_at = least(reconciliations.due_at, excluded.due_at)",
        (now, sorted(account_ids)),
    )


def brokers_due(unit: Unit, now: datetime) -> list[str]:
    """The brokers of which an account is due, and nobody is at it."""
    rows = unit.rows(
        "select distinct a.broker from accounts a left join reconciliations r on r.account_id = a.id"
        " where r.account_id is null or (r.due_at <= %s and (r.lease_until is null or r.lease_until <= %s)) order by 1",
        (now, now),
    )
    return [row[0] for row in rows]


def progress(unit: Unit, account_ids: Sequence[str]) -> list[Progress]:
    rows = unit.rows(
        "select a.id, a.broker, r.asked, r.answered, r.run_id is not null, r.due_at, r.ended_at, r.looks, r.outcome,"
        " r.detail, r.suspected from reconciliations r join accounts a on a.id = r.account_id"
        " where a.id = any(%s) order by a.broker, a.id",
        (list(account_ids),),
    )
    return [Progress(*row) for row in rows]


# The record's side.


def orders_by_tag(unit: Unit, tags: Sequence[str]) -> list[Order]:
    return _orders(unit, "broker_tag = any(%s)", (list(tags),))


def live_orders(unit: Unit, account_id: str, since: datetime) -> list[Order]:
    """The account's live orders accepted since then, slices but no parents; by their ids, which begin with their time."""
    return _orders(
        unit,
        "user_id = (select user_id from accounts where id = %s) and id >= %s::uuid and account_id = %s and slices = 0"
        " and state not in ('FILLED', 'CANCELLED', 'REJECTED', 'EXPIRED')",
        (account_id, _first_id(since), account_id),
    )


def open_orders(unit: Unit, account_id: str) -> int:
    return int(unit.rows("select open_orders from accounts where id = %s", (account_id,))[0][0])


def trades_of(unit: Unit, order_ids: Sequence[str]) -> dict[str, dict[TradeKey, Trade]]:
    trades: dict[str, dict[TradeKey, Trade]] = {}
    for order_id, exchange, trade_id, quantity, price in unit.rows(
        "select order_id, exchange, trade_id, quantity, price from trades where order_id = any(%s::uuid[])",
        (array(order_ids),),
    ):
        trades.setdefault(order_id, {})[exchange, trade_id] = (quantity, price)
    return trades


def traded_since(unit: Unit, account_id: str, since: datetime) -> dict[tuple[str, Product], int]:
    """Bought less sold in the account since then, by instrument and product."""
    rows = unit.rows(
        "select t.instrument, o.product, sum(case t.side when 'BUY' then t.quantity else -t.quantity end)::bigint"
        " from trades t join orders o on o.id = t.order_id"
        " where t.user_id = (select user_id from accounts where id = %s) and t.at >= %s and t.account_id = %s"
        " group by t.instrument, o.product",
        (account_id, since, account_id),
    )
    return {(instrument, Product(product)): net for instrument, product, net in rows}


def _orders(unit: Unit, which: str, parameters: tuple[Any, ...]) -> list[Order]:
    return [from_row(row) for row in unit.rows(f"select {COLUMNS} from orders where {which}", parameters)]  # noqa: S608


def _first_id(moment: datetime) -> str:
    """The least version-7 id of that millisecond."""
    return str(UUID(int=int(moment.timestamp() * 1000) << 80))
