"""What the verifier reads: parts of the record between two ids, each part in one short, read-only snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.orders import Order
from store.orders import COLUMNS, from_row
from store.unit import Store, Unit, array

FIRST_ID, LAST_ID = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
TOTALS_MS = 120_000  # the sums over all live orders are one statement
FOUND_MAX = 1_000

EventRow = tuple[int, str, str | None, str, dict[str, Any]]  # seq, type, previous state, state, detail


@contextmanager
def snapshot(store: Store) -> Iterator[Unit]:
    """A transaction that sees one moment of the record, however much it reads."""
    with store.unit() as unit:
        unit.run("set transaction isolation level repeatable read, read only")
        yield unit


@dataclass(frozen=True, slots=True)
class CommandRow:
    kind: str
    stage: str
    state: str
    due_at: datetime
    lease_until: datetime | None
    buried_at: datetime | None


@dataclass(frozen=True, slots=True)
class Part:
    """The orders between two ids with all that belongs to them, as of `at`. Things without their order's row are here, too."""

    at: datetime
    orders: dict[str, Order]
    events: dict[str, list[EventRow]]
    commands: dict[str, dict[int, CommandRow]]
    changes: dict[str, dict[int, bool]]  # by seq, whether it has its result
    attempts: dict[str, list[tuple[int, str]]]  # number, and the kind of instruction that it carries
    accepted: dict[str, list[str]]  # the broker's numbers of accepted placements
    traded: dict[str, int]  # quantity
    searched: set[str]
    slices: dict[str, tuple[int, int, int]]  # of parents: how many, their quantity, filled quantity
    tags_seen_twice: set[str]
    last_id: str | None  # None: no more follow


def read_part(unit: Unit, after: str, limit: int) -> Part:
    at: datetime = unit.rows("select now()")[0][0]
    sql = f"select {COLUMNS} from orders where id > %s order by id limit %s"  # noqa: S608
    held = {order.id: order for order in map(from_row, unit.rows(sql, (after, limit)))}
    last = next(reversed(held)) if len(held) == limit else None
    between = (after, last or LAST_ID)
    events: dict[str, list[EventRow]] = {}
    for order_id, *event in unit.rows(
        "select order_id, seq, event_type, prev_state, new_state, detail from order_events"
        " where order_id > %s and order_id <= %s order by order_id, seq",
        between,
    ):
        events.setdefault(order_id, []).append(tuple(event))
    commands: dict[str, dict[int, CommandRow]] = {}
    for order_id, seq, *row in unit.rows(
        "select order_id, seq, kind, stage, state, due_at, lease_until, buried_at from commands"
        " where order_id > %s and order_id <= %s",
        between,
    ):
        commands.setdefault(order_id, {})[seq] = CommandRow(*row)
    changes: dict[str, dict[int, bool]] = {}
    for order_id, seq, is_settled in unit.rows(
        "select order_id, seq, result is not null from changes where order_id > %s and order_id <= %s", between
    ):
        changes.setdefault(order_id, {})[seq] = is_settled
    attempts: dict[str, list[tuple[int, str]]] = {}
    accepted: dict[str, list[str]] = {}
    for order_id, number, kind, broker_order_id in unit.rows(
        "select order_id, number, kind, case outcome when 'ACCEPTED' then response ->> 'brokerOrderId' end from attempts"
        " where order_id > %s and order_id <= %s order by order_id, number",
        between,
    ):
        attempts.setdefault(order_id, []).append((number, kind))
        if kind == "PLACE" and broker_order_id is not None:
            accepted.setdefault(order_id, []).append(broker_order_id)
    traded = unit.rows(
        "select order_id, sum(quantity)::bigint from trades where order_id > %s and order_id <= %s group by order_id",
        between,
    )
    searched = unit.rows("select order_id from searches where order_id > %s and order_id <= %s", between)
    parents = [order.id for order in held.values() if order.is_parent]
    slices = unit.rows(
        "select parent_id, count(*), sum(quantity)::bigint, sum(filled_quantity)::bigint from orders"
        " where parent_id = any(%s::uuid[]) group by parent_id",
        (array(parents),),
    )
    twice = unit.rows(
        "select broker_tag from orders where broker_tag = any(%s) group by broker_tag having count(*) > 1",
        ([order.broker_tag for order in held.values()],),
    )
    return Part(
        at=at,
        orders=held,
        events=events,
        commands=commands,
        changes=changes,
        attempts=attempts,
        accepted=accepted,
        traded=dict(traded),
        searched={row[0] for row in searched},
        slices={parent: (count, quantity, filled) for parent, count, quantity, filled in slices},
        tags_seen_twice={row[0] for row in twice},
        last_id=last,
    )


