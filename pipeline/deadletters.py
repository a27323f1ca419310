"""Dead letters: what an operator may do with an order that is stuck or unknown, and what is refused.

Each act is decided on locked rows and written down with its events and its line of the audit log in one transaction:
killed midway, it was done or it wasn't. The dead letters in the queue follow (`pipeline/letters.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from domain.changes import Change, Result, result_of_end
from domain.commands import CommandKind, CommandState
from domain.errors import NotFound, Refused, StoreAway
from domain.events import EventType, Source, advance
from domain.lifecycle import TERMINAL, UNSENT, OrderState
from domain.orders import Order
from domain.outcomes import BookRow
from domain.settlements import NotTaken, Settlement, Taken
from pipeline.batch import Batch
from pipeline.chain import OUTCOME
from pipeline.changes import finish, give_up_cancel
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.refusals import (
    Case,
    cases_of,
    named,
    refuse_to_discard,
    refuse_to_requeue,
    refuse_to_settle,
    refuse_unless_stopped,
)
from pipeline.stage import announce
from pipeline.stages.persist import apply_row
from pipeline.wayback import WayBack, go_back, way_back
from readmodel.views import moment_text
from store import acts, audit, stuck
from store.acts import Once
from store.stuck import Parking
from store.unit import Unit, is_passing


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who acts, why, and from where: "command", or the API key's id. `once` makes a repeat get the first answer."""

    operator: str
    reason: str
    via: str = "command"
    once: Once | None = None


@dataclass(slots=True)
class Done:
    """What came of an act: by order what was written of it, and what was refused."""

    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    stages: set[str] = field(default_factory=set)  # whose queues hold letters that are not true any more


Act = Callable[[Case, By, Batch], dict[str, Any]]  # raises Refused before it changes anything


def requeue(desk: Desk, order_id: str, by: By) -> dict[str, Any]:
    """Send a stuck order back to its stage; one that was in a call goes on to what came of it.

    Raises NotFound, NotStuck, or MayHaveBeenSent where it would be sent again though a call may have reached the broker.
    """
    return _one(desk, "dlq.requeue", order_id, by, requeue_one)


def discard(desk: Desk, order_id: str, by: By) -> dict[str, Any]:
    """Give a stuck, unsent order up: it becomes REJECTED and frees what it holds. Raises as `requeue`."""
    return _one(desk, "dlq.discard", order_id, by, discard_one)


def park(desk: Desk, order_id: str, by: By, until: datetime | None = None) -> dict[str, Any]:
    """Take a stuck or unknown order out of the operators' list; it stays what it is. Raises NotFound, NotStuck."""

    def act(case: Case, by: By, batch: Batch) -> dict[str, Any]:
        refuse_unless_stopped(case)
        return {"until": until and moment_text(until)}

    def keep(unit: Unit, cases: Sequence[Case]) -> None:
        parkings = [
            Parking(case.order.id, case.command.state, case.command.fence, until, by.operator, by.reason)
            for case in cases
        ]
        stuck.park(unit, parkings, desk.now())

    return _one(desk, "dlq.park", order_id, by, act, keep)


def unpark(desk: Desk, order_id: str, by: By) -> dict[str, Any]:
    """Take it back into the list. Raises NotFound, NotStuck."""

    def act(case: Case, by: By, batch: Batch) -> dict[str, Any]:
        refuse_unless_stopped(case)
        return {}

    def keep(unit: Unit, cases: Sequence[Case]) -> None:
        stuck.unpark(unit, [case.order.id for case in cases])

    return _one(desk, "dlq.unpark", order_id, by, act, keep)


def settle(desk: Desk, order_id: str, by: By, evidence: str, settlement: Settlement) -> dict[str, Any]:
    """Write down what an operator has found of an order whose call nobody knows the end of.

    Raises NotFound, NotUnknown, Contradicted, Malformed, or MayHaveBeenSent: too early to say that it wasn't taken.
    """
    way = way_back(desk)

    def act(case: Case, by: By, batch: Batch) -> dict[str, Any]:
        refuse_to_settle(case, settlement, batch.at, way.proof_at(case.order.broker))
        return _settled(case, by, evidence, settlement, batch, way)

    return _one(desk, "dlq.settle", order_id, by, act)


