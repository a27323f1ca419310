"""Schedules: cancels at a time or before a session ends, written down by the door, and carried out by the clock (`firing.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from domain.cancels import CancelMode, CancelRequest, check
from domain.errors import Fault, Malformed, NotFound, ScheduleOver, SoftCancelDisabled
from domain.ids import new_id
from domain.instruments import Instrument
from domain.market import SIM
from domain.schedules import LATE_BY_S, Kind, Schedule, ScheduledCancel, State, a_schedule, times_of
from pipeline.accepting import with_tries
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.squareoff import Asked
from store import acts, audit, schedules
from store.acts import Once
from store.unit import Unit

TRIES = 2  # of three seconds each: a clock that has it in hand has it for a moment
BUSY = "the database is busy; try again"

Document = dict[str, Any]


def accept(desk: Desk, asked: Asked, wanted: ScheduledCancel) -> Document:
    """Write a scheduled cancel down; the same answer to the same key.

    Raises Malformed, SoftCancelDisabled, KeyReused, or StoreAway, after which the same key is safe to use again.
    """
    request = check(wanted.now())
    if request.mode is CancelMode.SOFT and not desk.settings().async_cancel_enabled:
        raise SoftCancelDisabled("soft cancels are switched off here; ask for a HARD one")
    return with_tries(lambda: _accepted(desk, asked, wanted, request), tries=TRIES, busy=BUSY)


def _accepted(desk: Desk, asked: Asked, wanted: ScheduledCancel, request: CancelRequest) -> Document:
    now, live_max = desk.now(), desk.settings().schedules_max
    once = Once(asked.user_id, asked.idempotency_key, asked.fingerprint)
    with desk.store.unit() as unit:
        if (kept := acts.begin(unit, once, now)) is not None:
            return {**kept, "replayed": True}
        if faults := tuple(wanted.find_faults(now)):
            raise Malformed(faults)
        if schedules.count_live(unit, asked.user_id) >= live_max:
            pointer = "/at" if wanted.at is not None else "/atSessionEnd"
            detail = f"{live_max} of your schedules are to come, the most that one user may have: take one back first"
            raise Malformed((Fault(pointer, "TOO_MANY", detail),))
        left_out: list[str] = []
        named: list[Instrument] | None = None
        if wanted.at_session_end is not None:
            left_out, named = _at_exchanges(unit, desk, asked.user_id, request)
        made = _schedules(asked, wanted, named, now)
        schedules.insert(unit, made)
        answer = {**document(made), "leftOut": left_out}
        acts.keep(unit, once, answer)
        audit.write(unit, now, f"key {asked.key_id}", "schedule.create", made[0].id, {"request": made[0].wanted})
        crash("schedules.accept.before_commit")
    return answer


def remove(desk: Desk, asked: Asked, schedule_id: str) -> Document:
    """Nothing of it that was not begun is begun any more. Raises NotFound, ScheduleOver, KeyReused, StoreAway."""
    return with_tries(lambda: _removed(desk, asked, schedule_id), tries=TRIES, busy=BUSY)


def _removed(desk: Desk, asked: Asked, schedule_id: str) -> Document:
    now = desk.now()
    once = Once(asked.user_id, asked.idempotency_key, asked.fingerprint)
    with desk.store.unit() as unit:
        if (kept := acts.begin(unit, once, now)) is not None:
            return {**kept, "replayed": True}
        if not schedules.of(unit, asked.user_id, schedule_id):
            raise NotFound("schedule", schedule_id)
        if not schedules.remove(unit, asked.user_id, schedule_id, now):
            raise ScheduleOver(f"schedule {schedule_id} was carried out, or is over")
        answer = document(schedules.of(unit, asked.user_id, schedule_id))
        acts.keep(unit, once, answer)
        audit.write(unit, now, f"key {asked.key_id}", "schedule.remove", schedule_id, {})
        crash("schedules.remove.before_commit")
    return answer


def page(desk: Desk, user_id: str | None, *, live_only: bool, limit: int, after: str | None) -> tuple[list[Document], str | None]:
    """Schedules, the newest first, and the id that the next page begins after; with no user, everybody's."""
    with desk.store.unit() as unit:
        found = schedules.page(unit, user_id, live_only=live_only, limit=limit + 1, after=after)
    shown = found[:limit]
    return [document(times) for times in shown], shown[-1][0].id if len(found) > limit else None


