"""Dead letters: stuck commands, which an operator lists, looks at, sends back to their stage, or gives up.

The rows are the truth; the stages' `.XQ` queues are the operators' view of them. A letter whose command is not stuck
any more is taken off its queue.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import orjson
import pika.exceptions
from dramatiq.common import xq_name

from domain.commands import Command, CommandState
from domain.errors import NotFound, Refused
from domain.events import EventType, Source, advance
from domain.lifecycle import UNSENT, OrderState
from domain.orders import Order
from pipeline.batch import Batch
from pipeline.chain import OUTCOME, queue_of
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.news import tell
from pipeline.rabbit import open_connection
from store import audit, commands, orders
from store.unit import Unit

log = logging.getLogger(__name__)


class MayHaveBeenSent(Refused):
    """The broker may have this order: evidence has to come first."""

    code: ClassVar[str] = "MAY_HAVE_BEEN_SENT"


class NotStuck(Refused):
    code: ClassVar[str] = "NOT_STUCK"


@dataclass(frozen=True, slots=True)
class StuckItem:
    """A stuck command with what an operator wants to see of its order."""

    order_id: str
    seq: int
    kind: str
    stage: str
    error: str | None
    attempts: int
    deaths: int
    since: datetime
    buried_at: datetime | None
    instrument: str
    side: str
    quantity: int
    broker: str | None
    account: str | None
    state: str


def list_stuck(desk: Desk, stage: str | None = None, *, limit: int = 1_000) -> list[StuckItem]:
    with desk.store.unit() as unit:
        return [StuckItem(*row) for row in commands.stuck(unit, stage, limit)]


def show(desk: Desk, order_id: str) -> dict[str, Any]:
    """The item, its order's events and its broker calls."""
    with desk.store.unit() as unit:
        found = [StuckItem(*row) for row in commands.stuck(unit, None, 10_000) if row[0] == order_id]
        if not found:
            raise NotFound("stuck order", order_id)
        events = orders.events_of(unit, [order_id])
        calls = unit.rows(
            "select number, broker, account_id, started_at, outcome, response, ended_at from attempts"
            " where order_id = %s order by number",
            (order_id,),
        )
    return {
        "item": found[0],
        "events": [{"seq": row[1], "type": row[2], "state": row[4], "detail": row[5]} for row in events],
        "attempts": [
            dict(zip(("number", "broker", "account", "startedAt", "outcome", "response", "endedAt"), call, strict=True))
            for call in calls
        ],
    }


def requeue(desk: Desk, order_id: str, operator: str, reason: str) -> str:
    """Send a stuck command back to its stage; gives the stage.

    Raises NotStuck, or MayHaveBeenSent where it would be sent again and a call of its was not provably left unsent.
    """
    with desk.store.unit() as unit:
        command, order, batch = _stuck(desk, unit, order_id)
        if command.stage not in OUTCOME:  # after the call nothing is sent: what came of it is written down
            _refuse_if_sent(unit, command)
        command.go_to(command.stage, batch.at)
        batch.commands.append(command)
        because = {"operator": operator, "reason": reason, "stage": command.stage}
        batch.change(order, advance(order, EventType.REQUEUED, Source.OPERATOR, batch.at, because=because))
        batch.record(unit)
        commands.forget_burial(unit, order_id, command.seq)
        audit.write(unit, batch.at, operator, "dlq.requeue", order_id, {"reason": reason, "stage": command.stage})
        crash("deadletters.requeue.before_commit")
    desk.wakeups.wake(command.stage, deep=True)
    tell(desk, [order.intent_id])
    clear_letters(desk, command.stage)
    return command.stage


def discard(desk: Desk, order_id: str, operator: str, reason: str) -> str:
    """Give a stuck, unsent order up: it becomes REJECTED and frees what it holds. Gives its stage. Raises as requeue."""
    with desk.store.unit() as unit:
        command, order, batch = _stuck(desk, unit, order_id)
        _refuse_if_sent(unit, command)
        if order.state in UNSENT or order.state is OrderState.SENDING:  # no call of its was taken
            changes = {"reason_code": "DISCARDED", "reason": f"given up by {operator}: {reason}"}
            batch.change(
                order,
                advance(
                    order, EventType.REJECTED, Source.OPERATOR, batch.at, state=OrderState.REJECTED, changes=changes
                ),
            )
        stage = command.stage
        command.finish(stage, batch.at)
        batch.commands.append(command)
        batch.record(unit)
        audit.write(unit, batch.at, operator, "dlq.discard", order_id, {"reason": reason, "stage": stage})
        crash("deadletters.discard.before_commit")
    tell(desk, [order.intent_id])
    clear_letters(desk, stage)
    return stage


def clear_letters(desk: Desk, stage: str) -> int:
    """Take letters off a stage's dead-letter queue whose commands are not stuck any more; gives how many.

    A letter is acknowledged only after its row was looked at; killed midway, all others return to the queue.
    """
    queue = xq_name(queue_of(stage))
    cleared = 0
    try:
        connection = open_connection(desk.environment.queue_url)
    except (pika.exceptions.AMQPError, OSError) as error:
        log.warning("dead letters of %s stay where they are: %s", stage, error or type(error).__name__)
        return 0
    try:
        channel = connection.channel()
        stuck = {item.order_id for item in list_stuck(desk, stage, limit=100_000)}
        for _ in range(channel.queue_declare(queue=queue, passive=True).method.message_count):
            method, _, body = channel.basic_get(queue)
            if method is None or body is None:
                break
            if _order_of(body) not in stuck:
                channel.basic_ack(method.delivery_tag)
                cleared += 1
    except pika.exceptions.AMQPError as error:  # the queue isn't there yet, or the connection was lost midway
        log.warning("dead letters of %s stay where they are: %s", stage, error or type(error).__name__)
    finally:
        if connection.is_open:
            connection.close()  # what was not acknowledged returns to the queue
    return cleared


def _order_of(body: bytes) -> str | None:
    try:
        letter = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return letter.get("orderId") if isinstance(letter, dict) else None


def _stuck(desk: Desk, unit: Unit, order_id: str) -> tuple[Command, Order, Batch]:
    command = commands.lock(unit, [order_id]).get(order_id)
    if command is None:
        raise NotFound("order", order_id)
    if command.state is not CommandState.STUCK:
        raise NotStuck(f"order {order_id} is {command.state} at {command.stage}, not stuck")
    order = orders.lock(unit, [order_id])[order_id]
    batch = Batch(at=desk.now())
    batch.hold(order)
    return command, order, batch


def _refuse_if_sent(unit: Unit, command: Command) -> None:
    rows = unit.rows(
        "select number, outcome from attempts where order_id = %s and outcome is distinct from 'NOT_SENT'"
        " order by number desc limit 1",
        (command.order_id,),
    )
    if rows:
        number, outcome = rows[0]
        raise MayHaveBeenSent(
            f"attempt {number} of order {command.order_id} ended {outcome or 'without an outcome'}:"
            " the broker may have it; settle it with evidence first"
        )
