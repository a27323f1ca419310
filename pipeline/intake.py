"""Accepting: intents, their orders, commands and first events, durable before anybody hears of them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from domain.commands import CommandKind
from domain.errors import CoordinatorError, KeyReused, KeySpent, Overloaded, StoreAway
from domain.events import Event, EventType, Source
from domain.groups import GroupPolicy
from domain.ids import broker_tag, new_id
from domain.intents import Acceptance, AcceptedLine, OrderLine, Submission
from domain.lifecycle import OrderState
from domain.orders import Order
from pipeline.admission import Admission
from pipeline.chain import FIRST
from pipeline.crash import crash
from pipeline.desk import Desk
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
        now, settings = self._desk.now(), self._desk.settings()
        drafts: dict[int, tuple[Order, ...]] = {}
        for number, submission in enumerate(submissions):
            seconds = submission.request.max_unsent_sec or settings.max_unsent_s
            installation, send_before = self._desk.environment.installation, now + timedelta(seconds=seconds)
            drafts[number] = make_orders(
                installation, submission, now, send_before, policy_for(self._desk, submission)
            )
        numbers = sorted(drafts, key=lambda number: (submissions[number].user_id, submissions[number].idempotency_key))
        window_until = now + timedelta(seconds=settings.idempotency_window_s)
        made = {
            number: intents.NewIntent(
                id=drafts[number][0].intent_id,
                user_id=submissions[number].user_id,
                key_id=submissions[number].key_id,
                kind=CommandKind.PLACE,
                idempotency_key=submissions[number].idempotency_key,
                fingerprint=submissions[number].fingerprint,
                order_ids=tuple(order.id for order in drafts[number]),
                accepted_at=now,
                window_until=window_until,
            )
            for number in numbers
        }
        guarded = {number: of for number, of in enumerate(submissions) if of.guard is not None}
        if not guarded and self._store_all([(submissions[number], made[number], drafts[number]) for number in numbers], now):
            return {number: _acceptance(drafts[number]) for number in numbers}
        stopped: dict[int, Stopped] = {}
        with self._desk.store.unit() as unit:
            if guarded:
                stopped = hold(unit, guarded, {number: drafts[number][0].intent_id for number in guarded}, now)
                numbers = [number for number in numbers if number not in stopped]
                crash("intake.after_guard")
            new = intents.insert(unit, [made[number] for number in numbers])
            stored = [number for number in numbers if made[number].id in new]
            if stored:
                with unit.together():
                    _insert_orders(unit, [(submissions[number], drafts[number]) for number in stored], now)
            crash("intake.before_commit")
        crash("intake.after_commit")
        if stored:
            self._desk.wakeups.wake(FIRST[CommandKind.PLACE])
        return {number: _acceptance(drafts[number]) for number in stored} | stopped

    def _store_all(
        self, batch: Sequence[tuple[Submission, intents.NewIntent, tuple[Order, ...]]], now: datetime
    ) -> bool:
        """Store all of it in one trip; False, and nothing is stored, where a key isn't new."""
        try:
            with self._desk.store.at_once() as unit:
                intents.insert_all(unit, [intent for _, intent, _ in batch])
                _insert_orders(unit, [(submission, made) for submission, _, made in batch], now)
                crash("intake.before_commit")
        except psycopg.errors.UniqueViolation:
            return False
        crash("intake.after_commit")
        self._desk.wakeups.wake(FIRST[CommandKind.PLACE])
        return True

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


def _insert_orders(unit: Unit, of: Sequence[tuple[Submission, tuple[Order, ...]]], now: datetime) -> None:
    """The orders of intents that are new, with their commands and first events."""
    made = [order for _, drafts in of for order in drafts]
    lines = [line for submission, _ in of for line in submission.request.orders]
    orders.insert(unit, made, now)
    commands.insert_placements(unit, [order.id for order in made], FIRST[CommandKind.PLACE], now)
    orders.append_events(unit, [received(*pair) for pair in zip(made, lines, strict=True)])


def policy_for(desk: Desk, submission: Submission) -> GroupPolicy:
    """What the request says; where it says nothing, what its user has chosen."""
    request = submission.request
    if request.policy is not None or len(request.orders) == 1:
        return request.policy or GroupPolicy.BEST_EFFORT
    chosen = desk.user_settings().get(submission.user_id)
    is_partial = chosen is None or chosen.allow_partial_multi_order
    return GroupPolicy.BEST_EFFORT if is_partial else GroupPolicy.ALL_OR_NONE


def make_orders(
    installation: str,
    submission: Submission,
    now: datetime,
    send_before: datetime,
    policy: GroupPolicy = GroupPolicy.BEST_EFFORT,
) -> tuple[Order, ...]:
    """The orders of a request; they are a group where its lines, by the policy or by what they come after, wait for others."""
    intent_id = new_id()
    lines = submission.request.orders
    is_group = len(lines) > 1 and (
        policy is not GroupPolicy.BEST_EFFORT or any(line.after is not None for line in lines)
    )
    made = []
    for number, line in enumerate(submission.request.orders):
        order_id = new_id()
        made.append(
            Order(
                id=order_id,
                intent_id=intent_id,
                line=number,
                correlation_id=line.correlation_id,
                user_id=submission.user_id,
                instrument=line.instrument,
                side=line.side,
                quantity=line.quantity,
                product=line.product,
                order_type=line.order_type,
                validity=line.validity,
                price=line.price,
                trigger_price=line.trigger_price,
                disclosed_quantity=line.disclosed_quantity,
                market_protection=line.market_protection,
                wanted_broker=line.broker.lower() if line.broker else None,
                wanted_account=line.account,
                strategy=line.strategy,
                tag=line.tag,
                broker_tag=broker_tag(installation, order_id),
                accepted_at=now,
                send_before=send_before,
                policy=policy if is_group else None,
                after=line.after,
            )
        )
    return tuple(made)


def received(order: Order, line: OrderLine) -> Event:
    terms = {
        "instrument": order.instrument,
        "quantity": order.quantity,
        "order_type": order.order_type,
        "validity": order.validity,
        "price": order.price,
        "trigger_price": order.trigger_price,
    }
    detail: dict[str, Any] = {"set": terms, "request": line.model_dump(mode="json", by_alias=True, exclude_none=True)}
    if order.policy is not None:
        detail["policy"] = order.policy
    return Event(order.id, 0, EventType.RECEIVED, None, OrderState.RECEIVED, Source.CLIENT, order.accepted_at, detail)


def _acceptance(made: Sequence[Order]) -> Acceptance:
    lines = tuple(AcceptedLine(order.line, order.correlation_id, order.id) for order in made)
    return Acceptance(made[0].intent_id, made[0].accepted_at, lines)
