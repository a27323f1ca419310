"""Groups: the intents whose held lines are to be decided on, and their lines as they stand.

Whoever moves a line of a group leaves a mark, in the transaction that moves it. Marks are only added and taken away:
nobody waits for another to leave one. Whoever decides locks the intent's row, takes its marks away and then reads the
lines, and so sees at least what the marks stand for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.commands import Command, CommandKind, CommandState
from domain.groups import GroupPolicy, Line, Part
from domain.lifecycle import UNSENT, OrderState
from store.unit import Unit, array

STAGE = "groups"


def mark(unit: Unit, intent_ids: Collection[str], due_at: datetime, *, tries: int = 0) -> None:
    """Something came of lines of these intents, or a decision on them failed so often: they are due then."""
    unit.run(
        "insert into group_marks (intent_id, due_at, tries) select id, %s, %s from unnest(%s::uuid[]) as v (id)",
        (due_at, tries, array(sorted(intent_ids))),
    )


def due(unit: Unit, now: datetime, limit: int) -> list[str]:
    """Intents that are to be decided on: those with a mark, and those with a held line whose time is over."""
    rows = unit.rows(
        "select intent_id from (select intent_id from group_marks where due_at <= %s order by due_at limit %s) m"
        " union select o.intent_id from (select order_id from commands where not live and done_at is null"
        "  and stage = 'groups' and state = 'HELD' and due_at <= %s order by due_at limit %s) c"
        "  join orders o on o.id = c.order_id"
        " union select o.intent_id from (select order_id from commands where live and stage = 'groups'"
        "  and state = 'READY' and due_at <= %s order by due_at limit %s) r join orders o on o.id = r.order_id"
        " limit %s",
        (now, limit, now, limit, now, limit, limit),
    )
    return [row[0] for row in rows]


def is_any_overdue(unit: Unit, before: datetime) -> bool:
    """Whether something was to be decided before that, and wasn't. What an operator sent back counts at its stage."""
    rows = unit.rows(
        "select exists (select from group_marks where due_at <= %s) or exists (select from commands where not live"
        " and done_at is null and stage = 'groups' and state = 'HELD' and due_at <= %s)",
        (before, before),
    )
    return bool(rows[0][0])


@dataclass(frozen=True, slots=True)
class Claimed:
    """A group in one worker's hands. `tries`: how often a decision on it has failed."""

    intent_id: str
    order_ids: tuple[str, ...]
    released: bool
    tries: int


def claim(unit: Unit, intent_ids: Sequence[str]) -> list[Claimed]:
    """Lock those of the intents that nobody holds, in the order of their ids, and take their marks away."""
    locked = unit.rows(
        "select id, order_ids::text[], released_at is not null from intents where id = any(%s::uuid[]) order by id"
        " for no key update skip locked",
        (array(intent_ids),),
    )
    if not locked:
        return []
    taken = unit.rows(
        "delete from group_marks where intent_id = any(%s::uuid[]) returning intent_id, tries",
        (array([row[0] for row in locked]),),
    )
    tries: dict[str, int] = {}
    for intent_id, count in taken:
        tries[intent_id] = max(count, tries.get(intent_id, 0))
    return [Claimed(id_, tuple(order_ids), released, tries.get(id_, 0)) for id_, order_ids, released in locked]


def lock_held(unit: Unit, order_ids: Sequence[str]) -> list[Command]:
    """Those of the orders' placements that are held, locked in the order of their ids."""
    rows = unit.rows(
        "select order_id, state, due_at, attempts, deaths, fence, error from commands where order_id = any(%s::uuid[])"
        " and seq = 0 and stage = 'groups' and state in ('HELD', 'READY') order by order_id for update",
        (array(order_ids),),
    )
    return [
        Command(
            order_id=order_id,
            seq=0,
            kind=CommandKind.PLACE,
            stage=STAGE,
            state=CommandState(state),
            due_at=due_at,
            attempts=attempts,
            deaths=deaths,
            fence=fence,
            error=error,
        )
        for order_id, state, due_at, attempts, deaths, fence, error in rows
    ]


def note_release(unit: Unit, intent_ids: Sequence[str], at: datetime) -> None:
    """The lines of these ALL_OR_NONE groups have been let go together; their intents are locked."""
    unit.run("update intents set released_at = %s where id = any(%s::uuid[])", (at, array(intent_ids)))


# Each by its key: `offset 0` keeps PostgreSQL from joining the whole table first while that is small.
_PLACEMENT = "select stage, state, error from commands where order_id = o.id and seq = 0 offset 0"
_LINES = f"""
select o.id, o.intent_id, o.line, o.correlation_id, o.policy, o.after, o.state, o.broker_order_id is not null, o.slices,
    o.quantity, o.filled_quantity, o.send_before, o.cancel_requested, o.reason_code, o.reason, c.stage, c.state, c.error
from orders o left join lateral ({_PLACEMENT}) c on true where o.id = any(%s::uuid[])
"""  # noqa: S608 - our own words
_SLICES = f"""
select o.parent_id, o.state, o.broker_order_id is not null, c.state
from orders o left join lateral ({_PLACEMENT}) c on true where o.parent_id = any(%s::uuid[])
"""  # noqa: S608 - our own words


@dataclass(frozen=True, slots=True)
class Group:
    """An intent's lines, and the ids of their orders by their numbers."""

    policy: GroupPolicy
    lines: tuple[Line, ...]
    order_ids: dict[int, str]


def read(unit: Unit, order_ids: Sequence[str]) -> dict[str, Group]:
    """The groups of these lines by intent, as they stand; nothing is locked."""
    rows = unit.rows(_LINES, (array(order_ids),))
    parents = [row[0] for row in rows if row[8]]
    slices: dict[str, list[Part]] = {}
    if parents:
        for parent_id, state, has_number, work in unit.rows(_SLICES, (array(parents),)):
            slices.setdefault(parent_id, []).append(Part(OrderState(state), has_number, work == "STUCK"))
    policies: dict[str, GroupPolicy] = {}
    lines: dict[str, list[Line]] = {}
    ids: dict[str, dict[int, str]] = {}
    for row in rows:
        order_id, intent_id, number, policy = row[0], row[1], row[2], row[4]
        policies[intent_id] = GroupPolicy(policy or GroupPolicy.BEST_EFFORT)
        lines.setdefault(intent_id, []).append(_line(row, slices.get(order_id)))
        ids.setdefault(intent_id, {})[number] = order_id
    return {
        intent_id: Group(policies[intent_id], tuple(sorted(found, key=lambda line: line.number)), ids[intent_id])
        for intent_id, found in lines.items()
    }


def _line(row: tuple[Any, ...], slices: list[Part] | None) -> Line:
    (_, _, number, name, _, after, word, has_number, _, quantity, filled, send_before, cancelling, code, reason, stage,
     work, error) = row  # fmt: skip
    state, is_stuck = OrderState(word), work == "STUCK"
    why = f"{code}: {reason}" if code else (error or "") if is_stuck else ""
    return Line(
        number=number,
        name=name,
        after=after,
        state=state,
        parts=tuple(slices) if slices else (Part(state, has_number, is_stuck),),
        send_before=send_before,
        is_held=stage == STAGE and work in ("HELD", "READY") and state in UNSENT,
        is_cancelling=cancelling and state in UNSENT,
        quantity=quantity,
        filled_quantity=filled,
        why=why,
    )
