"""Changes: the rows beside MODIFY and CANCEL commands, and the reads of books that they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from domain.changes import Change, Result, Told
from domain.commands import CommandKind
from store.json import dump
from store.unit import Unit, array, text_array

_COLUMNS = (
    "order_id, seq, intent_id, line, wanted, asked_at, told, told_detail, proof_from, result, reason_code, reason,"
    " settled_at"
)

_LAST_LINE = 2**31 - 1

_INSERT = """
with given as (
    select v.*, coalesce((select max(c.seq) from commands c where c.order_id = v.order_id), 0) + 1 as seq
    from unnest(%s::uuid[], %s::int[], %s::json[], %s::timestamptz[]) as v (order_id, line, wanted, due_at)
), made as (
    insert into commands (order_id, seq, kind, stage, state, due_at)
    select order_id, seq, %s, %s, 'READY', due_at from given
)
insert into changes (order_id, seq, intent_id, line, wanted, asked_at)
select order_id, seq, %s, line, wanted, %s from given
"""


def insert(
    unit: Unit,
    kind: CommandKind,
    stage: str,
    intent_id: str,
    entries: Sequence[tuple[str, int, object, datetime]],
    at: datetime,
) -> None:
    """A command with its change for each (order, line, wanted, due at). The orders' rows must be locked: that gives the seq."""
    unit.run(
        _INSERT,
        (
            array([order_id for order_id, *_ in entries]),
            array([line for _, line, *_ in entries]),
            text_array([dump(wanted) for *_, wanted, _ in entries]),
            array([due_at.isoformat() for *_, due_at in entries]),
            kind,
            stage,
            intent_id,
            at,
        ),
    )


def of(unit: Unit, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Change]:
    """The changes of these commands, by (order, seq). Whoever holds a command's lock holds its change."""
    rows = unit.rows(
        f"select {_COLUMNS} from changes where (order_id, seq) in (select * from unnest(%s::uuid[], %s::int[]))",  # noqa: S608
        (array([key[0] for key in keys]), array([key[1] for key in keys])),
    )
    return {(row[0], row[1]): _change(row) for row in rows}


_SAVE = """
update changes c set wanted = v.wanted, told = v.told, told_detail = v.told_detail, proof_from = v.proof_from, result = v.result,
    reason_code = v.reason_code, reason = v.reason, settled_at = v.settled_at
from unnest(%s::uuid[], %s::int[], %s::json[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::text[],
            %s::text[], %s::timestamptz[])
    as v (order_id, seq, wanted, told, told_detail, proof_from, result, reason_code, reason, settled_at)
where c.order_id = v.order_id and c.seq = v.seq
"""


def save(unit: Unit, changes: Sequence[Change]) -> None:
    """Write back what came of changes whose commands are locked."""
    unit.run(
        _SAVE,
        (
            array([change.order_id for change in changes]),
            array([change.seq for change in changes]),
            text_array([dump(change.wanted) for change in changes]),
            array([change.told for change in changes]),
            text_array([change.told_detail for change in changes]),
            array([change.proof_from and change.proof_from.isoformat() for change in changes]),
            array([change.result for change in changes]),
            text_array([change.reason_code for change in changes]),
            text_array([change.reason for change in changes]),
            array([change.settled_at and change.settled_at.isoformat() for change in changes]),
        ),
    )


def hasten(unit: Unit, order_ids: Sequence[str], at: datetime) -> None:
    """Something came of these orders: their changes that wait are due now.

    One that is in a worker's hands is passed over: it waits for the order's lock, and sees what is written here.
    """
    unit.run(
        "update commands set due_at = %s where (order_id, seq) in (select order_id, seq from commands"
        " where order_id = any(%s::uuid[]) and seq > 0 and done_at is null and state = 'READY' and due_at > %s"
        " for update skip locked)",
        (at, array(order_ids), at),
    )


def lines_of(unit: Unit, intent_ids: Sequence[str]) -> list[tuple[str, int, str, Result | None]]:
    """(intent, line, order, result) of every change of these intents."""
    rows = unit.rows(
        "select intent_id, line, order_id, result from changes where intent_id = any(%s::uuid[])", (array(intent_ids),)
    )
    return [(intent_id, line, order_id, Result(result) if result else None) for intent_id, line, order_id, result in rows]