@dataclass(frozen=True, slots=True)
class Intents:
    """Some intents: by id their orders; which of these have no row or no command; and intents with a key of another.

    Intents that change orders may name none: their lines are changes.
    """

    order_ids: dict[str, list[str]]
    that_place: set[str]
    without_order: set[str]
    without_command: set[str]
    sharing_a_key: list[tuple[str, str]]
    last_id: str | None


def read_intents(unit: Unit, after: str, limit: int) -> Intents:
    rows = unit.rows("select id, order_ids::text[], kind from intents where id > %s order by id limit %s", (after, limit))
    asked = {intent_id: list(order_ids) for intent_id, order_ids, _ in rows}
    wanted = [order_id for order_ids in asked.values() for order_id in order_ids]
    there = {row[0] for row in unit.rows("select id from orders where id = any(%s::uuid[])", (array(wanted),))}
    at_work = unit.rows("select order_id from commands where order_id = any(%s::uuid[]) and seq = 0", (array(wanted),))
    sharing = unit.rows(
        "select i.id, j.id from intents i join intents j on j.user_id = i.user_id"
        " and j.idempotency_key = i.idempotency_key and j.id > i.id where i.id = any(%s::uuid[])",
        (array(list(asked)),),
    )
    return Intents(
        order_ids=asked,
        that_place={intent_id for intent_id, _, kind in rows if kind == "PLACE"},
        without_order=set(wanted) - there,
        without_command=there - {row[0] for row in at_work},
        sharing_a_key=[(one, other) for one, other in sharing],
        last_id=next(reversed(asked)) if len(asked) == limit else None,
    )


def wrong_totals(unit: Unit, terminal: Sequence[str]) -> list[tuple[str, tuple[int, int, int], tuple[int, int, int]]]:
    """(account, what its row says, what its live orders sum up to) where the two differ: blocked, exposure, open orders."""
    unit.run(f"set local statement_timeout = {TOTALS_MS}")
    rows = unit.rows(
        "select a.id, a.blocked_paise, a.exposure_paise, a.open_orders, coalesce(s.blocked, 0), coalesce(s.exposure, 0),"
        " coalesce(s.live, 0) from accounts a left join ("
        "  select account_id, sum(blocked_paise)::bigint as blocked, sum(exposure_paise)::bigint as exposure,"
        "   count(*) filter (where slices = 0) as live from orders"
        "  where account_id is not null and state <> all(%s) group by account_id) s on s.account_id = a.id"
        " where (a.blocked_paise, a.exposure_paise, a.open_orders)"
        "  <> (coalesce(s.blocked, 0), coalesce(s.exposure, 0), coalesce(s.live, 0)) order by a.id",
        (list(terminal),),
    )
    return [(row[0], row[1:4], row[4:7]) for row in rows]


def waiting_reports(unit: Unit, seconds: float) -> list[tuple[str, datetime]]:
    """(order, when it came) of reports that nobody has applied for so long."""
    rows = unit.rows(
        "select order_id, received_at from reports where applied_at is null"
        " and received_at < now() - make_interval(secs => %s) order by received_at limit %s",
        (seconds, FOUND_MAX),
    )
    return [(order_id, at) for order_id, at in rows]


def buried(unit: Unit, stage: str, after: str, limit: int) -> list[tuple[str, int]]:
    """(order, seq) of commands that are stuck at the stage and have had their letter for some seconds."""
    rows = unit.rows(
        "select order_id, seq from commands where not live and done_at is null and state = 'STUCK' and stage = %s"
        " and buried_at < now() - interval '5 seconds' and order_id > %s order by order_id limit %s",
        (stage, after, limit),
    )
    return [(order_id, seq) for order_id, seq in rows]


def rows_about(unit: Unit) -> int:
    """About how many orders and intents there are, for a progress bar."""
    rows = unit.rows(
        "select coalesce(sum(greatest(reltuples, 0)), 0)::bigint from pg_class where oid in ('orders'::regclass, 'intents'::regclass)"
    )
    return int(rows[0][0])
