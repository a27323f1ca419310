"""What has stopped, as an operator sees it: the list, and for one order why it is there and what may safely be done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from psycopg.rows import namedtuple_row

from domain.changes import Change
from domain.commands import CommandState
from domain.errors import NotFound, Refused
from domain.lifecycle import UNSENT
from pipeline.chain import OUTCOME
from pipeline.desk import Desk
from pipeline.refusals import Case, cases_of, named, refuse_to_discard, refuse_to_requeue, refuse_to_settle
from pipeline.wayback import way_back
from readmodel.pages import id_cursor
from readmodel.queries import CALLS, Page
from readmodel.views import View, broker_text, call_view, event_view, moment_text
from store import stuck
from store.stuck import StuckItem, Wanted
from store.unit import Unit

ANY = Wanted(states=(stuck.STUCK, stuck.UNKNOWN), parked=None)

_EVENTS = (
    "select seq, event_type, prev_state, new_state, source, at, detail from order_events where order_id = %s order by seq"
)
_SEARCH = "select looks, clean_reads, proof_from, next_at from searches where order_id = %s and fence = %s"


def list_stuck(desk: Desk, wanted: Wanted, *, limit: int = 1_000, after: str | None = None) -> Page:
    """What has stopped, oldest order first; `after` is an order's id."""
    with desk.store.unit() as unit:
        items = stuck.page(unit, wanted, desk.now(), limit=limit + 1, after=after)
    shown = items[:limit]
    return Page([item_view(item) for item in shown], id_cursor(shown[-1].order_id) if len(items) > limit else None)


def count_stuck(desk: Desk, wanted: Wanted) -> int:
    with desk.store.unit() as unit:
        return stuck.count(unit, wanted, desk.now())


def explain(desk: Desk, order_id: str) -> View:
    """The item, why it stopped, each act with whether it may be done and what follows; its events and its calls.

    Raises NotFound where nothing of that id has stopped.
    """
    with desk.store.unit() as unit:
        found = stuck.page(unit, ANY, desk.now(), limit=1, only=order_id)
        case = cases_of(unit, [order_id]).get(order_id)
        if not found or case is None:
            raise NotFound("stuck or unknown order", order_id)
        now, proof = desk.now(), way_back(desk).proof_at(case.order.broker)
        search = _named(unit, _SEARCH, order_id, case.command.fence)
        return {
            "item": item_view(found[0]),
            "why": " ".join(_why(case, now)),
            "acts": [
                {"act": "requeue", **_asked(lambda: refuse_to_requeue(case), _requeued(case, now))},
                {"act": "settle", **_asked(lambda: refuse_to_settle(case, None, now, proof), _to_settle(case))},
                {"act": "discard", **_asked(lambda: refuse_to_discard(case), _DISCARDED if case.change is None else _GIVEN_UP)},
                {"act": "park", "allowed": True, "why": _PARKED},
            ],
            "search": _search_view(search[0]) if search else None,
            "events": [event_view(row) for row in _named(unit, _EVENTS, order_id)],
            "calls": [call_view(row) for row in _named(unit, CALLS, order_id)],
        }


def item_view(item: StuckItem) -> View:
    parked = {
        "until": item.parked_until and moment_text(item.parked_until),
        "operator": item.parked_by,
        "reason": item.parked_because,
    }
    return {
        "orderId": item.order_id,
        "kind": item.kind,
        "stage": item.stage,
        "work": item.work,
        "state": item.state,
        "error": item.error,
        "attempts": item.attempts,
        "deaths": item.deaths,
        "since": moment_text(item.since),
        "instrument": item.instrument,
        "side": item.side,
        "quantity": item.quantity,
        "filledQuantity": item.filled_quantity,
        "broker": broker_text(item.broker),
        "account": item.account,
        "brokerTag": item.broker_tag,
        "brokerOrderId": item.broker_order_id,
        "buriedAt": item.buried_at and moment_text(item.buried_at),
        "parked": parked if item.is_parked else None,
    }


def _search_view(row: Any) -> View:
    return {
        "looks": row.looks,
        "cleanReads": row.clean_reads,
        "proofFrom": moment_text(row.proof_from),
        "nextAt": moment_text(row.next_at),
    }


def _why(case: Case, now: datetime) -> Iterator[str]:
    command, order, newest = case.command, case.order, case.newest
    if case.change is not None:
        yield from _why_change(case, case.change)
        return
    if command.state is CommandState.UNKNOWN:
        yield f"Its call to {named(order)}, attempt {command.fence}, ended without a documented answer: {command.error}."
        yield f"Nobody can say yet whether it was taken. The book of {order.account_id} is searched for its tag {order.broker_tag};"
        yield "until it is found, or proven absent, it is not sent again and keeps what it holds."
        return
    after = f"{command.deaths} workers died of it" if command.deaths else f"it failed {command.attempts} times"
    yield f"{command.stage} gave it up after {after}: {command.error or 'no error was recorded'}."
    if not case.calls:
        yield "It was never sent."
    elif order.state in UNSENT:
        yield "Its calls, if they reached a broker at all, are known not to have been taken."
    elif newest is not None:
        yield f"Its attempt {newest.number} ended {newest.outcome or 'without an outcome'}, and that has not become its state."
    if order.state in UNSENT and now >= order.send_before:
        yield f"Its last moment to be sent was {order.send_before.isoformat(timespec='seconds')}: sent back, it is EXPIRED_UNSENT."


def _why_change(case: Case, change: Change) -> Iterator[str]:
    command, order = case.command, case.order
    after = f"{command.deaths} workers died of it" if command.deaths else f"it failed {command.attempts} times"
    yield f"The {command.kind} of the order, asked for by intent {change.intent_id}, was given up at {command.stage} after {after}:"
    yield f"{command.error or 'no error was recorded'}. The order itself is {order.state}."
    if change.told is None:
        yield f"{named(order)} was never asked."
    else:
        yield f"{named(order)} was asked: {change.told}{f', {change.told_detail}' if change.told_detail else ''}."


def _requeued(case: Case, now: datetime) -> str:
    if case.change is not None:
        return f"It goes back to {case.command.kind.lower()}, which looks how the order stands before anything is asked again."
    if case.command.stage in OUTCOME or case.order.state not in UNSENT:
        return "It goes on to what came of its call, which is written down. Only what was provably not sent is sent again."
    if now >= case.order.send_before:
        return "It goes on and is rejected as EXPIRED_UNSENT, since its last moment to be sent is past."
    return f"It goes back to {case.command.stage} with a clean count of tries. Mend the cause first."


_GIVEN_UP = "The order lives on as it is, and what was asked for is told as given up. This can't be undone."
_DISCARDED = "It becomes REJECTED, and what it holds of its account is freed. This can't be undone."
_PARKED = "It leaves this list for a time, or until it is taken back; nothing else of it changes."


def _to_settle(case: Case) -> str:
    return (
        f"Search the order book of {case.order.account_id} at {named(case.order)} for the tag {case.order.broker_tag},"
        " not for symbol, side or price. What it shows, or that it shows nothing, is the evidence."
    )


def _asked(refuse: Any, follows: str) -> View:
    try:
        refuse()
    except Refused as refusal:
        return {"allowed": False, "why": f"{refusal.code}: {refusal}"}
    return {"allowed": True, "why": follows}


def _named(unit: Unit, sql: str, *parameters: object) -> list[Any]:
    return unit.connection.cursor(row_factory=namedtuple_row).execute(sql, parameters).fetchall()