def act_on(
    desk: Desk,
    name: str,
    order_ids: Sequence[str],
    by: By,
    act: Act,
    *,
    answer: Callable[[Done], dict[str, Any]],
    seqs: Mapping[str, int] | None = None,
    also: Callable[[Unit, Sequence[Case]], None] | None = None,
) -> tuple[dict[str, Any], Done]:
    """Do one act to several orders in one transaction; those that are refused stay as they are.

    Gives the answer, or the one of before where the request's key was used already. Raises KeyReused and StoreAway.
    """
    batch, done = Batch(at=desk.now()), Done()
    try:
        with desk.store.unit() as unit:
            if by.once is not None and (kept := acts.begin(unit, by.once, batch.at)) is not None:
                return {**kept, "replayed": True}, done
            cases = cases_of(unit, order_ids, seqs)
            for order_id in order_ids:
                if order_id not in cases:
                    done.refused[order_id] = NotFound("order", order_id)
            for case in cases.values():
                batch.hold(case.order)
                stage = case.command.stage
                try:
                    told = act(case, by, batch)
                except Refused as refusal:
                    done.refused[case.order.id] = refusal
                    continue
                done.done[case.order.id] = {"orderId": case.order.id, "from": stage, "state": case.order.state, **told}
                done.stages.add(stage)
            given = answer(done)  # raises where a single order is refused, and nothing is kept
            batch.record(unit)
            stuck.forget_burials(unit, list(done.done))
            stuck.unpark(unit, list(done.done))
            if also is not None:
                also(unit, [cases[order_id] for order_id in done.done])
            with unit.together():
                for order_id, told in done.done.items():
                    detail = {"reason": by.reason, "via": by.via, **told}
                    audit.write(unit, batch.at, by.operator, name, order_id, detail)
            if by.once is not None:
                acts.keep(unit, by.once, given)
            crash("deadletters.before_commit")
    except psycopg.OperationalError as error:
        if is_passing(error):
            raise StoreAway("somebody else is at work on it; try again") from error
        raise
    crash("deadletters.after_commit")
    announce(desk, batch)
    return given, done


def _one(
    desk: Desk,
    name: str,
    order_id: str,
    by: By,
    act: Act,
    also: Callable[[Unit, Sequence[Case]], None] | None = None,
) -> dict[str, Any]:
    def answer(done: Done) -> dict[str, Any]:
        for refusal in done.refused.values():
            raise refusal
        return done.done[order_id]

    return act_on(desk, name, [order_id], by, act, answer=answer, also=also)[0]


# What each act does to one order. Nothing is changed before everything was asked.


def requeue_one(case: Case, by: By, batch: Batch) -> dict[str, Any]:
    refuse_to_requeue(case)
    command, order = case.command, case.order
    if case.change is not None:
        return _requeue_change(case, case.change, by, batch)
    # What was in a call goes on to what came of it, which sends again only what was provably not sent.
    stage = command.stage if order.state in UNSENT or command.stage in OUTCOME else "persist"
    command.go_to(stage, batch.at)
    batch.commands.append(command)
    because = {"operator": by.operator, "reason": by.reason, "stage": stage}
    batch.change(order, advance(order, EventType.REQUEUED, Source.OPERATOR, batch.at, because=because))
    batch.wakes.add(stage)
    batch.news.add(order.intent_id)
    return {"stage": stage}


def discard_one(case: Case, by: By, batch: Batch) -> dict[str, Any]:
    refuse_to_discard(case)
    command, order = case.command, case.order
    if case.change is not None:
        return _discard_change(case, case.change, by, batch)
    _reject(order, "DISCARDED", f"given up by {by.operator}: {by.reason}", batch)
    command.finish(command.stage, batch.at)
    batch.commands.append(command)
    return {"state": order.state}


