"""Commands: claimed when due, written back in sets; and the claims that show who holds them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from domain.commands import Command, CommandKind, CommandState
from store.rows import Rows
from store.unit import Unit, array

_COLUMNS = "order_id, seq, kind, stage, state, due_at, lease_until, attempts, deaths, fence, error"
_KINDS = {member.value: member for member in CommandKind}
_STATES = {member.value: member for member in CommandState}
_CLAIMED = frozenset({CommandState.READY, CommandState.HELD})  # as long as nothing came of a claim

_CLAIM = f"""
select {_COLUMNS} from commands
where stage = %s and live and state = 'READY' and due_at > %s and due_at <= %s and deaths = 0
order by due_at limit %s for update skip locked
"""  # noqa: S608

_CLAIM_SUSPECT = f"""
select {_COLUMNS} from commands
where stage = %s and live and state = 'READY' and due_at <= %s and deaths > 0
order by due_at limit 1 for update skip locked
"""  # noqa: S608

_CLAIM_THESE = f"""
select {_COLUMNS} from commands
where (order_id, seq) in (select * from unnest(%s::uuid[], %s::int[])) and stage = %s and state = 'READY'
    and due_at <= %s
for update skip locked
"""  # noqa: S608


# Row by row, by key: over a table that PostgreSQL takes for a small one it would else read all of it.
_LOCK_ANSWERED = f"""
select c.* from (select * from unnest(%s::uuid[], %s::int[], %s::boolean[]) as u (order_id, fence, tells) order by order_id) v,
lateral (
    select {_COLUMNS} from commands
    where order_id = v.order_id and seq = 0 and fence = v.fence
        and (state = 'SENDING' or v.tells and (state = 'UNKNOWN' or state = 'READY' and stage = 'persist'))
    for update
) c
"""  # noqa: S608

_LOCK_CHANGING = f"""
select c.* from (select * from unnest(%s::uuid[], %s::int[], %s::int[]) as u (order_id, seq, fence) order by order_id, seq) v,
lateral (
    select {_COLUMNS} from commands
    where order_id = v.order_id and seq = v.seq and fence = v.fence and state = 'SENDING'
    for update
) c
"""  # noqa: S608


def claim(unit: Unit, stage: str, *, since: datetime, now: datetime, limit: int) -> list[Command]:
    """Lock what is due and ready at a stage, oldest first, skipping what others hold and what killed a worker.

    `since` leaves out what fell due before it. Where a reader holds an old snapshot, dead entries at the old end of
    the index can't be cleaned away, and a claim that began there would walk over all of them each time.
    """
    return [_command(row) for row in unit.rows(_CLAIM, (stage, since, now, limit))]


def claim_suspect(unit: Unit, stage: str, now: datetime) -> list[Command]:
    """At most one command that was in the hands of a worker that died: it is taken alone."""
    return [_command(row) for row in unit.rows(_CLAIM_SUSPECT, (stage, now))]


def claim_these(unit: Unit, stage: str, keys: Sequence[tuple[str, int]], now: datetime) -> list[Command]:
    """Lock those of the given commands that are ready at the stage and held by nobody."""
    ids, seqs = array([key[0] for key in keys]), array([key[1] for key in keys])
    return [_command(row) for row in unit.rows(_CLAIM_THESE, (ids, seqs, stage, now))]


def lock(unit: Unit, order_ids: Sequence[str], *, seq: int = 0) -> dict[str, Command]:
    """The orders' commands of one seq (0 is the placement), by order id; locked in the order of their ids."""
    rows = unit.rows(
        f"select {_COLUMNS} from commands where order_id = any(%s::uuid[]) and seq = %s order by order_id for update",  # noqa: S608
        (array(order_ids), seq),
    )
    return {row[0]: _command(row) for row in rows}


def _command(row: tuple[Any, ...]) -> Command:
    order_id, seq, kind, stage, state, due_at, lease_until, attempts, deaths, fence, error = row
    return Command(
        order_id=order_id,
        seq=seq,
        kind=_KINDS[kind],
        stage=stage,
        state=_STATES[state],
        due_at=due_at,
        lease_until=lease_until,
        attempts=attempts,
        deaths=deaths,
        fence=fence,
        error=error,
    )


_SAVED = Rows(
    order_id="uuid",
    seq="int",
    stage="word",
    state="word",
    due_at="timestamptz",
    lease_until="timestamptz",
    attempts="int",
    deaths="int",
    fence="int",
    error="text",
    done_at="timestamptz",
)
_SAVE = f"""
update commands c set stage = v.stage, state = v.state, live = v.state in ('READY', 'SENDING'), due_at = v.due_at,
    lease_until = v.lease_until, attempts = v.attempts, deaths = v.deaths, fence = v.fence, error = v.error,
    done_at = v.done_at
from {_SAVED.sql} where c.order_id = v.order_id and c.seq = v.seq
"""  # noqa: S608 - our own names