def show(desk: Desk, user_id: str | None, schedule_id: str) -> Document:
    """Raises NotFound."""
    with desk.store.unit() as unit:
        times = schedules.of(unit, user_id, schedule_id)
    if not times:
        raise NotFound("schedule", schedule_id)
    return document(times)


def document(times: Sequence[Schedule]) -> Document:
    """A schedule as its client sees it."""
    first = times[0]
    return {
        "scheduleId": first.id,
        "kind": first.kind.value,
        "status": _status({one.state for one in times}).value,
        "request": first.wanted,
        "lateBySec": first.late_by_s,
        "createdAt": first.created_at.isoformat(),
        "times": [
            {
                "at": one.due_at.isoformat(),
                "sessions": None if one.sessions is None else [":".join(session) for session in one.sessions],
                "state": one.state.value,
                "intentId": one.intent_id,
                "matched": one.matched,
                "detail": one.detail,
                "endedAt": one.ended_at and one.ended_at.isoformat(),
            }
            for one in times
        ],
    }


def _status(states: set[State]) -> State:
    """PENDING while anything is to come; then the worst that has come of any of its times."""
    if states & {State.PENDING, State.FIRING}:
        return State.PENDING
    return next(one for one in (State.FAILED, State.MISSED, State.REMOVED, State.FIRED) if one in states)


def _schedules(asked: Asked, wanted: ScheduledCancel, named: Sequence[Instrument] | None, now: datetime) -> list[Schedule]:
    kept = wanted.model_dump(mode="json", by_alias=True, exclude_none=True)
    id_, late_by_s = new_id(), wanted.late_by_sec or LATE_BY_S
    return [
        a_schedule(
            Kind.CANCEL, kept, asked.user_id, asked.key_id, now,
            id_=id_, part=part, sessions=sessions, due_at=at, late_by_s=late_by_s,
        )
        for part, (at, sessions) in enumerate(times_of(wanted, named, now))
    ]  # fmt: skip


def _at_exchanges(
    unit: Unit, desk: Desk, user_id: str, request: CancelRequest
) -> tuple[list[str], list[Instrument] | None]:
    """Of the accounts that are meant those without a session's end, and the instruments that can be meant, if known."""
    instruments, owned = desk.instruments(), desk.directory().of_user.get(user_id, ())
    named: list[Instrument] | None = None
    if request.filter is None:
        places = schedules.places_of(unit, user_id, request.order_ids or ())
        accounts = {account for *_, account in places}
        meant = [one for one in owned if one.id in accounts or None in accounts]
        named = [instruments[key] for _, key, _ in places if key in instruments]
        pointer = "/orderIds"
    else:
        broker, account = request.filter.broker, request.filter.account
        meant = [one for one in owned if account in (None, one.id) and (broker is None or broker.lower() == one.broker)]
        pointer = "/filter"
        if (key := request.filter.instrument) is not None:
            if key not in instruments:
                raise Malformed((Fault("/filter/instrument", "UNKNOWN_INSTRUMENT", f"{key} is not among today's instruments"),))
            named = [instruments[key]]
    if not meant:
        raise Malformed((Fault(pointer, "NO_ACCOUNT", "no account of yours is meant by it"),))
    left_out = [one.id for one in meant if one.calendar == SIM]
    if len(left_out) == len(meant):
        detail = f"{', '.join(left_out)}: simulated accounts never close, so there is no session's end; give a time in `at`"
        raise Malformed((Fault("/atSessionEnd", "NO_SESSION_END", detail),))
    return left_out, named