def _requeue_change(case: Case, change: Change, by: By, batch: Batch) -> dict[str, Any]:
    """Back to its first stage, which looks at the order before anything is asked again."""
    command, order, stage = case.command, case.order, case.command.kind.lower()
    command.go_to(stage, batch.at)
    batch.commands.append(command)
    of = {"kind": command.kind, "seq": command.seq}
    because = {"operator": by.operator, "reason": by.reason, "stage": stage, **of}
    batch.change(order, advance(order, EventType.REQUEUED, Source.OPERATOR, batch.at, because=because))
    batch.wakes.add(stage)
    batch.news |= {order.intent_id, change.intent_id}
    return {"stage": stage, **of}


def _discard_change(case: Case, change: Change, by: By, batch: Batch) -> dict[str, Any]:
    """The order lives on as it is, or has ended meanwhile."""
    command, order = case.command, case.order
    given_up = f"given up by {by.operator}: {by.reason}"
    if order.state in TERMINAL:
        finish(order, command, change, result_of_end(order.state, cancel=command.kind is CommandKind.CANCEL), batch)
    else:
        code, source = "DISCARDED", Source.OPERATOR
        give_up_cancel(order, command, change, Result.SKIPPED, batch, code=code, reason=given_up, source=source)
    batch.commands.append(command)
    batch.changes.append(change)
    batch.news.add(change.intent_id)
    return {"state": order.state, "kind": command.kind, "seq": command.seq, "result": change.result}


def _settled(
    case: Case, by: By, evidence: str, settlement: Settlement, batch: Batch, way: WayBack
) -> dict[str, Any]:
    command, order = case.command, case.order
    said = _said(settlement)
    because = {"operator": by.operator, "reason": by.reason, "evidence": evidence, **said}
    batch.change(order, advance(order, EventType.SETTLED, Source.OPERATOR, batch.at, because=because))
    batch.news.add(order.intent_id)
    match settlement:
        case Taken():
            apply_row(order, command, _row_of(settlement, by), Source.OPERATOR, batch)
            if command.state is CommandState.DONE:  # and it is in the batch already
                return {"state": order.state, "evidence": evidence, **said}
            command.finish("notify", batch.at)
        case NotTaken(resend=True):
            why = f"{by.operator} says that {named(order)} has not taken it"
            event = advance(
                order, EventType.NOT_SENT, Source.OPERATOR, batch.at, state=OrderState.RECEIVED, because={"why": why}
            )
            batch.change(order, event)
            go_back(order, command, why, batch, way, retry_after_s=None)
        case NotTaken():
            _reject(order, "NOT_TAKEN", f"{named(order)} has not taken it, says {by.operator}: {by.reason}", batch)
            command.finish("notify", batch.at)
    batch.commands.append(command)
    return {"state": order.state, "evidence": evidence, **said}


def _reject(order: Order, code: str, reason: str, batch: Batch) -> None:
    changes = {"reason_code": code, "reason": reason}
    event = advance(
        order, EventType.REJECTED, Source.OPERATOR, batch.at, state=OrderState.REJECTED, changes=changes
    )
    batch.change(order, event)
    batch.news.add(order.intent_id)


def _said(settlement: Settlement) -> dict[str, Any]:
    match settlement:
        case Taken(broker_order_id=broker_order_id, state=state, filled_quantity=filled, average_price=average):
            figures = {"filled": filled, "average": average and format(average, "f")} if filled else {}
            return {"said": "TAKEN", "brokerOrderId": broker_order_id, "as": state, **figures}
        case NotTaken(resend=resend):
            return {"said": "NOT_TAKEN", "resend": resend}


def _row_of(settlement: Taken, by: By) -> BookRow:
    return BookRow(
        broker_order_id=settlement.broker_order_id,
        tag=None,
        state=settlement.state,
        status=f"settled by {by.operator}",
        quantity=0,
        filled_quantity=settlement.filled_quantity,
        average_price=settlement.average_price,
        message=f"settled by {by.operator}: {by.reason}",
    )