def hasten_lines(unit: Unit, intent_id: str, last: int | None, at: datetime) -> None:
    """The changes of an intent that wait are due now, those of its lines up to the last one given.

    The intent must be locked. One that is in a worker's hands is passed over: it waits for the intent's lock, and sees
    what is written here.
    """
    unit.run(
        "update commands set due_at = %s where (order_id, seq) in (select c.order_id, c.seq from changes h"
        " join commands c on c.order_id = h.order_id and c.seq = h.seq where h.intent_id = %s and h.line <= %s"
        " and h.result is null and c.state = 'READY' and c.due_at > %s for update of c skip locked)",
        (at, intent_id, _LAST_LINE if last is None else last, at),
    )


def cancelling_slices(unit: Unit, parent_ids: Sequence[str]) -> dict[str, int]:
    """How many slices of these orders have a cancel under way."""
    rows = unit.rows(
        "select o.parent_id, count(*) from orders o join commands c on c.order_id = o.id and c.seq > 0"
        " and c.done_at is null and c.kind = 'CANCEL' where o.parent_id = any(%s::uuid[]) group by o.parent_id",
        (array(parent_ids),),
    )
    return dict(rows)


def newest_seq(unit: Unit, order_id: str) -> int:
    """The number of the order's newest command. Its row must be locked."""
    return int(unit.rows("select max(seq) from commands where order_id = %s", (order_id,))[0][0])


def modifies_under_way(unit: Unit, order_ids: Sequence[str], *, called: bool = False) -> dict[str, Change]:
    """The modify of each of these orders that isn't done, by order id. The orders' rows must be locked.

    With `called` those only of which the broker may have heard.
    """
    columns = ", ".join(f"h.{column}" for column in _COLUMNS.split(", "))
    rows = unit.rows(
        f"select {columns} from commands c join changes h on h.order_id = c.order_id and h.seq = c.seq"  # noqa: S608
        " where c.order_id = any(%s::uuid[]) and c.seq > 0 and c.done_at is null and c.kind = 'MODIFY'"
        " and (not %s or h.told <> 'NOT_SENT')",
        (array(order_ids), called),
    )
    return {row[0]: _change(row) for row in rows}


def called_tags(unit: Unit, account_id: str) -> set[str]:
    """The tags of the account's orders of which a modify was called for, that waits for what the book shows."""
    rows = unit.rows(
        "select o.broker_tag from commands c join changes h on h.order_id = c.order_id and h.seq = c.seq"
        " join orders o on o.id = c.order_id where c.seq > 0 and c.done_at is null and c.kind = 'MODIFY'"
        " and h.told is not null and o.account_id = %s",
        (account_id,),
    )
    return {row[0] for row in rows}


def note_read(unit: Unit, account_id: str, began_at: datetime) -> None:
    """The account's book was read, completely; the read began then."""
    unit.run(
        "insert into book_reads (account_id, began_at) values (%s, %s) on conflict (account_id) do update"
        " set began_at = greatest(book_reads.began_at, excluded.began_at)",
        (account_id, began_at),
    )


def reads_of(unit: Unit, account_ids: Sequence[str]) -> dict[str, datetime]:
    """When the newest complete read of each of these accounts' books began."""
    return dict(
        unit.rows("select account_id, began_at from book_reads where account_id = any(%s)", (list(account_ids),))
    )


def _change(row: tuple[Any, ...]) -> Change:
    (order_id, seq, intent_id, line, wanted, asked_at, told, told_detail, proof_from, result, code, reason, at) = row
    return Change(
        order_id=order_id,
        seq=seq,
        intent_id=intent_id,
        line=line,
        wanted=wanted,
        asked_at=asked_at,
        told=Told(told) if told else None,
        told_detail=told_detail,
        proof_from=proof_from,
        result=Result(result) if result else None,
        reason_code=code,
        reason=reason,
        settled_at=at,
    )