def save(unit: Unit, commands: Sequence[Command]) -> None:
    """Write back locked commands, in one statement."""
    unit.run(
        _SAVE,
        _SAVED.parameters(
            [command.order_id for command in commands],
            [command.seq for command in commands],
            [command.stage for command in commands],
            [command.state for command in commands],
            [command.due_at for command in commands],
            [command.lease_until for command in commands],
            [command.attempts for command in commands],
            [command.deaths for command in commands],
            [command.fence for command in commands],
            [command.error for command in commands],
            [command.done_at for command in commands],
        ),
    )


def peek(
    unit: Unit, stage: str, *, since: datetime, now: datetime, limit: int, without: Collection[str] = ()
) -> list[tuple[str, int, str, datetime]]:
    """(order_id, seq, account, due at) of what is due at a dispatch stage, oldest first, without locking anything.

    What fell due before `since` is left out, and so are the accounts in `without` and what killed a worker.
    """
    rows = unit.rows(
        "select c.order_id, c.seq, o.account_id, c.due_at from commands c join orders o on o.id = c.order_id"
        " where c.stage = %s and c.live and c.state = 'READY' and c.due_at > %s and c.due_at <= %s and c.deaths = 0"
        " and o.account_id <> all(%s) order by c.due_at limit %s",
        (stage, since, now, list(without), limit),
    )
    return [(order_id, seq, account_id, due_at) for order_id, seq, account_id, due_at in rows]


def lock_answered(unit: Unit, keys: Sequence[tuple[str, int, bool]]) -> list[Command]:
    """Lock those placements whose call of this fence has ended, by (order_id, fence, whether its end tells anything).

    A call that ends after its lease, but tells what became of the order, ends the not knowing: it is among them.
    What is not has moved on by other evidence.
    """
    return [
        _command(row)
        for row in unit.rows(
            _LOCK_ANSWERED,
            (array([key[0] for key in keys]), array([key[1] for key in keys]), array([key[2] for key in keys])),
        )
    ]


def lock_changing(unit: Unit, keys: Sequence[tuple[str, int, int]]) -> list[Command]:
    """Lock those modifies and cancels whose call of this fence is under way, by (order_id, seq, fence)."""
    rows = unit.rows(
        _LOCK_CHANGING,
        (array([key[0] for key in keys]), array([key[1] for key in keys]), array([key[2] for key in keys])),
    )
    return [_command(row) for row in rows]


def lock_stopped(unit: Unit, order_ids: Sequence[str]) -> dict[str, list[Command]]:
    """The orders' placements, and those of their modifies and cancels that are stuck; by order, locked in one order."""
    rows = unit.rows(
        f"select {_COLUMNS} from commands where order_id = any(%s::uuid[]) and (seq = 0 or state = 'STUCK')"  # noqa: S608
        " order by order_id, seq for update",
        (array(order_ids),),
    )
    held: dict[str, list[Command]] = {}
    for row in rows:
        held.setdefault(row[0], []).append(_command(row))
    return held


def lock_free(unit: Unit, order_ids: Sequence[str]) -> dict[str, Command]:
    """The orders' placements that nobody holds, locked. For whoever holds the orders already: it must not wait here."""
    rows = unit.rows(
        f"select {_COLUMNS} from commands where order_id = any(%s::uuid[]) and seq = 0 for update skip locked",  # noqa: S608
        (array(order_ids),),
    )
    return {row[0]: _command(row) for row in rows}


def insert_placements(unit: Unit, order_ids: Sequence[str], stage: str, at: datetime) -> None:
    unit.run(
        "insert into commands (order_id, seq, kind, stage, state, due_at)"
        " select id, 0, 'PLACE', %s, 'READY', %s from unnest(%s::uuid[]) as v (id)",
        (stage, at, array(order_ids)),
    )


def oldest_due(unit: Unit, now: datetime, since: datetime) -> dict[tuple[str, str], tuple[datetime, int]]:
    """Per (stage, state) of due work: when the oldest fell due, and how many there are."""
    rows = unit.rows(
        "select stage, state, min(case state when 'SENDING' then lease_until else due_at end), count(*) from commands"
        " where live and due_at <= %s and due_at > %s and (state = 'READY' or lease_until <= %s) group by stage, state",
        (now, since, now),
    )
    return {(stage, state): (oldest, count) for stage, state, oldest, count in rows}


