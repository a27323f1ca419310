"""The way back: what follows when an order was provably not taken. It is sent again, or elsewhere, or it ends.

Provably: no byte of the call left, or the broker's own answer documents it, or its book proves the order's absence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

from domain.commands import Command
from domain.events import EventType, Source, advance
from domain.evidence import IST
from domain.lifecycle import OrderState
from domain.orders import Order, Product, Side
from domain.settings import UserSettings
from pipeline.batch import Batch
from pipeline.chain import NOT_TAKEN, dispatch_stage
from pipeline.desk import Desk

RESEND_FIRST_S, RESEND_MAX_S = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class WayBack:
    """What the settings in force allow, and how long an absence takes to be proven."""

    failover: bool = False  # brokerFailoverEnabled
    users: Mapping[str, UserSettings] = field(default_factory=dict)
    proof: timedelta = timedelta(seconds=60)
    proof_of: Mapping[str, timedelta] = field(default_factory=dict)  # by broker, where it differs

    def proof_at(self, broker: str | None) -> timedelta:
        return self.proof_of.get(broker or "", self.proof)

    def retries(self, order: Order) -> bool:
        """Whether its user wants it sent again (autoRetryOnNetworkFailure)."""
        return self.users.get(order.user_id, UserSettings()).auto_retry_on_network_failure


def way_back(desk: Desk) -> WayBack:
    settings = desk.settings()
    return WayBack(
        failover=settings.broker_failover_enabled,
        users=desk.directory().user_settings,
        proof=timedelta(seconds=settings.proof_s),
        proof_of={broker: timedelta(seconds=seconds) for broker, seconds in settings.broker_proof_s.items()},
    )


def may_go_elsewhere(order: Order) -> bool:
    """Whether another broker may be asked: only for what adds exposure, and where the client named neither broker nor account.

    A delivery purchase surely adds. Anything else may be an exit, and an exit at another broker opens a position. A
    slice stays with its parent.
    """
    is_named = order.wanted_broker is not None or order.wanted_account is not None
    return order.side is Side.BUY and order.product is Product.CNC and not is_named and order.parent_id is None


def go_back(order: Order, command: Command, why: str, batch: Batch, way: WayBack, *, retry_after_s: float | None) -> None:
    """Say what follows for an order that was not taken; it is RECEIVED again when this is called."""
    if order.cancel_requested:
        cancelled = {"reason_code": "CANCELLED_UNSENT", "reason": "cancelled before it was sent"}
        ended = advance(
            order,
            EventType.CANCELLED,
            Source.PIPELINE,
            batch.at,
            state=OrderState.CANCELLED,
            changes=cancelled,
            because={"why": why},
        )
        batch.change(order, ended)
        command.finish("notify", batch.at)
        return
    if not way.retries(order):
        reason = f"not sent to {(order.broker or '').upper()}: {why}; your settings want no automatic retry"
        changes = {"reason_code": "NOT_SENT", "reason": reason}
        event = advance(
            order, EventType.REJECTED, Source.PIPELINE, batch.at, state=OrderState.REJECTED, changes=changes
        )
        batch.change(order, event)
        command.finish("notify", batch.at)
        return
    wait_s = retry_after_s or min(RESEND_MAX_S, RESEND_FIRST_S * 2 ** min(command.fence - 1, 10))
    # No later than its limit, at which it is refused: however long the broker wants to be left alone.
    due_at = min(batch.at + timedelta(seconds=wait_s), max(batch.at, order.send_before))
    elsewhere = way.failover and retry_after_s is None and may_go_elsewhere(order)
    stage = NOT_TAKEN if elsewhere else dispatch_stage(order.broker or "")
    if elsewhere and order.account_id is not None:
        # Should the call turn up in that book all the same, it is seen, until the book's day is over.
        batch.watches[order.account_id] = day_end(batch.at)
    command.go_to(stage, due_at)
    batch.wake_in(stage, wait_s)


def day_end(moment: datetime) -> datetime:
    """The end of the Indian day, when brokers' books end."""
    tomorrow = moment.astimezone(IST).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(), IST)
