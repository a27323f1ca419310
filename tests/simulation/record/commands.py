"""Stands for `store/commands.py`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta

from domain.commands import Command, CommandKind, CommandState

from .unit import Unit

_LIVE = (CommandState.READY, CommandState.SENDING)


def claim(unit: Unit, stage: str, *, since: datetime, now: datetime, limit: int) -> list[Command]:
    unit.statement()

    def wanted(row: Command) -> bool:
        return (
            row.stage == stage and row.state is CommandState.READY and since < row.due_at <= now and row.deaths == 0
        )

    return _locked(unit, _oldest(unit, wanted), wanted, limit)


def claim_suspect(unit: Unit, stage: str, now: datetime) -> list[Command]:
    unit.statement()

    def wanted(row: Command) -> bool:
        return row.stage == stage and row.state is CommandState.READY and row.due_at <= now and row.deaths > 0

    return _locked(unit, _oldest(unit, wanted), wanted, 1)


def claim_these(unit: Unit, stage: str, keys: Sequence[tuple[str, int]], now: datetime) -> list[Command]:
    unit.statement()

    def wanted(row: Command) -> bool:
        return row.stage == stage and row.state is CommandState.READY and row.due_at <= now

    rows = [row for key in keys if (row := unit.get("commands", key)) is not None]
    return _locked(unit, rows, wanted, len(rows))


def lock(unit: Unit, order_ids: Sequence[str], *, seq: int = 0) -> dict[str, Command]:
    unit.statement()
    held = {}
    for order_id in sorted(set(order_ids)):
        if unit.get("commands", (order_id, seq)) is not None:
            unit.lock("commands", (order_id, seq))
            held[order_id] = copy(unit.get("commands", (order_id, seq)))
    return held


def lock_answered(unit: Unit, keys: Sequence[tuple[str, int, bool]]) -> list[Command]:
    unit.statement()
    answered = []
    for order_id, fence, tells in sorted(keys):

        def wanted(row: Command, fence: int = fence, tells: bool = tells) -> bool:
            is_open = row.state is CommandState.UNKNOWN or (row.state is CommandState.READY and row.stage == "persist")
            return same_fence(row, fence) and (row.state is CommandState.SENDING or (tells and is_open))

        if wanted(unit.get("commands", (order_id, 0))):
            unit.lock("commands", (order_id, 0))
            row = unit.get("commands", (order_id, 0))
            if wanted(row):
                answered.append(copy(row))
    return answered


def same_fence(row: Command, fence: int) -> bool:
    return row.fence == fence


def save(unit: Unit, commands: Sequence[Command]) -> None:
    unit.statement()
    for command in commands:
        unit.put("commands", (command.order_id, command.seq), copy(command))


def peek(
    unit: Unit, stage: str, *, since: datetime, now: datetime, limit: int, without: Collection[str] = ()
) -> list[tuple[str, int, str, datetime]]:
    unit.statement()
    found = []
    for row in _oldest(
        unit,
        lambda row: (
            row.stage == stage and row.state is CommandState.READY and since < row.due_at <= now and row.deaths == 0
        ),
    ):
        account_id = unit.get("orders", row.order_id)["account_id"]
        if account_id not in without:
            found.append((row.order_id, row.seq, account_id, row.due_at))
    return found[:limit]


def insert_placements(unit: Unit, order_ids: Sequence[str], stage: str, at: datetime) -> None:
    unit.statement()
    for order_id in order_ids:
        command = Command(
            order_id=order_id, seq=0, kind=CommandKind.PLACE, stage=stage, state=CommandState.READY, due_at=at
        )
        unit.insert("commands", (order_id, 0), command)


def oldest_due(unit: Unit, now: datetime, since: datetime) -> dict[tuple[str, str], tuple[datetime, int]]:
    unit.statement()
    due: dict[tuple[str, str], tuple[datetime, int]] = {}
    for _, row in unit.scan("commands"):
        is_sending = row.state is CommandState.SENDING
        if row.state not in _LIVE or not since < row.due_at <= now or (is_sending and row.lease_until > now):
            continue
        key, at = (row.stage, row.state), row.lease_until if is_sending else row.due_at
        oldest, count = due.get(key, (at, 0))
        due[key] = (min(oldest, at), count + 1)
    return due


def expire_leases(unit: Unit, stage: str, now: datetime) -> int:
    unit.statement()

    def wanted(row: Command) -> bool:
        return row.stage == stage and row.state is CommandState.SENDING and row.lease_until is not None and row.lease_until <= now

    expired = _locked(unit, [row for _, row in unit.scan("commands") if wanted(row)], wanted, 500)
    for command in expired:
        command.stage, command.state, command.due_at = "persist", CommandState.READY, now
        unit.put("commands", (command.order_id, command.seq), command)
    return len(expired)


def unburied(unit: Unit, *, limit: int) -> list[Command]:
    unit.statement()
    stuck = [copy(row) for key, row in unit.scan("commands") if row.state is CommandState.STUCK and not unit.get("buried", key)]
    return stuck[:limit]


def mark_buried(unit: Unit, order_id: str, seq: int, at: datetime) -> None:
    unit.statement()
    unit.lock("commands", (order_id, seq))
    unit.put("buried", (order_id, seq), at)


def open_claim(unit: Unit, worker: str, stage: str, order_ids: Sequence[str]) -> int:
    unit.statement()
    unit.record.numbers += 1
    unit.put("claims", unit.record.numbers, (worker, stage, list(order_ids), unit.record.now()))
    return unit.record.numbers


def close_claim(unit: Unit, claim_id: int) -> None:
    unit.statement()
    _delete_claim(unit, claim_id)


def open_claims(unit: Unit, *, older_than_s: float) -> list[tuple[int, str, str, list[str]]]:
    unit.statement()
    before = unit.record.now() - timedelta(seconds=older_than_s)
    return [(id_, worker, stage, ids) for id_, (worker, stage, ids, at) in unit.scan("claims") if at < before]


def count_death(
    unit: Unit, claim_id: int, stage: str, order_ids: Sequence[str], *, is_change: bool = False
) -> list[Command] | None:
    unit.statement()
    rows = [unit.get("commands", (order_id, 0)) for order_id in sorted(order_ids)]
    held = _locked(unit, rows, lambda row: True, len(rows))
    if len(held) < len(order_ids) or not _delete_claim(unit, claim_id):
        return None
    dead = [row for row in held if row.stage == stage and row.state in (CommandState.READY, CommandState.HELD)]
    for command in dead:
        command.deaths += 1
    if dead:
        save(unit, dead)
    return dead


def _delete_claim(unit: Unit, claim_id: int) -> bool:
    if unit.get("claims", claim_id) is None:
        return False
    unit.lock("claims", claim_id)
    if unit.get("claims", claim_id) is None:
        return False
    unit.put("claims", claim_id, None)
    return True


def _oldest(unit: Unit, wanted: Callable[[Command], bool]) -> list[Command]:
    return sorted((row for _, row in unit.scan("commands") if wanted(row)), key=lambda row: row.due_at)


def _locked(
    unit: Unit, rows: Iterable[Command], wanted: Callable[[Command], bool], limit: int
) -> list[Command]:
    """FOR UPDATE SKIP LOCKED."""
    held: list[Command] = []
    for row in rows:
        if len(held) == limit:
            break
        key = (row.order_id, row.seq)
        if unit.try_lock("commands", key):
            held.append(copy(unit.get("commands", key)))
    return [row for row in held if wanted(row)]


def copy(row: Command) -> Command:
    return Command(
        order_id=row.order_id,
        seq=row.seq,
        kind=row.kind,
        stage=row.stage,
        state=row.state,
        due_at=row.due_at,
        lease_until=row.lease_until,
        attempts=row.attempts,
        deaths=row.deaths,
        fence=row.fence,
        error=row.error,
        done_at=row.done_at,
    )
