"""Schedules: written once, then moved from state to state by compare-and-set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from domain.schedules import Kind, Schedule, State
from store.json import dump
from store.unit import Unit, array

_COLUMNS = (
    "id, part, user_id, key_id, kind, wanted, sessions, waits_for, due_at, late_by_s, state, detail, intent_id, matched,"
    " created_at, ended_at"
)
_LIVE = "state in ('PENDING', 'FIRING')"
_THIS = f"where id = %s and part = %s and {_LIVE}"


def insert(unit: Unit, schedules: Sequence[Schedule]) -> None:
    for one in schedules:
        unit.run(
            f"insert into schedules ({_COLUMNS})"  # noqa: S608
            " values (%s, %s, %s, %s, %s, %s::json, %s::json, %s, %s, %s, %s, null, null, null, %s, null)",
            (
                one.id, one.part, one.user_id, one.key_id, one.kind, dump(one.wanted),
                None if one.sessions is None else dump(one.sessions), one.waits_for, one.due_at, one.late_by_s,
                one.state, one.created_at,
            ),
        )  # fmt: skip


_DUE = f"""
select {_COLUMNS} from schedules s where {_LIVE} and due_at <= %s
    and (waits_for is null or due_at <= %s
         or not exists (select from changes c where c.intent_id = s.waits_for and c.result is null offset 0))
    and not exists (select from unnest(%s::uuid[], %s::int[]) as v (id, part) where v.id = s.id and v.part = s.part)
order by (select count(*) from unnest(%s::uuid[]) as v (user_id) where v.user_id = s.user_id), due_at, id, part limit 1
"""  # noqa: S608


def due(
    unit: Unit, now: datetime, patience: datetime, *, but: Collection[tuple[str, int]] = (), users: Collection[str] = ()
) -> Schedule | None:
    """The oldest of those whose time has come, begun or not; those of the users named come last, as often as they are named.

    Args:
        patience: what fell due after this still waits for the cancels before it.
        but: (id, part) of those that aren't meant.
    """
    ids, parts = array([id_ for id_, _ in but]), array([part for _, part in but])
    rows = unit.rows(_DUE, (now, patience, ids, parts, array(list(users))))
    return _schedule(rows[0]) if rows else None


def begin(unit: Unit, one: Schedule) -> bool:
    """From here on it can't be removed; False where it was, or is over."""
    return bool(
        unit.run(
            f"update schedules set state = 'FIRING' {_THIS}",  # noqa: S608
            (one.id, one.part),
        )
    )


def end(
    unit: Unit,
    one: Schedule,
    state: State,
    at: datetime,
    *,
    detail: str | None = None,
    intent_id: str | None = None,
    matched: int | None = None,
) -> bool:
    """What came of it; False where another process has said so already."""
    return bool(
        unit.run(
            f"update schedules set state = %s, detail = %s, intent_id = %s, matched = %s, ended_at = %s {_THIS}",  # noqa: S608
            (state, detail, intent_id, matched, at, one.id, one.part),
        )
    )


def remove(unit: Unit, user_id: str, schedule_id: str, at: datetime) -> int:
    """Of a user's schedule whatever was not begun is not begun any more; gives how many times that was."""
    return unit.run(
        "update schedules set state = 'REMOVED', ended_at = %s where id = %s and user_id = %s and state = 'PENDING'",
        (at, schedule_id, user_id),
    )


def count_live(unit: Unit, user_id: str) -> int:
    """How many schedules of the user's own making have something to come; until the transaction ends nobody else counts them."""
    unit.rows("select pg_advisory_xact_lock(7303, hashtext(%s))", (user_id,))
    rows = unit.rows(
        f"select count(distinct id) from schedules where user_id = %s and kind = 'CANCEL' and {_LIVE}",  # noqa: S608
        (user_id,),
    )
    return int(rows[0][0])


def of(unit: Unit, user_id: str | None, schedule_id: str) -> list[Schedule]:
    """Every time of one schedule, where it is that user's; with None, whosever it is."""
    sql = f"select {_COLUMNS} from schedules where id = %s and (%s::uuid is null or user_id = %s) order by part"  # noqa: S608
    return [_schedule(row) for row in unit.rows(sql, (schedule_id, user_id, user_id))]


_PAGE = """
select s.id from schedules s
where (%s::uuid is null or s.user_id = %s) and s.part = 0 and (%s::uuid is null or s.id < %s)
    and (%s or exists (select from schedules l where l.id = s.id and l.state in ('PENDING', 'FIRING')))
order by s.id desc limit %s
"""


def page(unit: Unit, user_id: str | None, *, live_only: bool, limit: int, after: str | None) -> list[list[Schedule]]:
    """The user's schedules (with None, everybody's), the newest first, each with its times."""
    ids = [row[0] for row in unit.rows(_PAGE, (user_id, user_id, after, after, not live_only, limit))]
    sql = f"select {_COLUMNS} from schedules where id = any(%s::uuid[]) order by id desc, part"  # noqa: S608
    found: dict[str, list[Schedule]] = {}
    for row in unit.rows(sql, (ids,)):
        found.setdefault(row[0], []).append(_schedule(row))
    return list(found.values())


def forget(unit: Unit, before: datetime, *, limit: int) -> int:
    """Whole schedules of which the last time ended before, the oldest first; gives how many rows are gone, a few more than the limit."""
    return unit.run(
        "delete from schedules where id = any(array(select s.id from schedules s where s.ended_at < %s"
        " and not exists (select from schedules l where l.id = s.id and (l.ended_at is null or l.ended_at >= %s))"
        " order by s.ended_at limit %s))",
        (before, before, limit),
    )


def places_of(unit: Unit, user_id: str, order_ids: Sequence[str]) -> list[tuple[str, str, str | None]]:
    """(id, instrument, account) of those of these orders that are the user's."""
    rows = unit.rows(
        "select id, instrument, coalesce(account_id, wanted_account) from orders"
        " where id = any(%s::uuid[]) and user_id = %s order by id",
        (list(order_ids), user_id),
    )
    return [(order_id, instrument, account) for order_id, instrument, account in rows]


def _schedule(row: tuple[Any, ...]) -> Schedule:
    (id_, part, user_id, key_id, kind, wanted, sessions, waits_for, due_at, late_by_s, state, detail, intent_id, matched,
     created_at, ended_at) = row  # fmt: skip
    return Schedule(
        id=id_,
        part=part,
        user_id=user_id,
        key_id=key_id,
        kind=Kind(kind),
        wanted=wanted,
        sessions=None if sessions is None else tuple((exchange, group) for exchange, group in sessions),
        waits_for=waits_for,
        due_at=due_at,
        late_by_s=late_by_s,
        state=State(state),
        detail=detail,
        intent_id=intent_id,
        matched=matched,
        created_at=created_at,
        ended_at=ended_at,
    )
