"""Schedules: cancels at a time or before a session ends, written down by the door and carried out by the clock.

Each is begun under an idempotency key of its own, made from its id: a crash, a second clock or a repeat finds what was
done before and does nothing twice. What could not be begun in time is MISSED, told, and never made up for.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.cancels import IDS_MAX, CancelFilter, CancelMode, CancelPolicy, CancelRequest, CancelSubmission, check
from domain.errors import (
    Fault,
    KeyReused,
    KeySpent,
    Malformed,
    NotFound,
    Refused,
    ScheduleOver,
    SoftCancelDisabled,
    StoreAway,
)
from domain.ids import new_id
from domain.instruments import Instrument
from domain.market import SIM, has_sessions, session_of
from domain.schedules import LATE_BY_S, Kind, Schedule, ScheduledCancel, State, a_schedule, times_of
from domain.squareoff import SquareOff
from pipeline import cancelling, squareoff
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.squareoff import Asked
from store import acts, audit, cancels, intents, schedules
from store.acts import Once
from store.unit import Unit

log = logging.getLogger(__name__)

AT_ONCE = 20  # schedules that are begun in one look
REQUESTS_MAX = 50  # of 10,000 orders each
WAIT_FOR_CANCELS = timedelta(seconds=60)

Document = dict[str, Any]


def accept(desk: Desk, asked: Asked, wanted: ScheduledCancel) -> Document:
    """Write a scheduled cancel down; the same answer to the same key.

    Raises Malformed, SoftCancelDisabled, KeyReused, or StoreAway, after which the same key is safe to use again.
    """
    now, request = desk.now(), check(wanted.now())
    if request.mode is CancelMode.SOFT and not desk.settings().async_cancel_enabled:
        raise SoftCancelDisabled("soft cancels are switched off here; ask for a HARD one")
    once = Once(asked.user_id, asked.idempotency_key, asked.fingerprint)
    with desk.store.unit() as unit:
        if (kept := acts.begin(unit, once, now)) is not None:
            return {**kept, "replayed": True}
        if intents.known(unit, [(asked.user_id, asked.idempotency_key)]):
            raise KeyReused("this Idempotency-Key came with another request before; use a new key")
        if faults := tuple(wanted.find_faults(now)):
            raise Malformed(faults)
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
        places = schedules.places_of(unit, request.order_ids or ())
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


@dataclass(frozen=True, slots=True)
class _Done:
    intent_id: str | None
    matched: int | None
    detail: str | None = None


class Schedules:
    """What the leading clock has of them: a look now and then, and a thread that carries out what is due."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Carry out what is due, beside the caller; nothing where that is still going on. A sweep must not wait for it."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="schedules", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            self.fire_due()
        except StoreAway as error:
            log.warning("no schedule is looked at: %s", error)
        except Exception:
            log.exception("schedules could not be carried out; the next look tries again")

    def fire_due(self) -> int:
        """Carry out what is due; gives how many of them are over now. Raises StoreAway."""
        with self._desk.store.unit() as unit:
            due = schedules.due(unit, self._desk.now(), limit=AT_ONCE)
        return sum(self._fire(one) for one in due)

    def _fire(self, one: Schedule) -> bool:
        now = self._desk.now()
        with self._desk.store.unit() as unit:
            earlier = intents.find_change(unit, one.user_id, _key(one, 0), now) if one.state is State.FIRING else None
            waits = one.waits_for is not None and schedules.has_work_under_way(unit, one.waits_for)
        if one.is_too_late(now):
            if earlier is None:
                return self._end(one, State.MISSED, detail=f"not begun within {one.late_by_s} s of its time")
            # A process died after it. What has come since then isn't meant.
            return self._end(one, State.FIRED, intent_id=earlier.intent_id, matched=earlier.answer.get("matched"))
        if waits and now < one.due_at + WAIT_FOR_CANCELS:
            return False
        with self._desk.store.unit() as unit:
            begun = schedules.begin(unit, one)
            crash("schedules.begin.before_commit")
        if not begun:
            return False
        crash("schedules.begin.after_commit")
        try:
            done = self._square_off(one) if one.kind is Kind.SQUARE_OFF else self._cancel(one)
        except Refused as error:
            return self._end(one, State.FAILED, detail=f"{error.code}: {error}")
        except StoreAway:
            raise
        except Exception:
            log.exception("a schedule could not be carried out; the next look tries again", extra={"schedule_id": one.id})
            return False
        crash("schedules.carried_out")
        return self._end(one, State.FIRED, detail=done.detail, intent_id=done.intent_id, matched=done.matched)

    def _end(self, one: Schedule, state: State, **came_of_it: Any) -> bool:
        now = self._desk.now()
        with self._desk.store.unit() as unit:
            ended = schedules.end(unit, one, state, now, **came_of_it)
            if ended:
                told = {"part": one.part, "dueAt": one.due_at.isoformat(), **came_of_it}
                audit.write(unit, now, "clock", f"schedule.{state.lower()}", one.id, told)
            crash("schedules.end.before_commit")
        if ended:
            level = logging.INFO if state is State.FIRED else logging.ERROR
            log.log(level, "a schedule is %s", state, extra={"schedule_id": one.id, "part": one.part, **came_of_it})
        return ended

    def _cancel(self, one: Schedule) -> _Done:
        request = ScheduledCancel.model_validate(one.wanted).now()
        is_soft = request.mode is CancelMode.SOFT and self._desk.settings().async_cancel_enabled
        done = _Done(None, 0)
        for number, order_ids in enumerate(self._requests(one, request)):
            submission = CancelSubmission(
                user_id=one.user_id,
                key_id=one.key_id,
                idempotency_key=_key(one, number),
                fingerprint=_fingerprint(one, number),
                request=CancelRequest(
                    order_ids=tuple(order_ids),
                    mode=CancelMode.SOFT if is_soft else CancelMode.HARD,
                    policy=CancelPolicy.BEST_EFFORT,
                ),
                reason=f"cancelled by schedule {one.id}",
            )
            try:
                accepted = cancelling.accept(self._desk, submission)
            except KeySpent as spent:  # before a crash, and all of it is over
                done = _Done(done.intent_id or spent.intent_id, None)
                continue
            matched = None if done.matched is None else done.matched + accepted.matched
            more = "its orders are those of several intents" if number else None
            done = _Done(done.intent_id or accepted.intent_id, matched, more)
        return done

    def _requests(self, one: Schedule, request: CancelRequest) -> Iterator[list[str]]:
        """The ids of the orders that are meant now, as many at a time as one request takes.

        Orders that are being cancelled already are not meant: where an earlier process got as far as that, its requests
        are found by their keys, and what it left comes after them.
        """
        if request.filter is None:
            if order_ids := self._of_sessions(one, request.order_ids or (), keep_unknown=one.part == 0):
                yield order_ids
            return
        for number in range(REQUESTS_MAX):
            order_ids = self._meant(one, request.filter)
            if not order_ids:
                with self._desk.store.unit() as unit:
                    if not intents.known(unit, [(one.user_id, _key(one, number))]):
                        return
                order_ids = [one.id]  # an earlier request, which is answered by its key
            yield order_ids

    def _meant(self, one: Schedule, wanted: CancelFilter) -> list[str]:
        found: list[str] = []
        after = None
        while len(found) < IDS_MAX:
            with self._desk.store.unit() as unit:
                _, rows = cancels.page_of(unit, one.user_id, wanted, limit=IDS_MAX, after=after)
            found += self._of_sessions(one, [row.order_id for row in rows])
            if len(rows) < IDS_MAX:
                break
            after = rows[-1].order_id
        return found[:IDS_MAX]

    def _of_sessions(self, one: Schedule, order_ids: Sequence[str], *, keep_unknown: bool = False) -> list[str]:
        """Those of the orders whose instruments' sessions are meant; simulated accounts have none."""
        if one.sessions is None or not order_ids:
            return list(order_ids)
        instruments, accounts = self._desk.instruments(), self._desk.directory().by_id
        with self._desk.store.unit() as unit:
            places = {order_id: (key, account) for order_id, key, account in schedules.places_of(unit, order_ids)}
        kept = []
        for order_id in order_ids:
            if order_id not in places:
                kept += [order_id] if keep_unknown else []
                continue
            key, account_id = places[order_id]
            instrument, account = instruments.get(key), accounts.get(account_id or "")
            if instrument is None or not has_sessions(instrument) or (account is not None and account.calendar == SIM):
                continue
            if session_of(instrument) in one.sessions:
                kept.append(order_id)
        return kept

    def _square_off(self, one: Schedule) -> _Done:
        asked = Asked(one.user_id, one.key_id, _key(one, 0), _fingerprint(one, 0))
        try:
            answer = squareoff.accept(self._desk, asked, SquareOff.model_validate(one.wanted))
        except KeySpent as spent:
            return _Done(spent.intent_id, None)
        left = "; ".join(f"{rest['quantity']} {rest['instrument']} of {rest['account']} stays: {rest['why']}" for rest in answer.left)
        return _Done(answer.intent_id, len(answer.orders), left or None)


def _key(one: Schedule, number: int) -> str:
    return f"{one.key}-{number}"


def _fingerprint(one: Schedule, number: int) -> bytes:
    """Of what is done under the key, whatever its orders are when it is done."""
    return hashlib.sha256(_key(one, number).encode()).digest()