def oldest_at(unit: Unit, stages: Sequence[str], now: datetime, since: datetime) -> datetime | None:
    """When the oldest ready work of these stages fell due, of what did so after `since`; None when nothing waits."""
    rows = unit.rows(
        "select min(o.due_at) from unnest(%s::text[]) as s (stage), lateral (select due_at from commands c"
        " where c.stage = s.stage and c.live and c.state = 'READY' and c.due_at > %s and c.due_at <= %s order by due_at limit 1) o",
        (array(stages), since, now),
    )
    oldest: datetime | None = rows[0][0]
    return oldest


def sending_since(unit: Unit, stages: Sequence[str], lease_before: datetime) -> set[str]:
    """Those of the stages with a call under way whose lease ends before that: it has been for long."""
    rows = unit.rows(
        "select s.stage from unnest(%s::text[]) as s (stage) where exists (select from commands c"
        " where c.stage = s.stage and c.live and c.state = 'SENDING' and c.lease_until < %s)",
        (array(stages), lease_before),
    )
    return {row[0] for row in rows}


def are_due(unit: Unit, stages: Sequence[str], now: datetime, count: int) -> bool:
    """Whether so many commands, or more, are ready and due at these stages; no more of them are looked at."""
    rows = unit.rows(
        "select count(*) from (select from unnest(%s::text[]) as s (stage), lateral (select from commands c"
        " where c.stage = s.stage and c.live and c.state = 'READY' and c.due_at <= %s limit %s) d limit %s) as due",
        (array(stages), now, count, count),
    )
    return bool(rows[0][0] >= count)


def expire_leases(unit: Unit, stage: str, now: datetime) -> int:
    """Hand on what is still being sent though its lease is over; gives how many.

    A placement goes to persist, a modify or cancel back to its first stage: there its end is unknown.
    """
    return unit.run(
        "update commands set stage = case kind when 'PLACE' then 'persist' else lower(kind) end, state = 'READY', due_at = %s"
        " where (order_id, seq) in ("
        " select order_id, seq from commands where stage = %s and live and state = 'SENDING' and lease_until <= %s"
        " limit 500 for update skip locked)",
        (now, stage, now),
    )


def unburied(unit: Unit, *, limit: int) -> list[Command]:
    """Stuck commands whose dead letter nobody has written yet."""
    rows = unit.rows(
        f"select {_COLUMNS} from commands where not live and done_at is null and state = 'STUCK' and buried_at is null limit %s",  # noqa: S608
        (limit,),
    )
    return [_command(row) for row in rows]


def mark_buried(unit: Unit, order_id: str, seq: int, at: datetime) -> None:
    unit.run("update commands set buried_at = %s where order_id = %s and seq = %s", (at, order_id, seq))


# Claims: committed on a connection of their own while the claimed rows are locked, closed with the work itself. An
# open claim over unlocked rows means that its worker died.


def open_claim(unit: Unit, worker: str, stage: str, order_ids: Sequence[str]) -> int:
    rows = unit.rows(
        "insert into claims (worker, stage, order_ids) values (%s, %s, %s::uuid[]) returning id",
        (worker, stage, array(order_ids)),
    )
    return int(rows[0][0])


def close_claim(unit: Unit, claim_id: int) -> None:
    unit.run("delete from claims where id = %s", (claim_id,))


def open_claims(unit: Unit, *, older_than_s: float) -> list[tuple[int, str, str, list[str]]]:
    rows = unit.rows(
        "select id, worker, stage, order_ids::text[] from claims where opened_at < now() - make_interval(secs => %s)",
        (older_than_s,),
    )
    return [(claim_id, worker, stage, list(order_ids)) for claim_id, worker, stage, order_ids in rows]


def count_death(
    unit: Unit, claim_id: int, stage: str, order_ids: Sequence[str], *, is_change: bool = False
) -> list[Command] | None:
    """Close a claim whose rows nobody holds, with one more death for each command still at its stage.

    `is_change`: the claim is of modifies or cancels. None where the rows are locked (its worker is at work) or the claim is closed already.
    """
    which = "order_id = any(%s::uuid[]) and seq > 0" if is_change else "order_id = any(%s::uuid[]) and seq = 0"
    rows = unit.rows(
        f"select {_COLUMNS} from commands where {which} order by order_id for update skip locked",  # noqa: S608
        (array(order_ids),),
    )
    all_of_them = unit.rows(f"select count(*) from commands where {which}", (array(order_ids),))[0][0]  # noqa: S608
    if len(rows) < all_of_them or not unit.run("delete from claims where id = %s", (claim_id,)):
        return None
    dead = [command for row in rows if (command := _command(row)).stage == stage and command.state in _CLAIMED]
    for command in dead:
        command.deaths += 1
    if dead:
        save(unit, dead)
    return dead
