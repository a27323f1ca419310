"""Firing: what the leading clock does with schedules when their time has come.

Each is begun under an idempotency key of its own, made from its id: a crash, a second clock or a repeat finds what was
done before and does nothing twice. What could not be begun in time is MISSED, told, and never made up for. None waits for
another: what takes long has a thread to itself, and what has failed comes after what has not.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from domain.cancels import IDS_MAX, CancelFilter, CancelMode, CancelPolicy, CancelRequest, CancelSubmission
from domain.errors import KeySpent, Refused, StoreAway
from domain.market import SIM, has_sessions, session_of
from domain.schedules import Kind, Schedule, ScheduledCancel, State
from domain.squareoff import SquareOff
from pipeline import cancelling, squareoff
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.squareoff import Asked
from store import audit, cancels, intents, schedules
from store.unit import is_passing

log = logging.getLogger(__name__)

AT_ONCE = 4  # threads that carry schedules out
RETRIES_AT_ONCE = 2  # of these, with what has failed before
REST_S, REST_MAX_S = 1.0, 10.0  # of what has failed: twice as long each time
REQUESTS_MAX = 50  # of 10,000 orders each
WAIT_FOR_CANCELS = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class _Done:
    intent_id: str | None
    matched: int | None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    times: int
    rests_until: float  # on the monotonic clock


class Firing:
    """A look now and then, and threads that carry out what is due."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._lock = threading.Lock()
        self._in_hand: dict[tuple[str, int], Schedule] = {}
        self._failed: dict[tuple[str, int], _Failure] = {}

    def look(self) -> None:
        """Carry out what is due, beside the caller: a sweep must not wait for it. Where others are still at it, with one thread more."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < AT_ONCE:
            thread = threading.Thread(target=self._work, name="schedules", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """What is under way has so long to end; nothing more is begun."""
        self._stopping = True
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        try:
            self.fire_due()
        except StoreAway as error:
            log.warning("no schedule is looked at: %s", error)
        except Exception:
            log.exception("schedules could not be looked at; the next look tries again")

    def fire_due(self) -> int:
        """Carry out what is due, one after another; gives how many of them are over now. Raises StoreAway."""
        over = 0
        while (one := self._take()) is not None:
            try:
                over += self._tried(one)
            finally:
                with self._lock:
                    del self._in_hand[one.id, one.part]
        return over

    def _take(self) -> Schedule | None:
        """The next one that nobody here has in hand: those that never failed first, of the others those that have rested."""
        with self._lock:
            if self._stopping:
                return None
            now, clock = self._desk.now(), time.monotonic()
            self._failed = {which: one for which, one in self._failed.items() if one.rests_until > clock - 600}  # or it is over
            resting = [which for which, one in self._failed.items() if one.rests_until > clock]
            retried = len(self._in_hand.keys() & self._failed.keys())
            users = [one.user_id for one in self._in_hand.values()]
            with self._desk.store.unit() as unit:
                one = schedules.due(unit, now, now - WAIT_FOR_CANCELS, but=[*self._in_hand, *self._failed], users=users)
                if one is None and self._failed and retried < RETRIES_AT_ONCE:
                    one = schedules.due(unit, now, now - WAIT_FOR_CANCELS, but=[*self._in_hand, *resting], users=users)
            if one is not None:
                self._in_hand[one.id, one.part] = one
            return one

    def _tried(self, one: Schedule) -> bool:
        """Whether it is over now. What failed rests a while; its failure keeps no other back."""
        which = one.id, one.part
        try:
            is_over = self._fire(one)
        except Exception as error:
            told = {"schedule_id": one.id, "part": one.part}
            if isinstance(error, StoreAway) or is_passing(error):
                log.warning("a schedule was not carried out, and is tried again: %s", error, extra=told)
            else:
                log.exception("a schedule could not be carried out, and is tried again", extra=told)
            with self._lock:
                times = self._failed[which].times + 1 if which in self._failed else 1
                rest_s = min(REST_MAX_S, REST_S * 2.0 ** (times - 1))
                self._failed[which] = _Failure(times, time.monotonic() + rest_s)
            return False
        with self._lock:
            self._failed.pop(which, None)
        return is_over

    def _fire(self, one: Schedule) -> bool:
        now = self._desk.now()
        if one.is_too_late(now):
            with self._desk.store.unit() as unit:
                earlier = intents.find_change(unit, one.user_id, _key(one, 0), now) if one.state is State.FIRING else None
            if earlier is None:
                return self._end(one, State.MISSED, detail=f"not begun within {one.late_by_s} s of its time")
            # A process died after it. What has come since then isn't meant.
            return self._end(one, State.FIRED, intent_id=earlier.intent_id, matched=earlier.answer.get("matched"))
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
            places = {order_id: (key, account) for order_id, key, account in schedules.places_of(unit, one.user_id, order_ids)}
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
