"""Cancels, as they are accepted: which orders a request means, their rows locked, marked and looked up in sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.cancels import CancelFilter
from domain.instruments import EXCHANGES
from domain.lifecycle import TERMINAL, OrderState
from store.json import dump
from store.unit import Unit, array, text_array

_STATES = {member.value: member for member in OrderState}
_ENDED = sorted(TERMINAL)

# Orders live for a day. One that the record doesn't know the end of for longer is an operator's, and is cancelled by its id;
# so that of all that ever was only a week's rows are looked at, by the ids, which begin with their time.
_MEANT = """
from orders o where o.user_id = %(user)s and o.id >= first_id_at(now() - interval '7 days') and o.state <> all(%(ended)s)
    and o.parent_id is null
    and (%(broker)s::text is null or coalesce(o.broker, o.wanted_broker) = %(broker)s)
    and (%(account)s::text is null or coalesce(o.account_id, o.wanted_account) = %(account)s)
    and (%(exchanges)s::text[] is null or split_part(o.instrument, ':', 1) = any(%(exchanges)s))
    and (%(tag)s::text is null or o.tag = %(tag)s)
    and (%(strategy)s::text is null or o.strategy = %(strategy)s)
    and (%(instrument)s::text is null or o.instrument = %(instrument)s)
    and (%(intent)s::uuid is null or o.intent_id = %(intent)s)
"""
_CANCELLING = (
    "exists (select from commands c where c.order_id = o.id and c.seq > 0 and c.done_at is null and c.kind = 'CANCEL')"
)


def meant(unit: Unit, user_id: str, wanted: CancelFilter) -> list[str]:
    """The ids of the live orders that the filter means, oldest first; slices come with their parents."""
    return [row[0] for row in unit.rows(f"select o.id {_MEANT} order by o.id", _parameters(user_id, wanted))]


@dataclass(frozen=True, slots=True)
class Match:
    """One order that a cancel would ask for."""

    order_id: str
    state: OrderState
    instrument: str
    side: str
    quantity: int
    filled_quantity: int
    broker: str | None
    account: str | None
    tag: str | None
    strategy: str | None


_PAGE = (
    "select o.id, o.state, o.instrument, o.side, o.quantity, o.filled_quantity, coalesce(o.broker, o.wanted_broker),"
    " coalesce(o.account_id, o.wanted_account), o.tag, o.strategy"
)


def page_of(
    unit: Unit, user_id: str, wanted: CancelFilter, *, limit: int, after: str | None
) -> tuple[int, list[Match]]:
    """How many orders the filter means that nobody cancels yet, and those after an id."""
    parameters = {**_parameters(user_id, wanted), "limit": limit, "after": after}
    which = f"{_MEANT} and not {_CANCELLING}"
    rows = unit.rows(
        f"{_PAGE} {which} and (%(after)s::uuid is null or o.id > %(after)s) order by o.id limit %(limit)s", parameters
    )
    return int(unit.rows(f"select count(*) {which}", parameters)[0][0]), [_match(row) for row in rows]


def page_of_ids(
    unit: Unit, user_id: str, order_ids: Sequence[str], *, limit: int, after: str | None
) -> tuple[int, list[Match]]:
    """The same for named orders."""
    which = (
        "from orders o where o.id = any(%(ids)s::uuid[]) and o.user_id = %(user)s and o.state <> all(%(ended)s)"
        f" and not {_CANCELLING}"
    )
    parameters = {"ids": array(order_ids), "user": user_id, "ended": _ENDED, "limit": limit, "after": after}
    rows = unit.rows(
        f"{_PAGE} {which} and (%(after)s::uuid is null or o.id > %(after)s) order by o.id limit %(limit)s", parameters
    )
    return int(unit.rows(f"select count(*) {which}", parameters)[0][0]), [_match(row) for row in rows]


def slices_of(unit: Unit, user_id: str, order_ids: Sequence[str]) -> dict[str, list[str]]:
    """The live slices of those of the user's orders that are parents."""
    found: dict[str, list[str]] = {}
    for parent_id, id_ in unit.rows(
        "select parent_id, id from orders where parent_id = any(%s::uuid[]) and state <> all(%s)"
        " and user_id = %s order by id",
        (array(order_ids), _ENDED, user_id),
    ):
        found.setdefault(parent_id, []).append(id_)
    return found


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of a locked order before it is marked."""

    id: str
    state: OrderState
    last_seq: int
    slices: int
    changing: int


def lock(unit: Unit, user_id: str, order_ids: Sequence[str], *, parents: bool) -> dict[str, Target]:
    """Those of the orders that the user may see and that are parents, or that are none; locked in the order of their ids.

    One that was cut while its lock was waited for is not among those that are none any more.
    """
    rows = unit.rows(
        "select id, state, last_seq, slices, changing from orders where id = any(%s::uuid[])"
        " and user_id = %s and (slices > 0) = %s order by id for no key update",
        (array(order_ids), user_id, parents),
    )
    return {id_: Target(id_, _STATES[state], *figures) for id_, state, *figures in rows}


@dataclass(frozen=True, slots=True)
class UnderWay:
    """The cancel of an order that isn't done: whose it is, and how it is to be done."""

    intent_id: str
    seq: int
    wanted: Mapping[str, Any]
    is_stuck: bool


