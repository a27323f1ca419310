"""What can be asked of the record. Every question is answered within a scope: one user's rows, or everyone's, in SQL."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, literal, select, tuple_

from domain.commands import CommandKind
from readmodel.asking import Scope, plain_rows
from readmodel.change_views import changes_summary
from readmodel.changes import counts_of
from readmodel.pages import TradePlace, id_cursor, trade_cursor
from readmodel.views import (
    View,
    account_view,
    broker_text,
    call_view,
    event_view,
    intent_summary,
    intent_view,
    order_view,
    trade_view,
)
from store.acts import CLAIM
from store.tables import accounts, commands, intents, order_events, orders, trades


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Narrow a list; None lets everything through."""

    states: tuple[str, ...] | None = None
    broker: str | None = None  # as stored: lower case
    account: str | None = None
    instrument: str | None = None
    intent: str | None = None
    parent: str | None = None  # the slices of this order; without it slices are left out, their parents sum them up


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[View]
    next: str | None


_PLACE = and_(commands.c.order_id == orders.c.id, commands.c.seq == 0)
_WITH_WORK = select(
    orders,
    commands.c.stage.label("work_stage"),
    commands.c.state.label("work_state"),
    commands.c.attempts.label("work_attempts"),
    commands.c.due_at.label("work_due_at"),
    commands.c.error.label("work_error"),
).select_from(orders.outerjoin(commands, _PLACE))

_line: Any = namedtuple("_line", list(_WITH_WORK.selected_columns.keys()))._make  # type: ignore[attr-defined]

# What is asked again and again while orders are under way is asked in plain SQL, in one trip: a sixth of the time.
_ORDER_COLUMNS = ", ".join(f"o.{column.name}" for column in orders.columns)
_WORK_COLUMNS = (
    "c.stage as work_stage, c.state as work_state, c.attempts as work_attempts, c.due_at as work_due_at,"
    " c.error as work_error"
)
_INTENT = f"""
select i.id as asked_id, i.kind as asked_kind, i.accepted_at as asked_at, {_ORDER_COLUMNS}, {_WORK_COLUMNS}
from intents i join orders o on o.id = any(i.order_ids) left join commands c on c.order_id = o.id and c.seq = 0
where i.id = %s and (%s::uuid is null or i.user_id = %s) and i.kind = 'PLACE' order by o.line
"""  # noqa: S608
_ORDER = f"""
select {_ORDER_COLUMNS}, {_WORK_COLUMNS} from orders o left join commands c on c.order_id = o.id and c.seq = 0
where o.id = %s and (%s::uuid is null or o.user_id = %s)
"""  # noqa: S608


CALLS = (
    "select number, kind, call_id, broker, account_id, tag, request, started_at, lease_until, outcome, response, ended_at"
    " from attempts where order_id = %s order by number"
)


def intent(connection: Connection, scope: Scope, intent_id: str) -> View | None:
    """An intent that places, with every line as it stands."""
    lines = plain_rows(connection, _INTENT, (intent_id, scope.user_id, scope.user_id))
    return intent_view(lines) if lines else None


def order(connection: Connection, scope: Scope, order_id: str) -> View | None:
    found = plain_rows(connection, _ORDER, (order_id, scope.user_id, scope.user_id))
    return order_view(found[0]) if found else None


def states_of(connection: Connection, order_ids: Sequence[str]) -> dict[str, str]:
    """The states of orders by their ids."""
    return dict(plain_rows(connection, "select id, state from orders where id = any(%s::uuid[])", (list(order_ids),)))


def intent_page(connection: Connection, scope: Scope, *, limit: int, after: str | None) -> Page:
    """Intents without their lines, newest first."""
    wanted = _of(
        select(intents.c.id, intents.c.kind, intents.c.accepted_at, intents.c.order_ids), intents.c.user_id, scope
    ).where(intents.c.kind != CLAIM)
    rows, more = _by_id(connection, wanted, intents.c.id, limit, after)
    line_ids = [order_id for row in rows if row.kind == CommandKind.PLACE for order_id in row.order_ids]
    states = states_of(connection, line_ids)
    counts = counts_of(connection, [row.id for row in rows if row.kind != CommandKind.PLACE])
    views = [
        intent_summary(row.id, row.kind, row.accepted_at, [states[order_id] for order_id in row.order_ids])
        if row.kind == CommandKind.PLACE
        else changes_summary(row.id, row.kind, row.accepted_at, counts.get(row.id, ()))
        for row in rows
    ]
    return Page(views, id_cursor(rows[-1].id) if more else None)


