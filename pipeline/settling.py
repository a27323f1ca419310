"""Settling: dispatch's second step (T2). What calls gave is written down, and with it what persist makes of it.

docs/decisions/0005-outcome-and-state-together.md says why both are one transaction.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import psycopg

from domain.commands import Command
from domain.errors import StoreAway
from domain.orders import Order
from domain.outcomes import Accepted, Outcome, Unknown
from pipeline.batch import Batch
from pipeline.calls import Answer, AnyCall, Call
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.pace import Pace
from pipeline.reports import late_answers
from pipeline.stage import announce
from pipeline.stages import persist
from pipeline.wayback import WayBack, way_back
from store import attempts, commands, orders, reports

log = logging.getLogger(__name__)

GATHER_S = 0.003  # answers that come so close together are written down together
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 2.0

_End = tuple[str, int, Outcome, datetime]  # order id, fence, what came of the call, when
_Judge = Callable[[Order, Command, Outcome, Batch, WayBack], None]
_C = TypeVar("_C", bound=AnyCall)


class Settle(Protocol[_C]):
    """Writes answers down; `known` are their orders as the first step has committed them, or nothing."""

    def __call__(self, desk: Desk, answers: Sequence[Answer[_C]], known: Mapping[str, Order]) -> None: ...


class Settler(Generic[_C]):
    """One thread that writes down the answers of one dispatcher's calls, those that come together at once.

    `busy` says how many calls are under way; `written` is told how many answers have been written down.
    """

    def __init__(
        self, desk: Desk, name: str, busy: Callable[[], int], written: Callable[[int], None], settle: Settle[_C]
    ) -> None:
        self._desk, self._busy, self._written, self._write_down = desk, busy, written, settle
        self._answers: queue.SimpleQueue[Answer[_C] | None] = queue.SimpleQueue()
        self._pace = Pace(GATHER_S)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def hand_over(self, answer: Answer[_C]) -> None:
        self._answers.put(answer)

    def stop(self, timeout_s: float) -> None:
        """Write down what was handed over, and end."""
        self._answers.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (answer := self._answers.get()) is not None:
            began_at = self._pace.keep()
            answers, is_last = self._gather(answer)
            self._settle(answers)
            self._pace.took(began_at)
            if is_last:
                return

    def _gather(self, first: Answer[_C]) -> tuple[list[Answer[_C]], bool]:
        """The answer with those that come within a moment of it, if any calls are under way; and whether to end."""
        answers = [first]
        deadline = time.monotonic() + GATHER_S
        while len(answers) < self._busy():
            try:
                another = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if another is None:
                return answers, True
            answers.append(another)
        return answers, False

    def _settle(self, answers: Sequence[Answer[_C]]) -> None:
        """Tried until the record takes it or the process ends: an outcome is never thrown away."""
        wait_s = RETRY_FIRST_S
        known = {order.id: order for answer in answers for order in answer.call.orders}
        while True:
            try:
                self._write_down(self._desk, answers, known)
                break
            except (StoreAway, psycopg.OperationalError) as error:
                log.warning("outcomes of %d calls wait for the database: %s", len(answers), error)
            except Exception:
                log.exception("outcomes of %d calls could not be written down", len(answers))
                if len(answers) > 1:
                    for answer in answers:
                        self._settle([answer])
                    return
                answers = [unwritable(answers[0])]
            known = {}  # judging changed them, and the record knows nothing of it
            threading.Event().wait(wait_s)
            wait_s = min(RETRY_MAX_S, wait_s * 2)
        self._written(len(answers))


def settle_answers(desk: Desk, answers: Sequence[Answer[Call]], known: Mapping[str, Order]) -> None:
    """Write down outcomes and states in one transaction; where persist can't judge, the outcomes alone, for its next try.

    `known` are the orders as the first step has committed them, so that they need not be read again; or nothing.
    """
    ends = [
        (order.id, fence, outcome, answer.at)
        for answer in answers
        for order, fence, outcome in zip(answer.call.orders, answer.call.fences, answer.outcomes, strict=True)
    ]
    try:
        _write_down(desk, ends, persist.settle, known)
    except (StoreAway, psycopg.OperationalError):
        raise
    except Exception:
        log.exception("%d outcomes are written down now and judged later", len(ends))
        _write_down(desk, ends, _leave_to_persist, {})


def _write_down(desk: Desk, ends: Sequence[_End], settle: _Judge, known: Mapping[str, Order]) -> None:
    outcomes = {order_id: outcome for order_id, _, outcome, _ in ends}
    batch, way = Batch(at=desk.now()), way_back(desk)
    with desk.store.unit() as unit:
        keys = [(order_id, fence, not isinstance(outcome, Unknown)) for order_id, fence, outcome, _ in ends]
        answered = commands.lock_answered(unit, keys)
        held = orders.lock_known(unit, [command.order_id for command in answered], known)
        for command in answered:
            order = held[command.order_id]
            batch.hold(order)
            settle(order, command, outcomes[command.order_id], batch, way)
            batch.commands.append(command)
            batch.news.add(order.intent_id)
        late = [
            (order_id, outcome.broker_order_id)
            for order_id, _, outcome, _ in ends
            if order_id not in held and isinstance(outcome, Accepted)
        ]
        attempts.end(unit, ends)
        reports.insert(unit, late_answers(late), batch.at)
        batch.record(unit)
        crash("dispatch.outcome.before_commit")
    crash("dispatch.outcome.after_commit")
    if late:
        batch.wakes.add("persist")
    announce(desk, batch)


def _leave_to_persist(order: Order, command: Command, outcome: Outcome, batch: Batch, way: WayBack) -> None:
    command.go_to("persist", batch.at)
    batch.wakes.add("persist")


def unwritable(answer: Answer[_C]) -> Answer[_C]:
    """The answer as words: what can't be written down as it is must not keep its slot for ever."""
    return replace(answer, outcomes=tuple(Unknown(f"not to be written down: {told!r}") for told in answer.outcomes))