def under_way(unit: Unit, order_ids: Sequence[str]) -> dict[str, UnderWay]:
    """The cancels of these orders that aren't done, by order: none has two."""
    rows = unit.rows(
        "select c.order_id, h.intent_id, c.seq, h.wanted, c.state = 'STUCK' from commands c"
        " join changes h on h.order_id = c.order_id and h.seq = c.seq"
        " where c.order_id = any(%s::uuid[]) and c.seq > 0 and c.done_at is null and c.kind = 'CANCEL'",
        (array(order_ids),),
    )
    return {order_id: UnderWay(*row) for order_id, *row in rows}


def mark(unit: Unit, order_ids: Sequence[str], at: datetime) -> None:
    """A cancel of these locked orders was asked for: an event tells of it, a change is under way."""
    unit.run(
        "update orders set cancel_requested = true, changing = changing + 1, last_seq = last_seq + 1, updated_at = %s"
        " where id = any(%s::uuid[])",
        (at, array(order_ids)),
    )


def note(unit: Unit, order_ids: Sequence[str], at: datetime) -> None:
    """An event more tells of these locked orders."""
    unit.run(
        "update orders set last_seq = last_seq + 1, updated_at = %s where id = any(%s::uuid[])", (at, array(order_ids))
    )


def want(unit: Unit, entries: Sequence[tuple[str, int, Mapping[str, Any]]]) -> None:
    """How cancels under way are to be done, by (order, seq, wanted). The orders' rows must be locked.

    Whoever has such a command in hand reads it under its order's lock.
    """
    unit.run(
        "update changes c set wanted = v.wanted from unnest(%s::uuid[], %s::int[], %s::json[]) as v (order_id, seq, wanted)"
        " where c.order_id = v.order_id and c.seq = v.seq",
        (
            array([order_id for order_id, *_ in entries]),
            array([seq for _, seq, _ in entries]),
            text_array([dump(wanted) for *_, wanted in entries]),
        ),
    )


_TAKE_UP = """
update commands set stage = %(first)s, state = 'READY', live = true, due_at = %(at)s, attempts = 0, error = null,
    buried_at = null, deaths = case state when 'STUCK' then 0 else deaths end
where (order_id, seq) in (select order_id, seq from commands
    where order_id = any(%(ids)s::uuid[]) and seq > 0 and kind = 'CANCEL' and done_at is null and (state = 'STUCK'
        or state = 'READY' and (stage like %(soft)s or stage = %(first)s and due_at > %(at)s))
    for update skip locked)
"""


def take_up(unit: Unit, order_ids: Sequence[str], first: str, soft: str, at: datetime) -> None:
    """The cancels under way of these locked orders are due now at their first stage: those that wait there, are stuck, or wait
    at a stage like `soft`. One that is in a worker's hands is passed over: as in `want`.
    """
    unit.run(_TAKE_UP, {"first": first, "soft": soft, "ids": array(order_ids), "at": at})


def _parameters(user_id: str, wanted: CancelFilter) -> dict[str, Any]:
    return {
        "user": user_id,
        "ended": _ENDED,
        "broker": wanted.broker.lower() if wanted.broker else None,
        "account": wanted.account,
        "exchanges": list(EXCHANGES[wanted.segment]) if wanted.segment else None,
        "tag": wanted.tag,
        "strategy": wanted.strategy,
        "instrument": wanted.instrument,
        "intent": wanted.intent_id,
    }


def _match(row: tuple[Any, ...]) -> Match:
    id_, state, *terms = row
    return Match(id_, _STATES[state], *terms)