def order_page(connection: Connection, scope: Scope, filters: Filters, *, limit: int, after: str | None) -> Page:
    """Orders, newest first."""
    wanted = _of(_WITH_WORK, orders.c.user_id, scope)
    if filters.states is not None:
        wanted = wanted.where(orders.c.state.in_(filters.states))
    if filters.broker is not None:
        wanted = wanted.where(func.coalesce(orders.c.broker, orders.c.wanted_broker) == filters.broker)
    if filters.account is not None:
        wanted = wanted.where(func.coalesce(orders.c.account_id, orders.c.wanted_account) == filters.account)
    if filters.instrument is not None:
        wanted = wanted.where(orders.c.instrument == filters.instrument)
    if filters.intent is not None:
        # By the intent's own list of lines: orders are not indexed by their intent.
        lines = select(func.unnest(intents.c.order_ids)).where(intents.c.id == filters.intent)
        wanted = wanted.where(orders.c.id.in_(lines))
    if filters.parent is not None:
        wanted = wanted.where(orders.c.parent_id == filters.parent)
    else:
        wanted = wanted.where(orders.c.parent_id.is_(None))
    rows, more = _by_id(connection, wanted, orders.c.id, limit, after)
    # A view reads every column: three times as fast from a plain named tuple as from a row of SQLAlchemy's.
    return Page([order_view(_line(row)) for row in rows], id_cursor(rows[-1].id) if more else None)


def history(connection: Connection, scope: Scope, order_id: str) -> View | None:
    """Every event of the order and every call for it, oldest first; None when the order isn't to be seen."""
    if not _may_see(connection, scope, order_id):
        return None
    wanted = select(order_events).where(order_events.c.order_id == order_id).order_by(order_events.c.seq)
    return {
        "orderId": order_id,
        "events": [event_view(row) for row in connection.execute(wanted)],
        "calls": [call_view(row) for row in plain_rows(connection, CALLS, (order_id,))],
    }


def trades_of(connection: Connection, scope: Scope, order_id: str) -> View | None:
    """The order's trades and those of its slices, oldest first; None when the order isn't to be seen."""
    if not _may_see(connection, scope, order_id):
        return None
    slices = connection.execute(select(orders.c.id).where(orders.c.parent_id == order_id)).scalars().all()
    wanted = select(trades).where(trades.c.order_id.in_([order_id, *slices])).order_by(trades.c.at, trades.c.trade_id)
    return {"trades": [trade_view(row) for row in connection.execute(wanted)], "next": None}


def trade_page(connection: Connection, scope: Scope, filters: Filters, *, limit: int, after: TradePlace | None) -> Page:
    """Trades, newest first."""
    wanted = _of(select(trades), trades.c.user_id, scope)
    if filters.broker is not None:
        wanted = wanted.where(trades.c.broker == filters.broker)
    if filters.account is not None:
        wanted = wanted.where(trades.c.account_id == filters.account)
    if filters.instrument is not None:
        wanted = wanted.where(trades.c.instrument == filters.instrument)
    place = (trades.c.at, trades.c.order_id, trades.c.exchange, trades.c.trade_id)
    if after is not None:
        values = (after.at, after.order_id, after.exchange, after.trade_id)
        before = [literal(value, column.type) for value, column in zip(values, place, strict=True)]
        wanted = wanted.where(tuple_(*place) < tuple_(*before))
    newest_first = wanted.order_by(*(column.desc() for column in place)).limit(limit + 1)
    found = connection.execute(newest_first).all()
    rows, more = found[:limit], len(found) > limit
    last = TradePlace(rows[-1].at, rows[-1].order_id, rows[-1].exchange, rows[-1].trade_id) if more else None
    return Page([trade_view(row) for row in rows], trade_cursor(last) if last is not None else None)


def broker_views(connection: Connection, scope: Scope) -> list[View]:
    """Each broker with the accounts to be seen there, and how many commands wait for its dispatch."""
    shown = _of(select(accounts).order_by(accounts.c.broker, accounts.c.id), accounts.c.user_id, scope)
    by_broker: dict[str, list[View]] = {}
    for row in connection.execute(shown):
        by_broker.setdefault(row.broker, []).append(account_view(row))
    waiting = (
        select(commands.c.stage, func.count())
        .where(commands.c.state == "READY", commands.c.stage.in_([f"dispatch.{name}" for name in by_broker]))
        .group_by(commands.c.stage)
    )
    queued = {stage: count for stage, count in connection.execute(waiting)}
    return [
        {"broker": broker_text(name), "accounts": rows, "queued": queued.get(f"dispatch.{name}", 0)}
        for name, rows in by_broker.items()
    ]


def _may_see(connection: Connection, scope: Scope, order_id: str) -> bool:
    wanted = _of(select(orders.c.id).where(orders.c.id == order_id), orders.c.user_id, scope)
    return connection.execute(wanted).first() is not None


def _of(wanted: Select[Any], owner: Any, scope: Scope) -> Select[Any]:
    return wanted if scope.user_id is None else wanted.where(owner == scope.user_id)


def _by_id(
    connection: Connection, wanted: Select[Any], row_id: Any, limit: int, after: str | None
) -> tuple[Sequence[Row[*tuple[Any, ...]]], bool]:
    """A page, newest first, and whether more rows follow."""
    if after is not None:
        wanted = wanted.where(row_id < after)
    found = connection.execute(wanted.order_by(row_id.desc()).limit(limit + 1)).all()
    return found[:limit], len(found) > limit
