"""Accepting: intents, their orders, commands and first events, durable before anybody hears of them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from domain.commands import CommandKind
from domain.errors import CoordinatorError, KeyReused, KeySpent, Overloaded, StoreAway
from domain.intents import Acceptance, AcceptedLine, Submission
from domain.orders import Order
from pipeline.admission import Admission
from pipeline.chain import FIRST
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.drafting import make_orders, policy_for, received
from pipeline.guards import Stopped, hold
from pipeline.pace import Pace
from store import commands, intents, orders
from store.unit import Unit

log = logging.getLogger(__name__)

WAITING_MAX = 250  # submissions in the hands of one process; more are refused at once
LINES_PER_UNIT = 400
PACE_S = 0.006
_FULL = Overloaded("too many requests wait to be written down")


@dataclass(slots=True)
class _Waiting:
    submission: Submission
    answer: Future[Acceptance]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A submission as it would be stored."""

    submission: Submission
    intent: intents.NewIntent
    orders: tuple[Order, ...]


class Intake:
    """Writes submissions down, those that wait together in one transaction; one thread a process."""

    def __init__(self, desk: Desk, admission: Admission | None = None) -> None:
        self._desk = desk
        self._admission = admission
        self._pace = Pace(PACE_S)
        self._stopping = False
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="intake", daemon=True)
        self._thread.start()

    def refuse(self) -> Overloaded | None:
        """Why nothing new would be written down at this moment, or None; what is known already is answered as ever."""
        if self._waiting.qsize() >= WAITING_MAX:
            return _FULL
        return self._admission.refuse() if self._admission is not None else None

    def submit(self, submission: Submission) -> Future[Acceptance]:
        """The durable acceptance, or the one given before under the same key.

        The future raises KeyReused, KeySpent, Overloaded or StoreAway; after StoreAway the same key is safe to use
        again, whether the intent was stored or not.
        """
        answer: Future[Acceptance] = Future()
        if self._stopping:
            answer.set_exception(Overloaded("this process is stopping"))
        elif self._waiting.qsize() >= WAITING_MAX:
            answer.set_exception(Overloaded(_FULL.args[0]))
        else:
            self._waiting.put(_Waiting(submission, answer))
        return answer

    def stop(self) -> None:
        """Write down what was submitted, and end."""
        self._stopping = True
        self._waiting.put(None)
        self._thread.join(5.0)
        while not self._waiting.empty():  # came in while this was being said
            if (waiting := self._waiting.get()) is not None:
                waiting.answer.set_exception(Overloaded("this process is stopping"))

    def _work(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            began_at = self._pace.keep()
            batch, lines = [first], len(first.submission.request.orders)
            stop = False
            while lines < LINES_PER_UNIT and not self._waiting.empty():
                another = self._waiting.get()
                if another is None:
                    stop = True
                    break
                batch.append(another)
                lines += len(another.submission.request.orders)
            self._accept([waiting for waiting in batch if waiting.answer.set_running_or_notify_cancel()])
            self._pace.took(began_at)
            if stop:
                return

    def _accept(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            answers = self._written(batch)
        except CoordinatorError as error:
            for waiting in batch:
                waiting.answer.set_exception(error)
        except Exception as error:
            if len(batch) > 1:
                log.warning("a batch of %d intents failed, each is tried alone: %s", len(batch), error)
                for waiting in batch:
                    self._accept([waiting])
                return
            log.exception("an intent could not be written down")
            is_passing = isinstance(error, psycopg.OperationalError)  # a lock that wasn't had in time, a deadlock
            batch[0].answer.set_exception(StoreAway("the database is busy") if is_passing else error)
        else:
            for waiting, answer in zip(batch, answers, strict=True):
                if isinstance(answer, CoordinatorError):
                    waiting.answer.set_exception(answer)
                else:
                    waiting.answer.set_result(answer)

    def _written(self, batch: Sequence[_Waiting]) -> list[Acceptance | CoordinatorError]:
        refusal = self._admission.refuse() if self._admission is not None else None
        submissions = [waiting.submission for waiting in batch]
        if refusal is not None:
            return self._replays_only(submissions, refusal)
        fresh = self._store(submissions)
        return [
            fresh[number] if number in fresh else self._kept(submission) for number, submission in enumerate(submissions)
        ]

    def _replays_only(
        self, submissions: Sequence[Submission], refusal: Overloaded
    ) -> list[Acceptance | CoordinatorError]:
        """While nothing new is let in: what is known already is answered as ever, in one look for all of them."""
        with self._desk.store.unit() as unit:
            known = intents.known(unit, [(submission.user_id, submission.idempotency_key) for submission in submissions])
        return [
            self._kept(submission) if (submission.user_id, submission.idempotency_key) in known else refusal
            for submission in submissions
        ]

    def _store(self, submissions: Sequence[Submission]) -> dict[int, Stopped]:
        """Store what is new; gives the acceptances of these by their place in the batch, and what stopped signals."""
        now = self._desk.now()
        drafts = {number: self._draft(submission, now) for number, submission in enumerate(submissions)}
        # Two batches that share keys wait for each other in one direction only.
        wanted = sorted(drafts, key=lambda number: (submissions[number].user_id, submissions[number].idempotency_key))
        guarded = {number: of for number, of in enumerate(submissions) if of.guard is not None}
        if not guarded and self._store_all([drafts[number] for number in wanted], now):
            return {number: _acceptance(draft.orders) for number, draft in drafts.items()}
        stopped: dict[int, Stopped] = {}
        with self._desk.store.unit() as unit:
            if guarded:
                stopped = hold(unit, guarded, {number: drafts[number].intent.id for number in guarded}, now)
                wanted = [number for number in wanted if number not in stopped]
                crash("intake.after_guard")
            new = intents.insert(unit, [drafts[number].intent for number in wanted])
            stored = [number for number in wanted if drafts[number].intent.id in new]
            if stored:
                with unit.together():
                    _insert_orders(unit, [drafts[number] for number in stored], now)
            crash("intake.before_commit")
        crash("intake.after_commit")
        if stored:
            self._desk.wakeups.wake(FIRST[CommandKind.PLACE])
        return {number: _acceptance(drafts[number].orders) for number in stored} | stopped

    def _store_all(self, drafts: Sequence[_Draft], now: datetime) -> bool:
        """Store all of it in one round trip; False, and nothing is stored, where one's key isn't new."""
        try:
            with self._desk.store.at_once() as unit:
                intents.insert_all(unit, [draft.intent for draft in drafts])
                _insert_orders(unit, drafts, now)
                crash("intake.before_commit")
        except psycopg.errors.UniqueViolation:
            return False
        crash("intake.after_commit")
        self._desk.wakeups.wake(FIRST[CommandKind.PLACE])
        return True

    def _draft(self, submission: Submission, now: datetime) -> _Draft:
        settings, installation = self._desk.settings(), self._desk.environment.installation
        send_before = now + timedelta(seconds=submission.request.max_unsent_sec or settings.max_unsent_s)
        made = make_orders(installation, submission, now, send_before, policy_for(self._desk, submission))
        intent = intents.NewIntent(
            id=made[0].intent_id,
            user_id=submission.user_id,
            key_id=submission.key_id,
            kind=CommandKind.PLACE,
            idempotency_key=submission.idempotency_key,
            fingerprint=submission.fingerprint,
            order_ids=tuple(order.id for order in made),
            accepted_at=now,
            window_until=now + timedelta(seconds=settings.idempotency_window_s),
        )
        return _Draft(submission, intent, made)

    def _kept(self, submission: Submission) -> Acceptance | CoordinatorError:
        """What the key stands for already."""
        with self._desk.store.unit() as unit:
            kept = intents.find(unit, submission.user_id, submission.idempotency_key, self._desk.now())
        if kept is None:
            return StoreAway("another request with this key was just given up; send it again")
        if kept.fingerprint != submission.fingerprint:
            return KeyReused("this Idempotency-Key came with another request before; use a new key")
        if not kept.live:
            return KeySpent(kept.acceptance.intent_id)
        return kept.acceptance


def _insert_orders(unit: Unit, drafts: Sequence[_Draft], now: datetime) -> None:
    """The orders of intents that are new, with their commands and first events."""
    made = [order for draft in drafts for order in draft.orders]
    lines = [line for draft in drafts for line in draft.submission.request.orders]
    orders.insert(unit, made, now)
    commands.insert_placements(unit, [order.id for order in made], FIRST[CommandKind.PLACE], now)
    orders.append_events(unit, [received(*pair) for pair in zip(made, lines, strict=True)])


def _acceptance(made: Sequence[Order]) -> Acceptance:
    lines = tuple(AcceptedLine(order.line, order.correlation_id, order.id) for order in made)
    return Acceptance(made[0].intent_id, made[0].accepted_at, lines)
