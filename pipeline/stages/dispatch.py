"""Dispatch: the last gate, the attempt, the call. What came of it is for persist to say."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from domain.commands import Command, CommandState
from domain.events import EventType, Source, advance
from domain.ids import new_id
from domain.lifecycle import OrderState
from domain.orders import Order
from pipeline.batch import Batch
from pipeline.calls import PLACE, Answer, Call, lines_of_calls, make_call
from pipeline.chain import dispatch_stage
from pipeline.desk import Desk
from pipeline.gate import let_through
from pipeline.pump import Pump
from pipeline.settling import settle_answers
from store.attempts import Attempt
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.health import Health
    from brokers.limits import RateBudget


class Dispatcher(Pump[Call]):
    """Places: the lines of one intent and account go together, as many as the broker takes in one call."""

    def __init__(self, desk: Desk, broker: str, budget: RateBudget | None = None, health: Health | None = None) -> None:
        able = desk.adapters[broker].capabilities
        super().__init__(
            desk,
            broker,
            dispatch_stage(broker),
            operation=PLACE,
            slots=able.call_slots,
            lines=able.lines_per_call,
            settle=settle_answers,
            budget=budget,
            health=health,
        )

    def _make(self, call: Call) -> Answer[Call]:
        return make_call(self._desk, self._broker, call, self._health)

    def _attempts(
        self, unit: Unit, claimed: list[Command], held: dict[str, Order], free: int, batch: Batch
    ) -> tuple[list[Call], bool]:
        passed = let_through(unit, self._desk, claimed, held, batch)
        calls = self._prepare(passed, free, batch)
        return calls, sum(len(call.orders) for call in calls) < len(passed)

    def _prepare(self, passed: list[tuple[Command, Order]], free: int, batch: Batch) -> list[Call]:
        """Group what passed into calls and write down their attempts; what finds no slot stays ready."""
        size = self._adapter.capabilities.lines_per_call
        settings = self._desk.settings()
        lease_s = settings.place_timeout_s + settings.lease_margin_s
        lease_until = batch.at + timedelta(seconds=lease_s)
        send_by = time.clock_gettime(time.CLOCK_BOOTTIME) + settings.lease_margin_s
        calls: list[Call] = []
        for account_id, lines in lines_of_calls(passed, lambda one: one[1], lines_per_call=size):
            if len(calls) >= free:
                break
            call_id = new_id()
            for command, order in lines:
                self._start(command, order, call_id, len(lines), lease_until, batch)
            calls.append(
                Call(call_id, account_id, tuple(o for _, o in lines), tuple(c.fence for c, _ in lines), send_by)
            )
        return calls

    def _start(
        self, command: Command, order: Order, call_id: str, lines: int, lease_until: datetime, batch: Batch
    ) -> None:
        command.fence += 1
        command.state, command.lease_until = CommandState.SENDING, lease_until
        batch.commands.append(command)
        because = {"attempt": command.fence, "call": call_id}
        batch.change(
            order,
            advance(order, EventType.SENDING, Source.PIPELINE, batch.at, state=OrderState.SENDING, because=because),
        )
        batch.attempts.append(
            Attempt(
                order_id=order.id,
                number=command.fence,
                call_id=call_id,
                broker=self._broker,
                account_id=order.account_id or "",
                tag=order.broker_tag,
                fence=command.fence,
                request={"lines": lines},
                started_at=batch.at,
                lease_until=lease_until,
            )
        )
